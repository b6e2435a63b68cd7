// What subscriptions and streams do beyond their first value: over changes, several runs, tokens and broken connections.

import assert from "node:assert/strict";

import { auth, runs, streams, tasks } from "@trigger.dev/sdk";

import { cases } from "../cases.mjs";
import { as, eventually, finished, http, proxied, unique, withStatus } from "../support.mjs";

const limitMs = 30_000;

/** What a subscription tells, until it is enough. */
async function until(subscription, enough) {
  const seen = [];
  for await (const value of subscription) {
    seen.push(value);
    if (enough(value, seen)) break;
  }
  return seen;
}

const numbers = (n) => Array.from({ length: n }, (_, number) => number);

async function read(id, key, options) {
  const chunks = [];
  for await (const chunk of await streams.read(id, key, options)) chunks.push(chunk);
  return chunks;
}

cases("runs.subscribeToRun", {
  "tells of metadata, tags and waits, and ends with the run": async () => {
    const { id } = await tasks.trigger("listen", { count: 1, ms: 60_000 }, { tags: ["first"] });
    const subscription = until(runs.subscribeToRun(id), () => false);
    await withStatus(id, "WAITING");
    await http("PUT", `/api/v1/runs/${id}/metadata`, { body: { metadata: { progress: 0.5 } } });
    await http("POST", `/api/v1/runs/${id}/tags`, { body: { tags: "second" } });
    await eventually("the run is shown with both", async () => {
      const run = await runs.retrieve(id);
      return run.metadata?.progress && run.tags.length === 2 ? true : undefined;
    });
    await streams.input({ id: "chat" }).send(id, "go on");
    const seen = await subscription;
    const last = seen.at(-1);
    assert.deepEqual([last.status, last.output, last.tags, last.metadata], ["COMPLETED", ["go on"], ["first", "second"], { progress: 0.5 }]);
    assert.ok(seen.some(({ isWaiting }) => isWaiting), seen.map(({ status }) => status).join());
    assert.ok(last.finishedAt instanceof Date && last.createdAt <= last.finishedAt);
  },
  "tells of a run that is over already": async () => {
    const { id } = await tasks.trigger("echo", { when: new Date(0) });
    await finished(id);
    const [run, ...more] = await until(runs.subscribeToRun(id), () => false);
    assert.deepEqual([run.status, run.payload, more.length], ["COMPLETED", { when: new Date(0) }, 0]);
  },
  "tells why a run failed": async () => {
    const { id } = await tasks.trigger("trap", {});
    const run = (await until(runs.subscribeToRun(id), () => false)).at(-1);
    assert.deepEqual([run.status, run.isFailed], ["CRASHED", true]);
    assert.match(run.error.message, /./);
  },
  "works with the token of the trigger, without columns that are not wanted": async () => {
    const handle = await tasks.trigger("echo", "secret");
    await finished(handle.id);
    const seen = await as(handle.publicAccessToken, () =>
      until(runs.subscribeToRun(handle.id, { skipColumns: ["payload", "output"] }), () => false));
    assert.deepEqual([seen.at(-1).status, seen.at(-1).payload, seen.at(-1).output], ["COMPLETED", undefined, undefined]);
  },
  "goes on after broken connections": async () => {
    await proxied(["refuse", undefined, "swallow", "refuse"], async () => {
      const { id } = await tasks.trigger("talk", { n: 6, per: 1, ms: 500 });
      const seen = await until(runs.subscribeToRun(id), () => false);
      assert.equal(seen.at(-1).status, "COMPLETED");
    });
  },
}, { limitMs });

