// tasks.*, and what a trigger's options do.

import assert from "node:assert/strict";

import { configure, idempotencyKeys, runs, tasks, auth, TriggerClient } from "@trigger.dev/sdk";

import { cases } from "../cases.mjs";
import { apiUrl, finished, refused, secretKey, unique, withStatus, as, http } from "../support.mjs";

cases("configure", {
  "an address and a key given in code are used": async () => {
    configure({ baseURL: apiUrl, secretKey });
    assert.match((await tasks.trigger("echo", 1)).id, /^run_/);
  },
});

cases("auth.configure", {
  "is the same function": async () => {
    auth.configure({ baseURL: apiUrl, secretKey });
    assert.match((await tasks.trigger("echo", 1)).id, /^run_/);
  },
});

cases("auth.withAuth", {
  "a key holds for what is called inside": async () => {
    await as("tr_dev_0123456789abcdef0123", async () => refused(401, () => tasks.trigger("echo", 1)));
    assert.match((await as(secretKey, () => tasks.trigger("echo", 1))).id, /^run_/);
  },
});

cases("TriggerClient", {
  "an instance with a configuration of its own triggers and reads": async () => {
    const client = new TriggerClient({ baseURL: apiUrl, accessToken: secretKey });
    const { id } = await client.tasks.trigger("echo", { a: 1 });
    assert.deepEqual((await client.runs.poll(id, { pollIntervalMs: 100 })).output, { a: 1 });
  },
  "an instance with a wrong key is refused": async () => {
    const client = new TriggerClient({ baseURL: apiUrl, accessToken: "tr_dev_0123456789abcdef0123" });
    await refused(401, () => client.tasks.trigger("echo", 1));
  },
});

