// Builds the page, opens it in a browser for each case of cases.mjs against the server of TRIGGER_API_URL, and prints a line of JSON
// for each: {hook, name, ok, ms, error?}. {"kill": true} asks whoever started this to kill the server and to start it again; the last
// line, {exported: […]}, names the hooks of the installed package.
//
//   node run.mjs CHROMIUM [TEXT]   only cases whose hook or name contains the text
//
// TLS is a folder with the certificate and key of the proxy that some cases stand behind.
// With SCREENSHOT, the path of a picture, it takes that instead: see picture.mjs.

import * as hooks from "@trigger.dev/react-hooks";
import { chromium } from "playwright-core";
import { build } from "vite";

import { cases, survives } from "./cases.mjs";
import { picture } from "./picture.mjs";
import { proxy } from "./proxy.mjs";
import { Page, apiUrl, servePage } from "./support.mjs";

const AT_ONCE = 3;
const LIMIT_MS = 30_000;
/** No requests but the page's own, and no profile that is there before. */
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

const [executablePath, wanted = ""] = process.argv.slice(2);
const print = (line) => process.stdout.write(JSON.stringify(line) + "\n");

const folder = new URL(".", import.meta.url).pathname;
const [browser] = await Promise.all([chromium.launch({ executablePath, args: FLAGS }), build({ root: folder })]);
const address = await servePage(`${folder}/dist`);
const proxied = await proxy(apiUrl, process.env.TLS);

async function run(hook, name, body, limitMs = LIMIT_MS) {
  const begun = performance.now();
  const pages = [];
  const open = async (...what) => {
    pages.push(await Page.open(browser, address, ...what));
    return pages.at(-1);
  };
  let timer, error;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end after ${limitMs} ms`)), limitMs);
  });
  try {
    await Promise.race([body({ open, proxied, kill: () => print({ kill: true }) }), late]);
  } catch (thrown) {
    const place = /cases\.mjs:\d+/.exec(thrown.stack ?? "")?.[0];
    const said = pages.flatMap(({ console }) => console).slice(-4);
    error = `${thrown.message} (${place}); console: ${JSON.stringify(said)}`;
  }
  clearTimeout(timer);
  await Promise.all(pages.map((page) => page.close()));
  print({ hook, name, ok: error === undefined, ms: Math.round(performance.now() - begun), error });
}

if (process.env.SCREENSHOT) {
  await picture((...what) => Page.open(browser, address, ...what), proxied, process.env.SCREENSHOT);
} else {
  const queue = Object.entries(cases).flatMap(([hook, named]) => Object.entries(named).map(([name, body]) => [hook, name, body]));
  const chosen = queue.filter(([hook, name]) => `${hook} ${name}`.includes(wanted));
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let next = chosen.shift(); next; next = chosen.shift()) await run(...next);
    })
  );
  if (!wanted || "survives".includes(wanted)) await run("all that follow", "go on by themselves when the server is killed", survives, 90_000);
  print({ exported: Object.keys(hooks).filter((name) => /^use[A-Z]/.test(name) && !/SWR|Context/.test(name)) });
}
await browser.close();
process.exit(0);
