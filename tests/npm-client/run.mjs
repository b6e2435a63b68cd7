// Runs the cases of cases/ against the server of TRIGGER_API_URL, each with its own limit of time, and prints one line of JSON for
// each: {function, name, ok, ms, error?}. At the end a line {surface: […]} with what surface.mjs says of every function of the client,
// and {unlisted: […]} with the functions that the installed package has and surface.mjs does not know.
//
//   node run.mjs [TEXT]   only cases whose function or name contains the text

import { readdir } from "node:fs/promises";

import { registered } from "./cases.mjs";
import { surface, unlisted } from "./surface.mjs";

const AT_ONCE = 4;
const LIMIT_MS = 60_000;

for (const file of (await readdir(new URL("cases/", import.meta.url))).sort()) {
  await import(`./cases/${file}`);
}

const wanted = process.argv[2] ?? "";
const cases = registered.filter(({ function: of, name }) => `${of} ${name}`.includes(wanted));
const print = (line) => process.stdout.write(JSON.stringify(line) + "\n");

async function run({ function: of, name, limitMs, body }) {
  const begun = performance.now();
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end after ${limitMs ?? LIMIT_MS} ms`)), limitMs ?? LIMIT_MS);
  });
  let error;
  try {
    await Promise.race([body(), late]);
  } catch (thrown) {
    error = describe(thrown);
  } finally {
    clearTimeout(timer);
  }
  print({ function: of, name, ok: error === undefined, ms: Math.round(performance.now() - begun), error });
}

function describe(thrown) {
  const { name, message, status, cause, stack } = thrown ?? {};
  const place = /cases\/\w+\.mjs:\d+/.exec(stack ?? "")?.[0];
  const more = cause === undefined ? "" : `; because of ${cause?.message ?? cause}`;
  return `${name}${status === undefined ? "" : ` ${status}`}: ${message ?? String(thrown)}${more}${place ? ` (${place})` : ""}`;
}

const queue = [...cases];
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    for (let next = queue.shift(); next; next = queue.shift()) await run(next);
  })
);
print({ surface });
print({ unlisted: await unlisted() });
// What a case that was too late left open shall not keep this process.
process.exit(0);
