// What the cases share: requests as a backend makes them, the page in a browser, and waiting for what it shows.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

export const apiUrl = process.env.TRIGGER_API_URL;
const secretKey = process.env.TRIGGER_SECRET_KEY;

/** A name that no other case uses. */
export const unique = (prefix) => `${prefix}-${randomUUID().slice(0, 8)}`;

/** A request with the secret key, which never comes to the page. */
export async function http(method, path, body) {
  const headers = { authorization: `Bearer ${secretKey}`, "content-type": "application/json" };
  const answer = await fetch(apiUrl + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
  return JSON.parse(text);
}

/** A public token, as a backend gives one to its pages. */
export const publicToken = async (scopes, more = {}) => (await http("POST", "/api/v1/auth/public-tokens", { scopes, ...more })).token;

/** The id of a new run. */
export const trigger = async (task, payload, options = {}) =>
  (await http("POST", `/api/v1/tasks/${task}/trigger`, { payload, options })).id;

/** The id of a new batch. */
export const batch = async (items) => (await http("POST", "/api/v2/tasks/batch", { items })).id;

export const retrieve = (run) => http("GET", `/api/v3/runs/${run}`);

/** The first answer of `probe` that is neither undefined nor false. */
export async function eventually(what, probe, withinMs = 20_000) {
  const deadline = Date.now() + withinMs;
  let last;
  for (;;) {
    const found = await probe((seen) => (last = seen));
    if (found !== undefined && found !== false) return found;
    assert.ok(Date.now() < deadline, `not within ${withinMs} ms: ${what}; last seen: ${JSON.stringify(last)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css" };

/** Serves the built page; the address of it. Another origin than the API's, as pages are. */
export async function servePage(folder) {
  const server = createServer(async (request, answer) => {
    const path = normalize(new URL(request.url, "http://page").pathname).replace(/\/$/, "/index.html");
    try {
      const bytes = await readFile(join(folder, path));
      answer.writeHead(200, { "content-type": TYPES[extname(path)] ?? "application/octet-stream" }).end(bytes);
    } catch {
      answer.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${server.address().port}/`;
}

/** A page with these cards, in a browser profile of its own. */
export class Page {
  static async open(browser, address, cards, { token = "nothing-yet", api = apiUrl, shownUrl, ...context } = {}) {
    const profile = await browser.newContext(context);
    const page = await profile.newPage();
    const opened = new Page(profile, page);
    page.on("console", (message) => opened.console.push(message.text()));
    await page.goto(`${address}#${encodeURIComponent(JSON.stringify({ apiUrl: api, shownUrl, token, cards }))}`);
    return opened;
  }

  constructor(profile, page) {
    Object.assign(this, { profile, page, console: [] });
  }

  card = (hook, place = 0) => this.page.locator(`[data-hook="${hook}"]`).nth(place);

  /** What a card shows under a name, as a text; undefined if there is no such thing. */
  async shown(hook, name, place = 0) {
    const found = this.card(hook, place).locator(`[data-is="${name}"]`);
    return (await found.count()) ? (await found.allTextContents()).join("|") : undefined;
  }

  /** Waits until a card shows this. */
  shows = (hook, name, expected, { place = 0, withinMs } = {}) =>
    eventually(
      `${hook} shows ${name}: ${expected}`,
      async (saw) => {
        const shown = await this.shown(hook, name, place);
        saw([shown, await this.alert(hook, place)]);
        return expected instanceof RegExp ? expected.test(shown ?? "") : shown === expected;
      },
      withinMs
    );

  async alert(hook, place = 0) {
    const found = this.card(hook, place).locator("[role=alert]");
    return (await found.count()) ? found.first().textContent() : undefined;
  }

  /** Waits until a card shows an error that is like this. */
  refuses = (hook, like) => eventually(`${hook} shows an error`, async () => this.alert(hook).then((text) => text !== undefined && (assert.match(text, like), true)));

  press = (hook, name) => this.card(hook).getByRole("button", { name }).click();

  /** Sends a note with `useInputStreamSend`. */
  async say(note) {
    await this.card("useInputStreamSend").getByRole("textbox").fill(note);
    await this.press("useInputStreamSend", "Send");
  }

  close = () => this.profile.close();
}
