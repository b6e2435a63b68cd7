// Subscriptions and streams.

import assert from "node:assert/strict";

import { runs, streams, tasks } from "@trigger.dev/sdk";

import { cases } from "../cases.mjs";
import { unique } from "../support.mjs";

/** The first value of a subscription for which this holds. */
async function first(subscription, holds) {
  for await (const value of subscription) if (holds(value)) return value;
  assert.fail("the subscription ended");
}

const limitMs = 15_000;

cases("runs.subscribeToRun", {
  "follows a run to its end": async () => {
    const { id } = await tasks.trigger("echo", { a: 1 });
    const run = await first(runs.subscribeToRun(id), ({ isCompleted }) => isCompleted);
    assert.deepEqual([run.id, run.output], [id, { a: 1 }]);
  },
}, { limitMs });

cases("runs.subscribeToRunsWithTag", {
  "sees the runs of a tag": async () => {
    const tag = unique("tag");
    const { id } = await tasks.trigger("echo", 1, { tags: [tag] });
    assert.equal((await first(runs.subscribeToRunsWithTag(tag), ({ isCompleted }) => isCompleted)).id, id);
  },
}, { limitMs });

cases("runs.subscribeToBatch", {
  "sees the runs of a batch": async () => {
    const { batchId } = await tasks.batchTrigger("echo", [{ payload: 1 }]);
    assert.equal((await first(runs.subscribeToBatch(batchId), ({ isCompleted }) => isCompleted)).output, 1);
  },
}, { limitMs });

cases("runs.fetchStream", {
  "a stream that nobody writes ends with its run": async () => {
    const { id } = await tasks.trigger("echo", 1);
    const reader = (await runs.fetchStream(id, "nobody-writes")).getReader();
    assert.equal((await reader.read()).done, true);
  },
}, { limitMs });

cases("streams.read", {
  "opens a stream of a run": async () => {
    const { id } = await tasks.trigger("echo", 1);
    for await (const _ of await streams.read(id, "nobody-writes", { timeoutInSeconds: 1 })) assert.fail("nobody writes");
  },
}, { limitMs });

cases("streams.input", {
  "sends to a run": async () => {
    const { id } = await tasks.trigger("echo", 1, { delay: "1h" });
    await streams.input({ id: "talk" }).send(id, { text: "hello" });
    await runs.cancel(id);
  },
}, { limitMs });
