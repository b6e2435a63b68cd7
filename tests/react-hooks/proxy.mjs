// What stands in front of a server in production: TLS, and HTTP/2 to browsers, which then have one connection for any number of hooks.

import { readFile } from "node:fs/promises";
import { request } from "node:http";
import { createSecureServer } from "node:http2";
import { join } from "node:path";
import { pipeline } from "node:stream";

/** Headers that are about one connection, which HTTP/2 does not know. */
const OF_A_CONNECTION = ["connection", "keep-alive", "transfer-encoding", "upgrade", "http2-settings"];

/** A proxy with the certificate in the folder `tls`; the address of it. */
export async function proxy(target, tls) {
  const [cert, key] = await Promise.all(["certificate.pem", "key.pem"].map((file) => readFile(join(tls, file))));
  const server = createSecureServer({ cert, key }, (asked, answer) => {
    const headers = Object.fromEntries(Object.entries(asked.headers).filter(([name]) => !name.startsWith(":")));
    const passed = request(new URL(asked.url, target), { method: asked.method, headers });
    passed.on("response", (came) => {
      const kept = Object.entries(came.headers).filter(([name]) => !OF_A_CONNECTION.includes(name));
      answer.writeHead(came.statusCode, Object.fromEntries(kept));
      pipeline(came, answer, () => {});
    });
    passed.on("error", () => (answer.headersSent ? answer.stream.close() : answer.writeHead(502).end()));
    answer.on("close", () => passed.destroy());
    asked.pipe(passed);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `https://127.0.0.1:${server.address().port}`;
}
