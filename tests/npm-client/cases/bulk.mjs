// runs.bulk.*

import assert from "node:assert/strict";

import { runs, tasks } from "@trigger.dev/sdk";

import { cases } from "../cases.mjs";
import { all, as, otherKey, refused, unique } from "../support.mjs";

const absent = "bulk_00000000000000000000000000";

async function delayed(count) {
  const tag = unique("bulk");
  const ids = [];
  for (let n = 0; n < count; n++) ids.push((await tasks.trigger("echo", n, { tags: [tag], delay: "1h" })).id);
  return { tag, ids };
}

const done = (id) => runs.bulk.poll(id, { pollIntervalMs: 100 });

cases("runs.bulk.cancel", {
  "runs by their ids": async () => {
    const { ids } = await delayed(3);
    const action = await done((await runs.bulk.cancel({ runIds: ids.slice(0, 2), name: "a name" })).id);
    assert.deepEqual([action.status, action.type, action.counts, action.name], ["COMPLETED", "CANCEL", { total: 2, success: 2, failure: 0 }, "a name"]);
    const statuses = await Promise.all(ids.map(async (id) => (await runs.retrieve(id)).status));
    assert.deepEqual(statuses, ["CANCELED", "CANCELED", "DELAYED"]);
  },
  "runs that a filter finds": async () => {
    const { tag, ids } = await delayed(60);
    const action = await done((await runs.bulk.cancel({ filter: { tag, status: ["DELAYED"] } })).id);
    assert.deepEqual(action.counts, { total: 60, success: 60, failure: 0 });
    assert.equal((await all(runs.list({ tag, status: "CANCELED" }))).length, ids.length);
  },
  "neither or both, no filter, and a name that is too long are refused": async () => {
    await refused(400, () => runs.bulk.cancel({}));
    await refused(400, () => runs.bulk.cancel({ runIds: [absent], filter: { tag: "x" } }));
    await refused(400, () => runs.bulk.cancel({ filter: {} }));
    await refused(400, () => runs.bulk.cancel({ filter: { tag: "x" }, name: "n".repeat(256) }));
  },
});

cases("runs.bulk.replay", {
  "runs by their ids, found again by the action": async () => {
    const { ids } = await delayed(2);
    await runs.cancel(ids[0]);
    const { id } = await runs.bulk.replay({ runIds: ids });
    const action = await done(id);
    assert.deepEqual([action.type, action.counts], ["REPLAY", { total: 2, success: 2, failure: 0 }]);
    const made = await all(runs.list({ bulkAction: id }));
    assert.equal(made.length, 2);
    assert.ok(made.every((run) => !ids.includes(run.id)));
  },
});

cases("runs.bulk.retrieve", {
  "an action that is not there, or is another environment's, is 404": async () => {
    await refused(404, () => runs.bulk.retrieve(absent));
    const { tag } = await delayed(1);
    const { id } = await runs.bulk.cancel({ filter: { tag } });
    assert.equal((await runs.bulk.retrieve(id)).id, id);
    await refused(404, () => as(otherKey, () => runs.bulk.retrieve(id)));
  },
});

cases("runs.bulk.abort", {
  "one that is done stays so, and one that is not there is 404": async () => {
    const { tag } = await delayed(1);
    const { id } = await runs.bulk.cancel({ filter: { tag } });
    await done(id);
    const aborted = await runs.bulk.abort(id).then((answer) => answer.id, (error) => error.status);
    assert.ok(aborted === id || aborted === 400, String(aborted));
    assert.equal((await runs.bulk.retrieve(id)).status, "COMPLETED");
    await refused(404, () => runs.bulk.abort(absent));
  },
});

cases("runs.bulk.list", {
  "newest first, page by page": async () => {
    const { tag } = await delayed(1);
    const made = [];
    for (let n = 0; n < 3; n++) made.push((await runs.bulk.cancel({ filter: { tag } })).id);
    const listed = (await all(runs.bulk.list({ limit: 2 }))).map(({ id }) => id).filter((id) => made.includes(id));
    assert.deepEqual(listed, made.toReversed());
  },
});

cases("runs.bulk.poll", {
  "waits for the end": async () => {
    const { tag } = await delayed(1);
    const { id } = await runs.bulk.cancel({ filter: { tag } });
    const action = await runs.bulk.poll(id, { pollIntervalMs: 50 });
    assert.ok(action.completedAt instanceof Date);
  },
});
