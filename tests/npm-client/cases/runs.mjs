// runs.*

import assert from "node:assert/strict";

import { apiClientManager, assembleRunTracePages } from "@trigger.dev/core/v3";
import { runs, tasks } from "@trigger.dev/sdk";

import { cases } from "../cases.mjs";
import { all, as, finished, http, otherKey, project, refused, unique, withStatus } from "../support.mjs";

const absent = "run_00000000000000000000000000";

/** Runs of a tag, which nobody else uses. */
async function tagged(count, options = {}) {
  const tag = unique("tag");
  const ids = [];
  for (let n = 0; n < count; n++) ids.push((await tasks.trigger("echo", n, { tags: [tag], delay: "1h", ...options })).id);
  return { tag, ids };
}

cases("runs.retrieve", {
  "a run that is done": async () => {
    const { id } = await tasks.trigger("echo", { a: 1 });
    await finished(id);
    const run = await runs.retrieve(id);
    assert.deepEqual(
      [run.id, run.taskIdentifier, run.isCompleted, run.isSuccess, run.isFailed, run.isQueued, run.isTest, run.attemptCount],
      [id, "echo", true, true, false, false, false, 1]
    );
    assert.ok(run.createdAt instanceof Date && run.startedAt >= run.createdAt && run.finishedAt >= run.startedAt);
    assert.match(run.version, /^\d{8}\.\d+$/);
  },
  "a run that failed says why": async () => {
    const run = await finished((await tasks.trigger("member", { name: "Kim", fails: true })).id);
    assert.deepEqual([run.status, run.isFailed, run.isSuccess, run.error.message], ["FAILED", true, false, "Kim does not want to"]);
    const trapped = await finished((await tasks.trigger("trap")).id);
    assert.deepEqual([trapped.status, trapped.error.message], ["CRASHED", "trigger.dev internal error (TASK_RUN_CRASHED)"]);
  },
  "a run with a payload that is large is shown with it": async () => {
    const payload = { text: "y".repeat(100_000) };
    const run = await finished((await tasks.trigger("echo", payload)).id);
    assert.deepEqual([run.payload, run.output], [payload, payload]);
  },
  "one that is not there, or is another environment's, is 404 at once": async () => {
    const begun = Date.now();
    await refused(404, () => runs.retrieve(absent));
    await refused(404, () => runs.retrieve("nonsense"));
    const { id } = await tasks.trigger("echo", 1);
    await refused(404, () => as(otherKey, () => runs.retrieve(id)));
    assert.ok(Date.now() - begun < 4000);
  },
});

cases("runs.poll", {
  "waits for the end, whatever it is": async () => {
    const expired = await tasks.trigger("single", undefined, { delay: "1h" });
    await runs.cancel(expired.id);
    assert.equal((await runs.poll(expired.id, { pollIntervalMs: 50 })).status, "CANCELED");
    assert.equal((await runs.poll(await tasks.trigger("echo", 1), { pollIntervalMs: 50 })).output, 1);
  },
});

cases("runs.list", {
  "newest first, page by page, each once": async () => {
    const { tag, ids } = await tagged(5);
    const page = await runs.list({ tag, limit: 2 });
    assert.deepEqual(page.data.map(({ id }) => id), [ids[4], ids[3]]);
    assert.ok(page.hasNextPage());
    const second = await page.getNextPage();
    assert.deepEqual(second.data.map(({ id }) => id), [ids[2], ids[1]]);
    assert.deepEqual((await second.getPreviousPage()).data.map(({ id }) => id), [ids[4], ids[3]]);
    assert.deepEqual((await all(runs.list({ tag, limit: 2 }))).map(({ id }) => id), ids.toReversed());
  },
  "by status, task and time": async () => {
    const { tag, ids } = await tagged(2);
    await runs.cancel(ids[0]);
    const of = async (filter) => (await all(runs.list({ tag, ...filter }))).map(({ id }) => id);
    assert.deepEqual(await of({ status: "CANCELED" }), [ids[0]]);
    assert.deepEqual(await of({ status: ["CANCELED", "DELAYED"] }), [ids[1], ids[0]]);
    assert.deepEqual(await of({ taskIdentifier: "other" }), []);
    assert.deepEqual(await of({ taskIdentifier: ["echo", "other"], period: "1d" }), [ids[1], ids[0]]);
    assert.deepEqual(await of({ from: new Date(Date.now() + 60_000) }), []);
    assert.deepEqual(await of({ from: Date.now() - 600_000, to: Date.now() + 600_000 }), [ids[1], ids[0]]);
    assert.deepEqual((await all(runs.list({ tag: [tag, "another"] }))).length, 2);
  },
  "by whether they are tests, version, batch, queue, machine and region": async () => {
    const { tag, ids } = await tagged(1, { machine: "large-1x", queue: "folder/queue" });
    const of = async (filter) => (await all(runs.list({ tag, ...filter }))).map(({ id }) => id);
    assert.deepEqual([await of({ isTest: false }), await of({ isTest: true })], [ids, []]);
    assert.deepEqual([await of({ machine: "large-1x" }), await of({ machine: "micro" })], [ids, []]);
    assert.deepEqual([await of({ queue: { type: "custom", name: "folder/queue" } }), await of({ queue: { type: "task", name: "echo" } })], [ids, []]);
    assert.deepEqual(await of({ version: "20000101.1" }), []);
    const done = await finished((await tasks.trigger("echo", 1, { tags: [tag] })).id);
    assert.deepEqual(await of({ version: done.version }), [done.id]);
    const { batchId } = await tasks.batchTrigger("echo", [{ payload: 1, options: { tags: [tag] } }]);
    assert.deepEqual((await of({ batch: batchId })).length, 1);
  },
  "filters that this server does not know are refused": async () => {
    await refused(400, () => runs.list({ region: "eu-central-1" }));
    assert.equal((await http("GET", "/api/v1/runs?filter%5Berror%5D=x")).status, 400);
  },
  "a wrong cursor, size or status is refused": async () => {
    await refused(400, () => runs.list({ after: "nonsense" }));
    await refused(400, () => runs.list({ limit: 101 }));
    assert.equal((await http("GET", "/api/v1/runs?filter%5Bstatus%5D=NONSENSE")).status, 400);
  },
});

