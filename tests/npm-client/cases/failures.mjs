// What goes wrong between client and server.

import assert from "node:assert/strict";

import { runs, tasks, wait } from "@trigger.dev/sdk";

import { cases } from "../cases.mjs";
import { all, as, finished, http, proxied, refused, unique } from "../support.mjs";

cases("errors and retries", {
  "a wrong key, none, and a token instead of a key": async () => {
    for (const key of ["tr_dev_0123456789abcdef0123", "nonsense"]) {
      const error = await refused(401, () => as(key, () => tasks.trigger("echo", 1)));
      assert.deepEqual([error.name, error.message], ["TriggerApiError", "Invalid API key"]);
    }
    assert.equal((await http("GET", "/api/v1/runs", { key: null })).status, 401);
    const handle = await tasks.trigger("echo", 1);
    await refused(401, () => as(handle.publicAccessToken, () => wait.createToken()));
  },
  "a trigger whose answer was lost makes one run": async () => {
    const tag = unique("lost");
    const { came, connections } = await proxied(["swallow", "swallow", undefined], () => tasks.trigger("echo", 1, { tags: [tag] }));
    assert.equal(connections(), 3);
    assert.deepEqual((await all(runs.list({ tag }))).map(({ id }) => id), [came.id]);
    assert.equal((await finished(came.id)).output, 1);
  },
  "a connection that is refused is tried again": async () => {
    const { came } = await proxied(["refuse", undefined], () => tasks.trigger("echo", 1));
    assert.match(came.id, /^run_/);
  },
  "a request that broke off in the middle is sent again": async () => {
    const { came } = await proxied(["halve", undefined], () => tasks.trigger("echo", { text: "x".repeat(50_000) }));
    assert.equal((await finished(came.id)).output.text.length, 50_000);
  },
  "answers lost of other calls do no harm": async () => {
    const idempotencyKey = unique();
    const { came } = await proxied(["swallow", undefined], () => wait.createToken({ idempotencyKey }));
    assert.equal((await wait.createToken({ idempotencyKey })).id, came.id);
    const { id } = await tasks.trigger("echo", 1, { delay: "1h" });
    assert.equal((await proxied(["swallow", undefined], () => runs.cancel(id))).came.id, id);
  },
  "what is refused is not tried again": async () => {
    const { connections } = await proxied([], () => refused(422, () => tasks.trigger("echo", 1, { version: "20000101.1" })));
    assert.equal(connections(), 1);
  },
  "a body that is too large is 413": async () => {
    const answer = await http("POST", "/api/v1/tasks/echo/trigger", { body: JSON.stringify({ payload: "x".repeat(3_200_000) }) });
    assert.equal(answer.status, 413);
    assert.match(answer.body.error, /3145728/);
  },
  "every answer names its request": async () => {
    assert.ok((await http("GET", "/api/v1/runs")).headers.get("x-request-id"));
    const given = await http("GET", "/api/v1/runs", { headers: { "x-request-id": "my-own-id" } });
    assert.equal(given.headers.get("x-request-id"), "my-own-id");
  },
});
