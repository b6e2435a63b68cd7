// Payloads and outputs that are too large for a request or an answer.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

import { batch, runs, tasks } from "@trigger.dev/sdk";

import { cases } from "../cases.mjs";
import { as, eventually, finished, http, otherKey } from "../support.mjs";

const path = () => `trigger/packet_${randomUUID()}/payload.json`;
const at = (path) => encodeURIComponent(path);

cases("HTTP: payloads in the object store", {
  "a payload of a megabyte reaches the task, and is shown": async () => {
    const payload = { text: "é".repeat(500_000), at: new Date(0) };
    const { id } = await tasks.trigger("echo", payload);
    const run = await finished(id);
    assert.equal(run.status, "COMPLETED", JSON.stringify(run.error));
    assert.equal(run.payload.text, payload.text);
    assert.equal(run.output.text, payload.text);
    assert.deepEqual(run.payload.at, payload.at, "decoded by the client, with its types");
  },
  "a text of a megabyte is a text": async () => {
    const run = await finished((await tasks.trigger("echo", "t".repeat(1_000_000))).id);
    assert.equal(run.output.length, 1_000_000);
  },
  "a large output is shown": async () => {
    const run = await finished((await tasks.trigger("big-output", { bytes: 2_000_000 })).id);
    assert.equal(run.output.length, 2_000_000);
  },
  "items of a batch have large payloads, too": async () => {
    const items = [1, 2, 3].map((n) => ({ id: "echo", payload: { n, text: "x".repeat(200_000) } }));
    const { batchId } = await batch.trigger(items);
    const found = await eventually("all have a run", async () => {
      const found = await batch.retrieve(batchId);
      return found.runs.length === 3 ? found : undefined;
    });
    const outputs = await Promise.all(found.runs.map(async (id) => (await finished(id)).output));
    assert.deepEqual(outputs.map(({ n, text }) => [n, text.length]), [1, 2, 3].map((n) => [n, 200_000]));
  },
  "a replay has the same large payload": async () => {
    const { id } = await tasks.trigger("echo", { text: "r".repeat(300_000) });
    const again = await finished((await runs.replay(id)).id);
    assert.equal(again.output.text.length, 300_000);
  },
  "what is put is got, as the type that it was put as": async () => {
    const name = path();
    const { status, body } = await http("PUT", `/api/v2/packets/${at(name)}`);
    assert.equal(status, 200);
    assert.ok(body.presignedUrl.startsWith("http") && body.storagePath.length > 0);
    const put = await http("PUT", body.presignedUrl, { key: null, body: '{"a":1}', headers: { "content-type": "application/json" } });
    assert.equal(put.status, 200);
    const { body: found } = await http("GET", `/api/v1/packets/${at(body.storagePath)}`);
    const got = await fetch(found.presignedUrl);
    assert.deepEqual([got.status, got.headers.get("content-type"), await got.text()], [200, "application/json", '{"a":1}']);
    assert.equal((await http("GET", `/api/v1/packets/${at(body.storagePath)}`, { key: otherKey })).status, 404);
  },
  "an address that is changed, or used for another thing, opens nothing": async () => {
    const { body } = await http("PUT", `/api/v2/packets/${at(path())}`);
    const broken = body.presignedUrl.replace(/.$/, (last) => (last === "0" ? "1" : "0"));
    assert.equal((await http("PUT", broken, { key: null, body: "x" })).status, 403);
    assert.equal((await http("GET", body.presignedUrl, { key: null })).status, 403);
  },
  "too large a payload is 413, and one that was never put is refused": async () => {
    const { body } = await http("PUT", `/api/v2/packets/${at(path())}`);
    const put = await http("PUT", body.presignedUrl, { key: null, body: new Uint8Array(11 * 1024 * 1024), headers: { "content-type": "text/plain" } });
    assert.equal(put.status, 413);
    const trigger = await http("POST", "/api/v1/tasks/echo/trigger", { body: { payload: body.storagePath, options: { payloadType: "application/store" } } });
    assert.equal(trigger.status, 422, trigger.text);
    assert.equal((await http("GET", `/api/v1/packets/${at("nothing/here.json")}`)).status, 404);
  },
  "payload and output of a run have addresses": async () => {
    const { id } = await tasks.trigger("echo", { a: 1 });
    await finished(id);
    for (const field of ["payload", "output"]) {
      const { status, body } = await http("GET", `/api/v1/runs/${id}/packets/${field}`);
      assert.equal(status, 200);
      const got = await fetch(body.presignedUrl);
      assert.match(await got.text(), /"a":1/);
    }
    assert.equal((await http("GET", `/api/v1/runs/${id}/packets/nonsense`)).status, 400);
    assert.equal((await http("GET", `/api/v1/runs/${id}/packets/payload`, { key: otherKey })).status, 404);
  },
});
