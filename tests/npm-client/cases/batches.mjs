// Batches.

import assert from "node:assert/strict";

import { auth, batch, runs, tasks } from "@trigger.dev/sdk";

import { cases } from "../cases.mjs";
import { as, eventually, finished, http, proxied, refused, unique } from "../support.mjs";

/** The batch once all its runs have ended. */
const ended = (id) =>
  eventually(`${id} is complete`, async () => {
    const found = await batch.retrieve(id);
    return ["COMPLETED", "PARTIAL_FAILED"].includes(found.status) ? found : undefined;
  });

cases("tasks.batchTrigger", {
  "each item is a run, in their order": async () => {
    const items = [1, 2, 3].map((payload) => ({ payload }));
    const handle = await tasks.batchTrigger("echo", items);
    assert.match(handle.batchId, /^batch_/);
    assert.equal(handle.runCount, 3);
    const { runs: ids, processing } = await ended(handle.batchId);
    assert.deepEqual(processing.errors, []);
    const outputs = await Promise.all(ids.map(async (id) => (await finished(id)).output));
    assert.deepEqual(outputs, [1, 2, 3]);
  },
  "a thousand items are one batch": async () => {
    const items = Array.from({ length: 1000 }, (_, n) => ({ payload: n, options: { delay: "1h" } }));
    const { batchId, runCount } = await tasks.batchTrigger("echo", items);
    assert.equal(runCount, 1000);
    const found = await eventually("all have a run", async () => {
      const found = await batch.retrieve(batchId);
      return found.runs.length === 1000 ? found : undefined;
    });
    assert.equal(new Set(found.runs).size, 1000);
  },
  "an item keeps its own options": async () => {
    const tag = unique();
    const { batchId } = await tasks.batchTrigger("echo", [{ payload: 1, options: { tags: [tag], metadata: { a: 1 } } }]);
    const [id] = (await ended(batchId)).runs;
    const run = await runs.retrieve(id);
    assert.deepEqual([run.tags, run.metadata, run.batchId], [[tag], { a: 1 }, batchId]);
  },
  "the same idempotency key is the same batch": async () => {
    const idempotencyKey = unique();
    const first = await tasks.batchTrigger("echo", [{ payload: 1 }], { idempotencyKey });
    const again = await tasks.batchTrigger("echo", [{ payload: 1 }], { idempotencyKey });
    assert.equal(first.batchId, again.batchId);
  },
  "its token reads the batch": async () => {
    const handle = await tasks.batchTrigger("echo", [{ payload: 1 }]);
    assert.equal((await as(handle.publicAccessToken, () => batch.retrieve(handle.batchId))).id, handle.batchId);
    await refused(403, () => as(handle.publicAccessToken, () => tasks.trigger("echo", 1)));
  },
  "more than a thousand items are refused": async () => {
    const answer = await http("POST", "/api/v3/batches", { body: { runCount: 1001 } });
    assert.equal(answer.status, 400);
  },
});

cases("batch.trigger", {
  "items of several tasks": async () => {
    const { batchId } = await batch.trigger([
      { id: "echo", payload: "a" },
      { id: "folder/echo", payload: "b" },
    ]);
    const { runs: ids } = await ended(batchId);
    assert.deepEqual(await Promise.all(ids.map(async (id) => (await runs.retrieve(id)).taskIdentifier)), ["echo", "folder/echo"]);
  },
  "a token for some tasks is refused others": async () => {
    const token = await auth.createBatchTriggerPublicToken("echo", { multipleUse: true });
    const error = await as(token, () => batch.trigger([{ id: "folder/echo", payload: 1 }])).then(() => undefined, (error) => error);
    assert.equal(error?.name, "BatchTriggerError");
  },
  "items that are sent twice because a connection broke are taken once": async () => {
    const items = Array.from({ length: 40 }, (_, n) => ({ id: "echo", payload: { n, filler: "x".repeat(1000) } }));
    // Making the batch; then its items, of which the answer is lost; then their second sending.
    const { came, connections } = await proxied([undefined, "swallow", undefined], async () => batch.trigger(items, {}, { retry: {} }));
    assert.ok(connections() >= 1);
    const found = await eventually("all have a run", async () => {
      const found = await batch.retrieve(came.batchId);
      return found.runs.length === 40 ? found : undefined;
    });
    const outputs = await Promise.all(found.runs.map(async (id) => (await finished(id)).output.n));
    assert.deepEqual(outputs, items.map(({ payload }) => payload.n));
  },
  "items whose stream was cut in the middle are sent again": async () => {
    const items = Array.from({ length: 40 }, (_, n) => ({ id: "echo", payload: { n, filler: "x".repeat(1000) } }));
    const { came } = await proxied(["halve", "halve", undefined, undefined], async () => batch.trigger(items));
    const found = await eventually("all have a run", async () => {
      const found = await batch.retrieve(came.batchId);
      return found.runs.length === 40 ? found : undefined;
    });
    assert.equal(new Set(found.runs).size, 40);
  },
});

cases("batch.triggerByTask", {
  "items by their tasks' objects": async () => {
    const { batchId, runCount } = await batch.triggerByTask([{ task: { id: "echo" }, payload: 1 }]);
    assert.equal(runCount, 1);
    assert.equal((await ended(batchId)).runs.length, 1);
  },
});

cases("batch.retrieve", {
  "an item that cannot be triggered does not stop the others": async () => {
    const { batchId } = await batch.trigger([
      { id: "echo", payload: 1 },
      { id: "echo", payload: 1, options: { version: "20000101.1" } },
    ]);
    const found = await ended(batchId);
    assert.equal(found.runCount, 2);
    assert.equal(found.processing.errors[0]?.index ?? 1, 1);
  },
  "one that is not there is 404 at once": async () => {
    const begun = Date.now();
    await refused(404, () => batch.retrieve("batch_00000000000000000000000000"));
    assert.ok(Date.now() - begun < 2000);
  },
});