cases("HTTP: runs of a project", {
  "runs.list with a project's reference": async () => {
    const { tag, ids } = await tagged(2);
    const listed = await all(runs.list(project, { tag, limit: 1 }));
    assert.deepEqual(listed.map(({ id, env }) => [id, env.name]), ids.toReversed().map((id) => [id, "dev"]));
    assert.deepEqual(await all(runs.list(project, { tag, env: "prod" })), []);
    await refused(404, () => runs.list("proj_another", { tag }));
  },
});

cases("runs.cancel", {
  "a run that waits ends, and to cancel it again does no harm": async () => {
    const { id } = await tasks.trigger("echo", 1, { delay: "1h" });
    assert.equal((await runs.cancel(id)).id, id);
    assert.equal((await runs.cancel(id)).id, id);
    const run = await runs.retrieve(id);
    assert.deepEqual([run.status, run.isCancelled, run.isCompleted], ["CANCELED", true, true]);
  },
  "a run in progress ends": async () => {
    const { id } = await tasks.trigger("tidy", "wait");
    await withStatus(id, "WAITING");
    await runs.cancel(id);
    assert.equal((await finished(id)).status, "CANCELED");
  },
  "one that is not there is 404": async () => refused(404, () => runs.cancel(absent)),
});

cases("runs.replay", {
  "makes another run of the same": async () => {
    const { id } = await tasks.trigger("echo", { a: 1 }, { tags: ["replayed"] });
    await finished(id);
    const again = await runs.replay(id);
    assert.notEqual(again.id, id);
    const run = await finished(again.id);
    assert.deepEqual([run.output, run.tags], [{ a: 1 }, ["replayed"]]);
  },
  "with another payload and other options": async () => {
    const { id } = await tasks.trigger("echo", { a: 1 });
    const again = await runs.replay(id, { payload: { b: 2 }, tags: ["t"], metadata: { m: 1 }, machine: "micro" });
    const run = await finished(again.id);
    assert.deepEqual([run.output, run.tags, run.metadata], [{ b: 2 }, ["t"], { m: 1 }]);
  },
  "one that is not there is 404, an unknown option 400": async () => {
    await refused(404, () => runs.replay(absent));
    const { id } = await tasks.trigger("echo", 1);
    assert.equal((await http("POST", `/api/v1/runs/${id}/replay`, { body: { nonsense: 1 } })).status, 400);
  },
});

cases("runs.reschedule", {
  "a delayed run gets another delay": async () => {
    const { id } = await tasks.trigger("echo", 1, { delay: "1h" });
    const run = await runs.reschedule(id, { delay: "2h" });
    assert.ok(Math.abs(run.delayedUntil - Date.now() - 7_200_000) < 60_000);
    const soon = await runs.reschedule(id, { delay: new Date(Date.now() + 300) });
    assert.equal(soon.id, id);
    assert.equal((await finished(id)).output, 1);
  },
  "one that is not delayed is refused": async () => {
    const { id } = await tasks.trigger("echo", 1);
    await finished(id);
    await refused(400, () => runs.reschedule(id, { delay: "1h" }));
    await refused(404, () => runs.reschedule(absent, { delay: "1h" }));
  },
});

