// Waitpoint tokens and callback addresses.

import assert from "node:assert/strict";

import { tasks, wait, WaitpointTimeoutError } from "@trigger.dev/sdk";

import { cases } from "../cases.mjs";
import { all, as, eventually, finished, http, otherKey, refused, unique, withStatus } from "../support.mjs";

const absent = "waitpoint_00000000000000000000000000";

cases("wait.createToken", {
  "a token with everything": async () => {
    const tag = unique();
    const token = await wait.createToken({ timeout: "10m", tags: [tag, "b"], idempotencyKey: unique(), idempotencyKeyTTL: "1h" });
    assert.match(token.id, /^waitpoint_/);
    assert.equal(token.isCached, false);
    assert.ok(token.url.startsWith("http") && token.url.includes(token.id));
    const shown = await wait.retrieveToken(token);
    assert.deepEqual([shown.status, shown.tags], ["WAITING", [tag, "b"]]);
    assert.ok(Math.abs(shown.timeoutAt - Date.now() - 600_000) < 60_000);
  },
  "the same key is the same token": async () => {
    const idempotencyKey = unique();
    const [first, again] = [await wait.createToken({ idempotencyKey }), await wait.createToken({ idempotencyKey })];
    assert.deepEqual([again.id, again.isCached], [first.id, true]);
  },
  "its public token completes it and nothing else": async () => {
    const [one, other] = [await wait.createToken(), await wait.createToken()];
    await refused(403, () => as(one.publicAccessToken, () => wait.completeToken(other, 1)));
    await as(one.publicAccessToken, () => wait.completeToken(one, { yes: true }));
    assert.deepEqual((await wait.retrieveToken(one)).output, { yes: true });
  },
  "too many tags and a wrong timeout are refused": async () => {
    await refused(422, () => wait.createToken({ tags: Array.from({ length: 11 }, (_, n) => `t${n}`) }));
    await refused(400, () => wait.createToken({ timeout: "soon" }));
  },
});

cases("wait.completeToken", {
  "a run that waits for it goes on with the value": async () => {
    const token = await wait.createToken();
    const { id } = await tasks.trigger("await-token", token.id);
    await withStatus(id, "WAITING");
    assert.equal((await wait.completeToken(token, { answer: 42 })).success, true);
    assert.deepEqual((await finished(id)).output, { answer: 42 });
  },
  "the first value stays": async () => {
    const token = await wait.createToken();
    await wait.completeToken(token.id, 1);
    assert.equal((await wait.completeToken(token.id, 2)).success, true);
    assert.equal((await wait.retrieveToken(token.id)).output, 1);
  },
  "nothing and null are values": async () => {
    for (const value of [undefined, null, "", 0, false]) {
      const token = await wait.createToken();
      await wait.completeToken(token, value);
      const { status, output } = await wait.retrieveToken(token);
      assert.deepEqual([status, output ?? null], ["COMPLETED", value ?? null]);
    }
  },
  "one that is not there, or is another environment's, is 404": async () => {
    await refused(404, () => wait.completeToken(absent, 1));
    const token = await wait.createToken();
    await refused(404, () => as(otherKey, () => wait.completeToken(token, 1)));
  },
});

cases("wait.retrieveToken", {
  "one that timed out has an error": async () => {
    const token = await wait.createToken({ timeout: "1s" });
    const shown = await eventually("it times out", async () => {
      const shown = await wait.retrieveToken(token);
      return shown.status === "TIMED_OUT" ? shown : undefined;
    });
    assert.ok(shown.error instanceof WaitpointTimeoutError);
    assert.match(shown.error.message, /timed out/);
  },
  "one that is not there is 404": async () => refused(404, () => wait.retrieveToken(absent)),
});

cases("wait.listTokens", {
  "by tag, status and key, page by page": async () => {
    const tag = unique();
    const made = [];
    for (let n = 0; n < 3; n++) made.push((await wait.createToken({ tags: [tag], idempotencyKey: `${tag}-${n}` })).id);
    await wait.completeToken(made[0], 1);
    const of = async (filter) => (await all(wait.listTokens({ limit: 2, ...filter }))).map(({ id }) => id);
    assert.deepEqual(await of({ tags: [tag] }), made.toReversed());
    assert.deepEqual(await of({ tags: [tag], status: "COMPLETED" }), [made[0]]);
    assert.deepEqual(await of({ tags: [tag], status: ["WAITING"], period: "1d" }), [made[2], made[1]]);
    assert.deepEqual(await of({ idempotencyKey: `${tag}-1` }), [made[1]]);
  },
});

cases("wait callback URLs", {
  "a POST of JSON completes the token without a key": async () => {
    const token = await wait.createToken();
    const answer = await http("POST", token.url, { key: null, body: { from: "elsewhere" } });
    assert.deepEqual([answer.status, answer.body], [200, { success: true }]);
    assert.deepEqual((await wait.retrieveToken(token)).output, { from: "elsewhere" });
    assert.equal(answer.headers.get("access-control-allow-origin"), null);
  },
  "what is not JSON becomes an empty object, a wrong address is 401": async () => {
    const token = await wait.createToken();
    assert.equal((await http("POST", token.url.slice(0, -2) + "00", { key: null, body: {} })).status, 401);
    assert.equal((await http("POST", token.url, { key: null, body: "not json" })).status, 200);
    assert.deepEqual((await wait.retrieveToken(token)).output, {});
  },
});
