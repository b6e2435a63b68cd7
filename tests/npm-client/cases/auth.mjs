// Public access tokens, and what they open.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";

import { auth, batch, runs, tasks, wait } from "@trigger.dev/sdk";

import { cases } from "../cases.mjs";
import { as, finished, http, otherKey, refused, secretKey, unique } from "../support.mjs";

const claimsOf = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url"));

/** A token as anyone with the key could sign it. */
function signed(claims, { key = secretKey, header = { alg: "HS256" } } = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part(header)}.${part(claims)}`;
  return `${text}.${createHmac("sha256", key).update(text).digest("base64url")}`;
}

let made = 0;
/** Options of a token that is like no other: two that are signed in the same second with the same claims are one and the same. */
const alone = () => ({ expirationTime: Math.floor(Date.now() / 1000) + 900 + made++ });

cases("auth.createPublicToken", {
  "opens what its scopes say": async () => {
    const tag = unique("tag");
    const { id } = await tasks.trigger("echo", 1, { tags: [tag], delay: "1h" });
    const opens = async (scopes) => as(await auth.createPublicToken({ scopes }), () => runs.retrieve(id));
    for (const scopes of [{ read: { runs: true } }, { read: { runs: id } }, { read: { runs: ["x", id] } }, { read: { tags: [tag] } }, { read: { tasks: "echo" } }]) {
      assert.equal((await opens(scopes)).id, id);
    }
    for (const scopes of [{ read: { runs: "run_x" } }, { read: { tags: ["other"] } }, { write: { runs: id } }, { trigger: { tasks: "echo" } }]) {
      await refused(403, () => opens(scopes));
    }
    await runs.cancel(id);
  },
  "lists the runs of a task, and may cancel": async () => {
    const token = await auth.createPublicToken({ scopes: { read: { tasks: ["echo"] }, write: { runs: true } } });
    const { id } = await tasks.trigger("echo", 1, { delay: "1h" });
    await as(token, () => runs.list({ taskIdentifier: "echo" }));
    await refused(403, () => as(token, () => runs.list()));
    await refused(403, () => as(token, () => runs.list({ taskIdentifier: ["echo", "other"] })));
    assert.equal((await as(token, () => runs.cancel(id))).id, id);
  },
  "has the claims that were asked for": async () => {
    const claims = claimsOf(await auth.createPublicToken({ expirationTime: "1h", scopes: { read: { runs: true } }, realtime: { skipColumns: ["payload"] } }));
    assert.deepEqual([claims.pub, claims.scopes, claims.realtime], [true, ["read:runs"], { skipColumns: ["payload"] }]);
    assert.match(claims.sub, /^env_/);
  },
  "one that has expired, is changed or is signed by others opens nothing": async () => {
    const { id } = await tasks.trigger("echo", 1);
    const good = claimsOf(await auth.createPublicToken({ scopes: { read: { runs: true } } }));
    assert.equal((await as(signed(good), () => runs.retrieve(id))).id, id);
    const bad = [
      signed({ ...good, exp: Math.floor(Date.now() / 1000) - 1 }),
      signed({ ...good, iss: "https://example.com" }),
      signed({ ...good, aud: "https://example.com" }),
      signed({ ...good, pub: false }),
      signed({ ...good, sub: "env_00000000000000000000000000" }),
      signed(good, { key: "tr_dev_0123456789abcdef0123456789" }),
      signed(good, { key: otherKey }),
      signed(good, { header: { alg: "none" } }).replace(/[^.]+$/, ""),
      signed(good).slice(0, -3) + "AAA",
    ];
    for (const token of bad) await refused(401, () => as(token, () => runs.retrieve(id)));
  },
  "an additional key has it signed by the server": async () => {
    const { body } = await http("POST", "/api/v1/api-keys", { body: { name: unique() } });
    const additional = body.key ?? body.secret ?? body.apiKey;
    assert.match(additional ?? JSON.stringify(body), /^tr_dev_sk_[0-9A-Za-z]{24}$/);
    const { id } = await tasks.trigger("echo", 1);
    const token = await as(additional, () => auth.createPublicToken({ scopes: { read: { runs: id } }, expirationTime: "5m" }));
    assert.equal((await as(token, () => runs.retrieve(id))).id, id);
    const handle = await as(additional, () => tasks.trigger("echo", 2));
    assert.equal((await as(handle.publicAccessToken, () => runs.retrieve(handle.id))).id, handle.id);
    await refused(400, () => as(additional, () => auth.createPublicToken({ scopes: { read: { runs: true } }, expirationTime: "90d" })));
  },
});

cases("auth.createTriggerPublicToken", {
  "triggers its task once": async () => {
    const token = await auth.createTriggerPublicToken("echo", alone());
    const handle = await as(token, () => tasks.trigger("echo", 1));
    assert.equal((await finished(handle.id)).output, 1);
    assert.equal((await as(handle.publicAccessToken, () => runs.retrieve(handle.id))).id, handle.id);
    await refused(422, () => as(token, () => tasks.trigger("echo", 2)));
  },
  "another task is refused, and does not use it up": async () => {
    const token = await auth.createTriggerPublicToken("echo", alone());
    await refused(403, () => as(token, () => tasks.trigger("folder/echo", 1)));
    await as(token, () => tasks.trigger("echo", 1));
  },
  "of several tasks, and more than once": async () => {
    const token = await auth.createTriggerPublicToken(["echo", "folder/echo"], { multipleUse: true, expirationTime: "10m" });
    for (const task of ["echo", "folder/echo", "echo"]) await as(token, () => tasks.trigger(task, 1));
  },
});

cases("auth.createBatchTriggerPublicToken", {
  "triggers one batch of its task": async () => {
    const token = await auth.createBatchTriggerPublicToken("echo", alone());
    const handle = await as(token, () => tasks.batchTrigger("echo", [{ payload: 1 }, { payload: 2 }]));
    assert.equal(handle.runCount, 2);
    assert.equal((await as(handle.publicAccessToken, () => batch.retrieve(handle.batchId))).id, handle.batchId);
    const again = await as(token, () => tasks.batchTrigger("echo", [{ payload: 3 }])).then(() => undefined, (error) => error);
    assert.equal(again?.name, "BatchTriggerError");
  },
});

cases("auth.withPublicToken", {
  "what is called inside may what the token may": async () => {
    const { id } = await tasks.trigger("echo", 1);
    await auth.withPublicToken({ scopes: { read: { runs: id } } }, async () => {
      assert.equal((await runs.retrieve(id)).id, id);
      await refused(403, () => tasks.trigger("echo", 1));
    });
  },
});

cases("auth.withTriggerPublicToken", {
  "what is called inside triggers": async () => {
    await auth.withTriggerPublicToken("echo", alone(), async () => assert.match((await tasks.trigger("echo", 1)).id, /^run_/));
  },
});

cases("auth.withBatchTriggerPublicToken", {
  "what is called inside triggers a batch": async () => {
    await auth.withBatchTriggerPublicToken("echo", alone(), async () => assert.equal((await tasks.batchTrigger("echo", [{ payload: 1 }])).runCount, 1));
  },
});

cases("browsers", {
  "a preflight allows what the clients send, and answers show their headers": async () => {
    const answer = await fetch(`${process.env.TRIGGER_API_URL}/api/v1/tasks/echo/trigger`, {
      method: "OPTIONS",
      headers: {
        origin: "https://example.com",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,trigger-version,x-trigger-client,x-trigger-request-idempotency-key,traceparent",
      },
    });
    assert.ok(answer.ok);
    assert.equal(answer.headers.get("access-control-allow-origin"), "*");
    const allowed = answer.headers.get("access-control-allow-headers").toLowerCase();
    for (const name of ["authorization", "x-trigger-client", "trigger-version", "last-event-id"]) assert.ok(allowed.includes(name), name);
    const token = await auth.createTriggerPublicToken("echo", alone());
    const triggered = await http("POST", "/api/v1/tasks/echo/trigger", { key: token, body: {}, headers: { origin: "https://example.com", "x-trigger-client": "browser" } });
    assert.equal(triggered.status, 200);
    assert.match(triggered.headers.get("access-control-expose-headers").toLowerCase(), /x-trigger-jwt/);
    assert.ok(triggered.headers.get("x-trigger-jwt"));
  },
  "a token that a browser made its batch with also fills it": async () => {
    const token = await auth.createBatchTriggerPublicToken("echo", alone());
    const made = await http("POST", "/api/v3/batches", { key: token, body: { runCount: 1, taskIdentifiers: ["echo"] }, headers: { "x-trigger-client": "browser" } });
    assert.equal(made.status, 202);
    const items = await http("POST", `/api/v3/batches/${made.body.id}/items`, {
      key: made.headers.get("x-trigger-jwt"),
      body: JSON.stringify({ index: 0, task: "echo", payload: 1 }) + "\n",
      headers: { "content-type": "application/x-ndjson" },
    });
    assert.deepEqual([items.status, items.body.sealed], [200, true]);
  },
  "a token completes its waitpoint from a page": async () => {
    const token = await wait.createToken();
    const answer = await http("POST", `/api/v1/waitpoints/tokens/${token.id}/complete`, { key: token.publicAccessToken, body: { data: 1 }, headers: { origin: "https://example.com" } });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get("access-control-allow-origin"), "*");
  },
});
