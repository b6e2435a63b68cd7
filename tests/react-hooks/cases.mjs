// What each hook is expected to do, on both sides: with what it needs, and without.

import assert from "node:assert/strict";

import { batch, eventually, http, publicToken, retrieve, trigger, unique } from "./support.mjs";

/** What `draft` writes in these cases. */
const whole = "A dormouse sleeps for half a year and wakes up where it ";
const WORDS = whole.trim().split(" ").length;
/** All that it can write. */
const ALL_WORDS = 45;
/** What a token without the right to it brings. */
const refusal = /Unauthorized/;

/** Tokens that are good, but for something else. */
const elsewhere = () => publicToken(["read:runs:run_00000000000000000000000000", "trigger:tasks:other", "write:waitpoints:waitpoint_other"]);

/** A token that was good. */
async function expired(scopes) {
  const token = await publicToken(scopes, { expirationTime: Math.floor(Date.now() / 1000) + 2 });
  await new Promise((resolve) => setTimeout(resolve, 2_100));
  return token;
}

const waitToken = async () => (await http("POST", "/api/v1/waitpoints/tokens", {})).id;
const paced = (paceMs, more = {}) => ({ paceMs, words: WORDS, ...more });
const fast = paced(5);

/** By hook and name: which cards the page shows, and what comes of them. */
export const cases = {
  useRun: {
    "asks again until the run is over": async ({ open }) => {
      const runId = await trigger("draft", paced(60));
      const page = await open([{ hook: "useRun", runId, token: await publicToken([`read:runs:${runId}`]) }]);
      await page.shows("useRun", "status", "COMPLETED");
      await page.shows("useRun", "task", "draft");
    },
    "shows that its token is not enough": async ({ open }) => {
      const page = await open([{ hook: "useRun", runId: await trigger("draft", fast), token: await elsewhere() }]);
      await page.refuses("useRun", refusal);
    },
  },
  useRealtimeRun: {
    "follows status and metadata to the end, and is told of it once": async ({ open }) => {
      const runId = await trigger("draft", paced(100));
      const page = await open([{ hook: "useRealtimeRun", runId, token: await publicToken([`read:runs:${runId}`]) }]);
      await page.shows("useRealtimeRun", "progress", /^[1-9]\d?%$/);
      await page.shows("useRealtimeRun", "status", "COMPLETED");
      await page.shows("useRealtimeRun", "progress", "100%");
      await page.shows("useRealtimeRun", "step", "published");
      await page.shows("useRealtimeRun", "told", "the end, once");
    },
    "many on a page do not wait for each other behind a proxy that speaks HTTP/2": async ({ open, proxied }) => {
      const tokenId = await waitToken();
      const runId = await trigger("draft", { ...fast, token: tokenId });
      await eventually("the run waits", async () => (await retrieve(runId)).status === "WAITING");
      const token = await publicToken([`read:runs:${runId}`, "write:waitpoints"]);
      const readers = Array.from({ length: 9 }, () => ({ hook: "useRealtimeRun", runId }));
      const page = await open([...readers, { hook: "useWaitToken", tokenId }], { token, api: proxied, ignoreHTTPSErrors: true });
      for (const place of readers.keys()) await page.shows("useRealtimeRun", "status", "WAITING", { place });
      await page.press("useWaitToken", "Publish");
      // Nobody's request had to end first: they are held for longer than this.
      for (const place of readers.keys()) await page.shows("useRealtimeRun", "status", "COMPLETED", { place, withinMs: 10_000 });
    },
    "does not get what its token hides": async ({ open }) => {
      const runId = await trigger("draft", fast);
      const token = await publicToken([`read:runs:${runId}`], { realtime: { skipColumns: ["metadata"] } });
      const page = await open([{ hook: "useRealtimeRun", runId, token }]);
      await page.shows("useRealtimeRun", "status", "COMPLETED");
      assert.equal(await page.shown("useRealtimeRun", "progress"), "0%");
    },
    "shows that its token has expired": async ({ open }) => {
      const runId = await trigger("draft", fast);
      const page = await open([{ hook: "useRealtimeRun", runId, token: await expired([`read:runs:${runId}`]) }]);
      await page.refuses("useRealtimeRun", /Public access token has expired/);
    },
    "shows that its token is not enough": async ({ open }) => {
      const page = await open([{ hook: "useRealtimeRun", runId: await trigger("draft", fast), token: await elsewhere() }]);
      await page.refuses("useRealtimeRun", refusal);
    },
  },
  useRealtimeRunWithStreams: {
    "has the run and all chunks of its streams": async ({ open }) => {
      const runId = await trigger("draft", paced(60));
      const token = await publicToken([`read:runs:${runId}`]);
      const page = await open([{ hook: "useRealtimeRunWithStreams", runId, token }]);
      await page.shows("useRealtimeRunWithStreams", "text", /where it $/);
      assert.match(await page.card("useRealtimeRunWithStreams").textContent(), new RegExp(`${WORDS} chunks`));
      await page.shows("useRealtimeRunWithStreams", "status", "COMPLETED");
    },
    "shows that its token is not enough": async ({ open }) => {
      const page = await open([{ hook: "useRealtimeRunWithStreams", runId: await trigger("draft", fast), token: await elsewhere() }]);
      await page.refuses("useRealtimeRunWithStreams", refusal);
    },
  },
  useRealtimeRunsWithTag: {
    "has the runs that are there, and those that are made later": async ({ open }) => {
      const tag = unique("tag");
      const check = (what) => trigger("check", { what, ms: 300 }, { tags: [tag] });
      await check("before");
      const page = await open([{ hook: "useRealtimeRunsWithTag", tag, token: await publicToken([`read:tags:${tag}`]) }]);
      await page.shows("useRealtimeRunsWithTag", "run", /^before/);
      await check("later");
      await page.shows("useRealtimeRunsWithTag", "run", "beforeCOMPLETED|laterCOMPLETED");
    },
    "shows that its token is not enough": async ({ open }) => {
      const page = await open([{ hook: "useRealtimeRunsWithTag", tag: unique("tag"), token: await publicToken(["read:tags:another"]) }]);
      await page.refuses("useRealtimeRunsWithTag", refusal);
    },
  },
  useRealtimeBatch: {
    "has all runs of a batch, and their ends": async ({ open }) => {
      const check = (n) => ({ task: "check", payload: { what: `${n}`, ms: 200, isWrong: n === 3 } });
      const batchId = await batch([1, 2, 3, 4, 5].map(check));
      const page = await open([{ hook: "useRealtimeBatch", batchId, token: await publicToken([`read:batch:${batchId}`]) }]);
      await page.shows("useRealtimeBatch", "all", "5");
      await page.shows("useRealtimeBatch", "over", "5");
      await page.shows("useRealtimeBatch", "failed", "1 failed");
    },
    "shows that its token is not enough": async ({ open }) => {
      const batchId = await batch([{ task: "check", payload: { what: "it", ms: 1 } }]);
      const page = await open([{ hook: "useRealtimeBatch", batchId, token: await elsewhere() }]);
      await page.refuses("useRealtimeBatch", refusal);
    },
  },
  useRealtimeStream: {
    "has every chunk, once, while they come": async ({ open }) => {
      const runId = await trigger("draft", paced(60));
      const token = await publicToken([`read:runs:${runId}`]);
      const page = await open([{ hook: "useRealtimeStream", runId, stream: "text", token }]);
      await page.shows("useRealtimeStream", "text", whole);
      assert.deepEqual([await page.shown("useRealtimeStream", "chunks"), await page.shown("useRealtimeStream", "last")], [`${WORDS}`, `${WORDS - 1}`]);
    },
    "begins where it is told to": async ({ open }) => {
      const runId = await trigger("draft", fast);
      await eventually("the run ends", async () => (await retrieve(runId)).isCompleted);
      const card = { hook: "useRealtimeStream", runId, stream: "text", token: await publicToken([`read:runs:${runId}`]) };
      const page = await open([
        { ...card, startIndex: WORDS - 2 },
        { ...card, lastEventId: `${WORDS - 4}` },
      ]);
      await page.shows("useRealtimeStream", "text", "where it ");
      await page.shows("useRealtimeStream", "text", "up where it ", { place: 1 });
    },
    "has only what comes, or only the last of it, if that is what it wants": async ({ open }) => {
      const runId = await trigger("draft", paced(400));
      await eventually("it has begun", async () => (await retrieve(runId)).metadata?.progress >= 10);
      const card = { hook: "useRealtimeStream", runId, stream: "text", token: await publicToken([`read:runs:${runId}`]), from: "latest" };
      const page = await open([card, { ...card, maxParts: 1 }]);
      await page.shows("useRealtimeStream", "text", /^(?!A dormouse).*where it $/);
      await page.shows("useRealtimeStream", "text", "it ", { place: 1 });
    },
    "exchanges a token that has expired for a fresh one, and goes on": async ({ open }) => {
      const runId = await trigger("draft", fast);
      const scopes = [`read:runs:${runId}`];
      const [token, freshToken] = [await expired(scopes), await publicToken(scopes)];
      const page = await open([{ hook: "useRealtimeStream", runId, stream: "text", token, freshToken }]);
      await page.shows("useRealtimeStream", "text", whole);
    },
    "shows that its token is not enough": async ({ open }) => {
      const page = await open([{ hook: "useRealtimeStream", runId: await trigger("draft", fast), stream: "text", token: await elsewhere() }]);
      await page.refuses("useRealtimeStream", /403/);
    },
  },
  useTaskTrigger: {
    "triggers, with options, and has a handle": async ({ open }) => {
      const tag = unique("tag");
      const token = await publicToken(["trigger:tasks:check"]);
      const page = await open([{ hook: "useTaskTrigger", task: "check", payload: { what: "it", ms: 1 }, options: { tags: [tag] }, token }]);
      await page.press("useTaskTrigger", "Trigger check");
      await page.shows("useTaskTrigger", "run", /^run_…/);
      const { data } = await http("GET", `/api/v1/runs?filter%5Btag%5D=${tag}`);
      assert.deepEqual(data.map(({ taskIdentifier }) => taskIdentifier), ["check"]);
    },
    "shows that its token is not enough": async ({ open }) => {
      const page = await open([{ hook: "useTaskTrigger", task: "check", payload: {}, token: await elsewhere() }]);
      await page.press("useTaskTrigger", "Trigger check");
      await page.refuses("useTaskTrigger", refusal);
    },
  },
  useRealtimeTaskTrigger: {
    "triggers, and follows with the token that the answer brings": async ({ open }) => {
      const page = await open([{ hook: "useRealtimeTaskTrigger", task: "draft", payload: fast, token: await publicToken(["trigger:tasks:draft"]) }]);
      await page.press("useRealtimeTaskTrigger", "Trigger draft");
      await page.shows("useRealtimeTaskTrigger", "status", "COMPLETED");
      await page.shows("useRealtimeTaskTrigger", "progress", "100%");
    },
    "shows that its token is not enough": async ({ open }) => {
      const page = await open([{ hook: "useRealtimeTaskTrigger", task: "draft", payload: fast, token: await elsewhere() }]);
      await page.press("useRealtimeTaskTrigger", "Trigger draft");
      await page.refuses("useRealtimeTaskTrigger", refusal);
    },
    "a token for one use triggers once": async ({ open }) => {
      const token = await publicToken(["trigger:tasks:draft"], { oneTimeUse: true });
      const page = await open([{ hook: "useRealtimeTaskTrigger", task: "draft", payload: fast, token }]);
      await page.press("useRealtimeTaskTrigger", "Trigger draft");
      await page.shows("useRealtimeTaskTrigger", "status", "COMPLETED");
      await page.press("useRealtimeTaskTrigger", "Trigger draft");
      await page.refuses("useRealtimeTaskTrigger", /one-time use token as it has already been used/);
    },
  },
  useRealtimeTaskTriggerWithStreams: {
    "triggers, and reads what the run says": async ({ open }) => {
      const token = await publicToken(["trigger:tasks:draft"]);
      const page = await open([{ hook: "useRealtimeTaskTriggerWithStreams", task: "draft", payload: fast, token }]);
      await page.press("useRealtimeTaskTriggerWithStreams", "Trigger draft");
      await page.shows("useRealtimeTaskTriggerWithStreams", "text", /where it $/);
      await page.shows("useRealtimeTaskTriggerWithStreams", "status", "COMPLETED");
    },
    "shows that its token is not enough": async ({ open }) => {
      const page = await open([{ hook: "useRealtimeTaskTriggerWithStreams", task: "draft", payload: fast, token: await elsewhere() }]);
      await page.press("useRealtimeTaskTriggerWithStreams", "Trigger draft");
      await page.refuses("useRealtimeTaskTriggerWithStreams", refusal);
    },
  },
  useWaitToken: {
    "wakes the run that waits": async ({ open }) => {
      const tokenId = await waitToken();
      const runId = await trigger("draft", { ...fast, token: tokenId });
      await eventually("the run waits", async () => (await retrieve(runId)).status === "WAITING");
      const page = await open([{ hook: "useWaitToken", tokenId, token: await publicToken([`write:waitpoints:${tokenId}`]) }]);
      await page.press("useWaitToken", "Publish");
      await page.shows("useWaitToken", "answer", /^Answered/);
      await eventually("the run ends", async () => (await retrieve(runId)).isCompleted);
      assert.equal((await retrieve(runId)).output.published, true);
    },
    "shows that its token is not enough": async ({ open }) => {
      const page = await open([{ hook: "useWaitToken", tokenId: await waitToken(), token: await elsewhere() }]);
      await page.press("useWaitToken", "Publish");
      await page.refuses("useWaitToken", refusal);
    },
  },
  useInputStreamSend: {
    "is heard by the run": async ({ open }) => {
      const tokenId = await waitToken();
      const runId = await trigger("draft", { ...fast, token: tokenId });
      const page = await open([
        { hook: "useInputStreamSend", runId, stream: "notes", token: await publicToken([`write:inputStreams:${runId}`]) },
        { hook: "useRealtimeStream", runId, stream: "heard", token: await publicToken([`read:runs:${runId}`]) },
      ]);
      await page.say("shorter");
      await page.shows("useRealtimeStream", "text", "shorter");
      await http("POST", `/api/v1/waitpoints/tokens/${tokenId}/complete`, { data: { approved: false } });
      await eventually("the run ends", async () => (await retrieve(runId)).isCompleted);
      assert.deepEqual((await retrieve(runId)).output, { words: WORDS, notes: ["shorter"], published: false });
    },
    "shows that a run is over": async ({ open }) => {
      const runId = await trigger("draft", fast);
      await eventually("the run ends", async () => (await retrieve(runId)).isCompleted);
      const page = await open([{ hook: "useInputStreamSend", runId, stream: "notes", token: await publicToken(["write:inputStreams"]) }]);
      await page.say("too late");
      await page.refuses("useInputStreamSend", /completed run/);
    },
    "shows that its token is not enough": async ({ open }) => {
      const page = await open([{ hook: "useInputStreamSend", runId: await trigger("draft", fast), stream: "notes", token: await elsewhere() }]);
      await page.say("not heard");
      await page.refuses("useInputStreamSend", refusal);
    },
  },
};

