// queues.* and concurrencyLimits.*

import assert from "node:assert/strict";

import { concurrencyLimits, queues, runs, tasks } from "@trigger.dev/sdk";

import { cases } from "../cases.mjs";
import { as, finished, otherKey, refused } from "../support.mjs";

const absent = { type: "custom", name: "nobody-has/this" };
const slashed = { type: "custom", name: "folder/queue" };

cases("queues.list", {
  "pages with numbers, each queue once": async () => {
    const found = [];
    for (let page = 1, pages = 1; page <= pages; page++) {
      const { data, pagination } = await queues.list({ page, perPage: 10 });
      pages = pagination.totalPages;
      found.push(...data);
    }
    assert.equal(new Set(found.map(({ id }) => id)).size, found.length);
    const names = found.map(({ type, name }) => `${type} ${name}`);
    assert.ok(names.includes("custom folder/queue") && names.includes("task echo"), names.join(", "));
  },
});

cases("queues.retrieve", {
  "by id, by task and by name, also with slashes": async () => {
    const queue = await queues.retrieve(slashed);
    assert.deepEqual([queue.name, queue.type, queue.paused, queue.concurrencyLimit], ["folder/queue", "custom", false, 3]);
    assert.equal((await queues.retrieve(queue.id)).name, "folder/queue");
    assert.deepEqual([(await queues.retrieve({ type: "task", name: "echo" })).name], ["echo"]);
  },
  "one that is not there, or is another environment's, is 404": async () => {
    await refused(404, () => queues.retrieve(absent));
    await refused(404, () => queues.retrieve("queue_00000000000000000000000000"));
    await refused(404, () => as(otherKey, () => queues.retrieve(slashed)));
  },
});

cases("queues.pause", {
  "nothing begins in it": async () => {
    const queue = { type: "task", name: "other-shared" };
    assert.equal((await queues.pause(queue)).paused, true);
    const { id } = await tasks.trigger("other-shared");
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.equal((await runs.retrieve(id)).status, "QUEUED");
    await queues.resume(queue);
    assert.equal((await finished(id)).status, "COMPLETED");
  },
  "one that is not there is 404": async () => refused(404, () => queues.pause(absent)),
});

cases("queues.resume", {
  "one that was not paused stays so": async () => assert.equal((await queues.resume(slashed)).paused, false),
  "one that is not there is 404": async () => refused(404, () => queues.resume(absent)),
});

cases("queues.overrideConcurrencyLimit", {
  "sets a limit by hand": async () => {
    const queue = await queues.overrideConcurrencyLimit({ type: "task", name: "member" }, 7);
    assert.deepEqual([queue.concurrencyLimit, queue.concurrency.current, queue.concurrency.override], [7, 7, 7]);
    await queues.resetConcurrencyLimit({ type: "task", name: "member" });
  },
  "too large a limit is refused, one that is not there is 404": async () => {
    await refused(400, () => queues.overrideConcurrencyLimit(slashed, 100_001)).catch(() => refused(422, () => queues.overrideConcurrencyLimit(slashed, 100_001)));
    await refused(404, () => queues.overrideConcurrencyLimit(absent, 5));
  },
});

cases("queues.resetConcurrencyLimit", {
  "puts back what the deployment says": async () => {
    const queue = { type: "custom", name: "folder/queue" };
    await queues.overrideConcurrencyLimit(queue, 9);
    const reset = await queues.resetConcurrencyLimit(queue);
    assert.deepEqual([reset.concurrencyLimit, reset.concurrency.override], [3, null]);
    await refused(404, () => queues.resetConcurrencyLimit(absent));
  },
});

cases("concurrencyLimits.list", {
  "pages with numbers": async () => {
    const { data, pagination } = await concurrencyLimits.list({ page: 1, perPage: 50 });
    assert.ok(data.some(({ name }) => name === "two"));
    assert.equal(pagination.count, data.length);
  },
});

cases("concurrencyLimits.retrieve", {
  "by name, also a task's own": async () => {
    const limit = await concurrencyLimits.retrieve("two");
    assert.deepEqual([limit.name, limit.total.base, limit.paused], ["two", 2, false]);
    assert.equal((await concurrencyLimits.retrieve("task/single")).total.current, 1);
  },
  "of one key": async () => {
    const limit = await concurrencyLimits.retrieve("two", { concurrencyKey: "tenant-1" });
    assert.deepEqual([limit.name, limit.concurrencyKey], ["two", "tenant-1"]);
  },
  "one that is not there is 404": async () => refused(404, () => concurrencyLimits.retrieve("nobody-has-this")),
});

cases("concurrencyLimits.override", {
  "sets bounds by hand": async () => {
    const limit = await concurrencyLimits.override("two", { total: 5 });
    assert.deepEqual([limit.total.current, limit.total.override, limit.total.base], [5, 5, 2]);
    await concurrencyLimits.reset("two");
    await refused(404, () => concurrencyLimits.override("nobody-has-this", { total: 5 }));
  },
  "of one key, for a while": async () => {
    const limit = await concurrencyLimits.override("two", { concurrencyKey: "tenant-2", perKey: 3 });
    assert.deepEqual([limit.concurrencyKey, limit.perKey.current], ["tenant-2", 3]);
    await concurrencyLimits.reset("two", { concurrencyKey: "tenant-2" });
  },
});

cases("concurrencyLimits.reset", {
  "puts back what the deployment says": async () => {
    await concurrencyLimits.override("task/single", { total: 4 });
    const limit = await concurrencyLimits.reset("task/single");
    assert.deepEqual([limit.total.current, limit.total.override], [1, null]);
  },
});

cases("concurrencyLimits.pause", {
  "nothing that it bounds begins": async () => {
    assert.equal((await concurrencyLimits.pause("task/single")).paused, true);
    const { id } = await tasks.trigger("single");
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.equal((await runs.retrieve(id)).status, "QUEUED");
    assert.equal((await concurrencyLimits.resume("task/single")).paused, false);
    assert.equal((await finished(id)).status, "COMPLETED");
  },
});

cases("concurrencyLimits.resume", {
  "one that is not there is 404": async () => refused(404, () => concurrencyLimits.resume("nobody-has-this")),
  "one that was not paused stays so": async () => assert.equal((await concurrencyLimits.resume("two")).paused, false),
});
