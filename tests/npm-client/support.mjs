// What the cases share: plain HTTP, errors, waiting, and a proxy that breaks connections.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import net from "node:net";

import { TriggerClient, auth, runs } from "@trigger.dev/sdk";

export const apiUrl = process.env.TRIGGER_API_URL;
export const secretKey = process.env.TRIGGER_SECRET_KEY;
export const project = process.env.PROJECT_REF;
/** The key of another environment of the same server. */
export const otherKey = process.env.OTHER_SECRET_KEY;

/** A name that no other case uses. */
export const unique = (prefix = "case") => `${prefix}-${randomUUID().slice(0, 13)}`;

/** A request as anyone can make it, without the client: {status, headers, body}, the body parsed if it is JSON. */
export async function http(method, path, { body, key = secretKey, headers = {}, base = apiUrl } = {}) {
  const init = { method, headers: { ...headers } };
  if (key) init.headers.authorization = `Bearer ${key}`;
  if (body !== undefined) {
    init.body = typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body);
    init.headers["content-type"] ??= "application/json";
  }
  const answer = await fetch(path.startsWith("http") ? path : base + path, init);
  const text = await answer.text();
  let parsed = text;
  try {
    parsed = JSON.parse(text);
  } catch {
    // It is shown as it is.
  }
  return { status: answer.status, headers: answer.headers, body: parsed, text };
}

/** Asserts that a call of the client is refused with this HTTP status, and returns the error. */
export async function refused(status, call) {
  let error;
  try {
    await call();
  } catch (thrown) {
    error = thrown;
  }
  assert.ok(error, `nothing was thrown; ${status} was expected`);
  assert.equal(error.status, status, `${error.name}: ${error.message}`);
  return error;
}

/** The run once it is final. */
export const finished = (run) => runs.poll(run, { pollIntervalMs: 100 });

/** The first answer of `probe` that is not undefined. */
export async function eventually(what, probe, withinMs = 20_000) {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const found = await probe();
    if (found !== undefined) return found;
    assert.ok(Date.now() < deadline, `not within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** The run once it has this status. */
export const withStatus = (id, status) =>
  eventually(`${id} is ${status}`, async () => {
    const run = await runs.retrieve(id);
    return run.status === status ? run : undefined;
  });

/** All entries of a list that is read page by page. */
export async function all(pages) {
  const entries = [];
  for await (const entry of pages) entries.push(entry);
  return entries;
}

/** Does something with another key or public token. */
export const as = (accessToken, call) => auth.withAuth({ accessToken }, call);

/**
 * A proxy before the server. `faults` says what becomes of each connection in turn, and undefined that nothing does: "refuse" ends it
 * at once, "swallow" lets the request through and ends it when the answer comes, "halve" ends it after some bytes of the request.
 */
export async function proxied(faults, call) {
  const target = new URL(apiUrl);
  let connections = 0;
  const server = net.createServer((client) => {
    const fault = faults[connections++];
    client.on("error", () => {});
    if (fault === "refuse") return client.destroy();
    const upstream = net.connect(Number(target.port), target.hostname);
    upstream.on("error", () => client.destroy());
    client.on("close", () => upstream.destroy());
    upstream.on("close", () => client.destroy());
    let sent = 0;
    client.on("data", (bytes) => {
      sent += bytes.length;
      if (fault === "halve" && sent > 2_000) return client.destroy();
      upstream.write(bytes);
    });
    upstream.on("data", (bytes) => (fault === "swallow" ? client.destroy() : client.write(bytes)));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const baseURL = `http://127.0.0.1:${server.address().port}`;
  try {
    const client = new TriggerClient({ baseURL, accessToken: secretKey });
    const came = await auth.withAuth({ baseURL, accessToken: secretKey }, () => call({ client, baseURL }));
    return { came, connections: () => connections };
  } finally {
    server.close();
  }
}