/** With the server killed in the middle of it. `kill` says that now is the time. */
export async function survives({ open, kill }) {
  const tag = unique("tag");
  const runId = await trigger("draft", { paceMs: 200 }, { tags: [tag] });
  const batchId = await batch([500, 6_000].map((ms) => ({ task: "check", payload: { what: `${ms}`, ms } })));
  const reader = await publicToken([`read:runs:${runId}`]);
  const page = await open([
    { hook: "useRealtimeRun", runId, token: reader },
    { hook: "useRealtimeStream", runId, stream: "text", token: reader },
    { hook: "useRealtimeRunsWithTag", tag, token: await publicToken([`read:tags:${tag}`]) },
    { hook: "useRealtimeBatch", batchId, token: await publicToken([`read:batch:${batchId}`]) },
    { hook: "useInputStreamSend", runId, stream: "notes", token: await publicToken([`write:inputStreams:${runId}`]) },
  ]);
  await page.shows("useRealtimeRun", "progress", /^1\d%$/);
  await page.shows("useRealtimeBatch", "all", "2");
  kill();
  await page.say("sent while the server was away");
  const withinMs = 60_000;
  await page.shows("useRealtimeRun", "told", "the end, once", { withinMs });
  await page.shows("useRealtimeRun", "status", "COMPLETED", { withinMs });
  await page.shows("useRealtimeStream", "chunks", `${ALL_WORDS}`, { withinMs });
  await page.shows("useRealtimeStream", "text", /^A dormouse sleeps .* the call returns\.$/);
  await page.shows("useRealtimeRunsWithTag", "run", "draftCOMPLETED", { withinMs });
  await page.shows("useRealtimeBatch", "over", "2", { withinMs });
  const ended = await retrieve(runId);
  assert.deepEqual([ended.output.notes, ended.attemptCount], [["sent while the server was away"], 1]);
}