cases("HTTP: run metadata", {
  "is read and changed": async () => {
    const { id } = await tasks.trigger("echo", 1, { delay: "1h", metadata: { a: 1 } });
    const path = `/api/v1/runs/${id}/metadata`;
    assert.deepEqual((await http("GET", path)).body, { metadata: { a: 1 } });
    const operations = [
      { type: "set", key: "b", value: 2 },
      { type: "increment", key: "a", value: 5 },
      { type: "append", key: "list", value: "x" },
    ];
    assert.deepEqual((await http("PUT", path, { body: { operations } })).body, { metadata: { a: 6, b: 2, list: ["x"] } });
    assert.deepEqual((await runs.retrieve(id)).metadata, { a: 6, b: 2, list: ["x"] });
    assert.equal((await http("PUT", path, { body: { metadata: { big: "x".repeat(300_000) } } })).status, 413);
    assert.equal((await http("GET", `/api/v1/runs/${absent}/metadata`)).status, 404);
    await runs.cancel(id);
  },
});

cases("HTTP: run tags", {
  "are added, ten at most": async () => {
    const { id } = await tasks.trigger("echo", 1, { delay: "1h", tags: "a" });
    assert.equal((await http("POST", `/api/v1/runs/${id}/tags`, { body: { tags: ["b", "a"] } })).status, 200);
    assert.deepEqual((await runs.retrieve(id)).tags, ["a", "b"]);
    const many = Array.from({ length: 10 }, (_, n) => `t${n}`);
    assert.equal((await http("POST", `/api/v1/runs/${id}/tags`, { body: { tags: many } })).status, 422);
    await runs.cancel(id);
  },
});

cases("HTTP: run result", {
  "is that of a run that ended": async () => {
    const { id } = await tasks.trigger("echo", { a: 1 });
    await finished(id);
    const { body } = await http("GET", `/api/v1/runs/${id}/result`);
    assert.deepEqual([body.ok, body.id, JSON.parse(body.output)], [true, id, body.outputType === "application/super+json" ? { json: { a: 1 } } : { a: 1 }]);
    const failed = await tasks.trigger("panic");
    await finished(failed.id);
    const result = await http("GET", `/api/v1/runs/${failed.id}/result`);
    assert.equal(result.body.ok, false);
    assert.ok(result.body.error.type);
  },
  "404 while there is none": async () => {
    const { id } = await tasks.trigger("echo", 1, { delay: "1h" });
    assert.equal((await http("GET", `/api/v1/runs/${id}/result`)).status, 404);
    await runs.cancel(id);
  },
});

cases("HTTP: run events", {
  "tell what happened": async () => {
    const { id } = await tasks.trigger("echo", 1);
    await finished(id);
    const { body } = await http("GET", `/api/v1/runs/${id}/events`);
    assert.ok(Array.isArray(body.events) && body.events.length >= 2);
  },
});

cases("HTTP: run trace", {
  "is a tree of spans": async () => {
    const { id } = await tasks.trigger("echo", 1);
    await finished(id);
    const { status, body } = await http("GET", `/api/v1/runs/${id}/trace`);
    assert.equal(status, 200);
    assert.equal(body.trace.rootSpan.runId, id);
  },
  "the client reads it whole, and page by page": async () => {
    const { id } = await tasks.trigger("measure", { ms: 600 });
    await finished(id);
    const client = apiClientManager.clientOrThrow();
    const { trace } = await client.retrieveRunTrace(id);
    const names = (span) => [span.data.message, span.children.map(names)];
    assert.deepEqual(names(trace.rootSpan), [
      "measure",
      [["Attempt 1", [["outer", [["inner", []]]], ["wait until", []], ["open", []]]]],
    ]);
    assert.ok(trace.rootSpan.data.startTime instanceof Date && trace.rootSpan.data.duration > 0);
    const pages = [];
    let after;
    do {
      const page = await client.retrieveRunTracePage(id, { limit: 2, after });
      pages.push(page);
      after = page.pagination.next;
    } while (after);
    const [root, ...others] = assembleRunTracePages(pages);
    const flat = (span) => [span.message, span.children.map(flat)];
    assert.deepEqual([pages.length, others], [3, []]);
    assert.deepEqual(flat(root), names(trace.rootSpan));
  },
});

cases("HTTP: run spans", {
  "one of a run's trace": async () => {
    const { id } = await tasks.trigger("echo", 1);
    await finished(id);
    const trace = await http("GET", `/api/v1/runs/${id}/trace`);
    assert.equal(trace.status, 200);
    const span = await http("GET", `/api/v1/runs/${id}/spans/${trace.body.trace.rootSpan.id}`);
    assert.equal(span.body.runId, id);
  },
  "the client reads it": async () => {
    const { id } = await tasks.trigger("measure", { ms: 0 });
    const run = await finished(id);
    const client = apiClientManager.clientOrThrow();
    const span = await client.retrieveSpan(id, run.output.inner.split("-")[2]);
    assert.deepEqual([span.message, span.isError, span.isPartial, span.runId], ["inner", true, false, id]);
    await refused(404, () => client.retrieveSpan(id, "00000000000000ff"));
  },
});