cases("tasks.trigger", {
  "a run comes to its end with what it was given": async () => {
    const payload = { text: "héllo", list: [1, 2.5, null], nested: { yes: true } };
    const handle = await tasks.trigger("echo", payload);
    assert.match(handle.id, /^run_[a-z0-9]+$/);
    const run = await finished(handle.id);
    assert.equal(run.status, "COMPLETED");
    assert.deepEqual([run.payload, run.output], [payload, payload]);
  },
  "strings, numbers and nothing are payloads, too": async () => {
    for (const payload of ["text", "", 42, false, null, [], undefined]) {
      const { id } = await tasks.trigger("echo", payload);
      const run = await finished(id);
      assert.equal(run.status, "COMPLETED", `${JSON.stringify(payload)}: ${run.error?.message}`);
      assert.deepEqual(run.output ?? null, payload === "" ? "" : (payload ?? null));
    }
  },
  "what JSON has not reaches the task as JSON": async () => {
    const { id } = await tasks.trigger("echo", { at: new Date(0), big: 12n, set: new Set([1]) });
    const run = await finished(id);
    assert.deepEqual(run.output, { at: "1970-01-01T00:00:00.000Z", big: "12", set: [1] });
  },
  "its token reads the run and nothing else": async () => {
    const [one, other] = [await tasks.trigger("echo", 1), await tasks.trigger("echo", 2)];
    assert.equal((await as(one.publicAccessToken, () => runs.retrieve(one.id))).id, one.id);
    await refused(403, () => as(one.publicAccessToken, () => runs.retrieve(other.id)));
    await refused(403, () => as(one.publicAccessToken, () => tasks.trigger("echo", 3)));
  },
  "options arrive": async () => {
    const tag = unique("tag");
    const { id } = await tasks.trigger("echo", 1, {
      tags: [tag, "b"],
      metadata: { user: { id: 7 } },
      ttl: "10m",
      maxAttempts: 2,
      machine: "small-2x",
      priority: 5,
      concurrencyKey: "tenant-1",
      maxDuration: 60,
    });
    const run = await finished(id);
    assert.deepEqual([run.tags, run.metadata, run.ttl], [[tag, "b"], { user: { id: 7 } }, "10m"]);
  },
  "a delay puts it off, as a duration or a date": async () => {
    for (const delay of ["1h", new Date(Date.now() + 3_600_000)]) {
      const { id } = await tasks.trigger("echo", 1, { delay });
      const run = await runs.retrieve(id);
      assert.equal(run.status, "DELAYED");
      assert.ok(Math.abs(run.delayedUntil - Date.now() - 3_600_000) < 60_000);
      await runs.cancel(id);
    }
  },
  "the same idempotency key is the same run": async () => {
    const idempotencyKey = unique("key");
    const first = await tasks.trigger("echo", 1, { idempotencyKey });
    const again = await tasks.trigger("echo", 2, { idempotencyKey, idempotencyKeyTTL: "60s" });
    assert.deepEqual([again.id, first.isCached, again.isCached], [first.id, false, true]);
    const other = await tasks.trigger("folder/echo", 1, { idempotencyKey });
    assert.notEqual(other.id, first.id);
    assert.equal((await runs.retrieve(first.id)).idempotencyKey, idempotencyKey, "as the user wrote it");
  },
  "triggers with the same debounce key become one run": async () => {
    const debounce = { key: unique(), delay: "1h", mode: "trailing" };
    const [first, again] = [await tasks.trigger("echo", 1, { debounce }), await tasks.trigger("echo", 2, { debounce })];
    assert.equal(first.id, again.id);
    assert.equal((await runs.retrieve(first.id)).payload, 2);
    await runs.cancel(first.id);
  },
  "a task with a slash, and one that nobody has deployed yet": async () => {
    assert.equal((await finished((await tasks.trigger("folder/echo", 5)).id)).output, 5);
    const { id } = await tasks.trigger(`${unique()} not/yet`, 5);
    await withStatus(id, "PENDING_VERSION");
    await runs.cancel(id);
  },
  "a version that is not there is refused": async () => {
    await refused(422, () => tasks.trigger("echo", 1, { version: "20000101.1" }));
  },
  "too many tags and too long a key are refused": async () => {
    await refused(422, () => tasks.trigger("echo", 1, { tags: Array.from({ length: 11 }, (_, n) => `t${n}`) }));
    const answer = await http("POST", "/api/v1/tasks/echo/trigger", { body: { options: { idempotencyKey: "k".repeat(2049) } } });
    assert.equal(answer.status, 400);
  },
  "a limit of its concurrency by name": async () => {
    const { id } = await tasks.trigger("echo", 1, { concurrency: "two" });
    assert.equal((await finished(id)).status, "COMPLETED");
  },
});

cases("idempotencyKeys.create", {
  "a list of parts with a scope is one key": async () => {
    const key = await idempotencyKeys.create([unique(), "b"], { scope: "global" });
    assert.match(key, /^[0-9a-f]{64}$/);
    const [first, again] = [
      await tasks.trigger("echo", 1, { idempotencyKey: key }),
      await tasks.trigger("echo", 1, { idempotencyKey: key }),
    ];
    assert.equal(first.id, again.id);
  },
});

cases("idempotencyKeys.reset", {
  "after it the key makes another run": async () => {
    const key = await idempotencyKeys.create(unique(), { scope: "global" });
    const first = await tasks.trigger("echo", 1, { idempotencyKey: key });
    assert.equal((await idempotencyKeys.reset("echo", key)).id, key);
    assert.notEqual((await tasks.trigger("echo", 1, { idempotencyKey: key })).id, first.id);
  },
  "a key as the user wrote it, with its scope": async () => {
    const text = unique();
    const idempotencyKey = await idempotencyKeys.create(text, { scope: "global" });
    const first = await tasks.trigger("echo", 1, { idempotencyKey });
    await idempotencyKeys.reset("echo", text, { scope: "global" });
    assert.notEqual((await tasks.trigger("echo", 1, { idempotencyKey })).id, first.id);
  },
  "a key that nobody used is 404": async () => {
    await refused(404, () => idempotencyKeys.reset("echo", "0".repeat(64)));
  },
});