cases("runs.subscribeToRunsWithTag", {
  "hears of the runs with all of the tags, also of those that are made later": async () => {
    const [one, other] = [unique("one"), unique("other")];
    const before = await tasks.trigger("echo", 1, { tags: [one, other] });
    await tasks.trigger("echo", 2, { tags: [one] });
    const ended = new Set();
    let after;
    await until(runs.subscribeToRunsWithTag([one, other]), (run) => {
      assert.ok(run.tags.includes(one) && run.tags.includes(other));
      after ??= tasks.trigger("echo", 3, { tags: [other, one] });
      if (run.isCompleted) ended.add(run.id);
      return ended.size === 2;
    });
    assert.deepEqual([...ended].sort(), [before.id, (await after).id].sort());
  },
  "works with a token for one of the tags": async () => {
    const tag = unique("tag");
    const { id } = await tasks.trigger("echo", 1, { tags: [tag] });
    const token = await auth.createPublicToken({ scopes: { read: { tags: [tag] } } });
    const seen = await as(token, () => until(runs.subscribeToRunsWithTag(tag), ({ isCompleted }) => isCompleted));
    assert.equal(seen.at(-1).id, id);
  },
}, { limitMs });

cases("runs.subscribeToBatch", {
  "hears of every run of it and of no other": async () => {
    const { batchId } = await tasks.batchTrigger("echo", [1, 2, 3].map((payload) => ({ payload })));
    await tasks.trigger("echo", 4);
    const outputs = new Map();
    await until(runs.subscribeToBatch(batchId), (run) => {
      if (run.isCompleted) outputs.set(run.id, run.output);
      return outputs.size === 3;
    });
    assert.deepEqual([...outputs.values()].sort(), [1, 2, 3]);
  },
}, { limitMs });

cases("streams.read", {
  "reads from the beginning while the run goes on, and ends with it": async () => {
    const { id } = await tasks.trigger("talk", { n: 40, per: 7, ms: 50 });
    assert.deepEqual(await read(id, "numbers"), numbers(40));
  },
  "reads from an index, also when the run is over": async () => {
    const { id } = await tasks.trigger("talk", { n: 30, per: 10, ms: 0 });
    await finished(id);
    assert.deepEqual(await read(id, "numbers", { startIndex: 25 }), [25, 26, 27, 28, 29]);
    assert.deepEqual(await read(id, "numbers", { startIndex: 30 }), []);
  },
  "ends when nothing comes for as long as it was told": async () => {
    const { id } = await tasks.trigger("listen", { count: 1, ms: 60_000 });
    assert.deepEqual(await read(id, "heard", { timeoutInSeconds: 1 }), []);
    await runs.cancel(id);
  },
  "goes on after broken connections, and misses nothing": async () => {
    const { id } = await tasks.trigger("talk", { n: 60, per: 2, ms: 100 });
    await proxied(["refuse", "swallow", "refuse", "swallow"], async () => {
      assert.deepEqual(await read(id, "numbers"), numbers(60));
    });
  },
  "works with the token of the trigger, and with no other run's": async () => {
    const [one, other] = await Promise.all([1, 2].map(() => tasks.trigger("talk", { n: 3, per: 3, ms: 0 })));
    assert.deepEqual(await as(one.publicAccessToken, () => read(one.id, "numbers")), numbers(3));
    await assert.rejects(as(one.publicAccessToken, () => read(other.id, "numbers")), ({ status }) => status === 403);
  },
}, { limitMs });

cases("streams.input", {
  "values are heard in their order, by a run that sleeps": async () => {
    const { id, publicAccessToken } = await tasks.trigger("listen", { count: 3, ms: 60_000 });
    const chat = streams.input({ id: "chat" });
    await chat.send(id, { text: "one" });
    await withStatus(id, "WAITING");
    await as(publicAccessToken, () => chat.send(id, ["two"]));
    await chat.send(id, null);
    assert.deepEqual((await finished(id)).output, [{ text: "one" }, ["two"], null]);
    assert.deepEqual(await read(id, "heard"), [{ text: "one" }, ["two"], null]);
  },
  "is refused by a run that is over": async () => {
    const { id } = await tasks.trigger("echo", 1);
    await finished(id);
    await assert.rejects(streams.input({ id: "chat" }).send(id, 1), ({ status }) => status === 400);
  },
  "a value whose answer was lost is there once": async () => {
    const { id } = await tasks.trigger("listen", { count: 2, ms: 1_000 });
    await proxied(["swallow", "swallow"], () => streams.input({ id: "chat" }).send(id, "once"));
    assert.deepEqual((await finished(id)).output, ["once", "nothing"]);
  },
}, { limitMs });
