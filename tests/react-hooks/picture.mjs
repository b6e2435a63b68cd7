// The picture in the documentation: every hook on one page, in the middle of what it does.

import { eventually, batch, http, publicToken, retrieve, trigger, unique } from "./support.mjs";

/** Takes it to a path. `open` opens a page, `api` is where the page finds the server. */
export async function picture(open, api, path) {
  const [tag, checked] = [unique("chapter"), unique("checks")];
  const tokenId = (await http("POST", "/api/v1/waitpoints/tokens", {})).id;
  const token = await publicToken(["read:runs", "trigger:tasks", "write:waitpoints", "write:inputStreams"]);
  const asks = await trigger("draft", { paceMs: 10, token: tokenId });
  await eventually("the draft is there", async () => (await retrieve(asks)).status === "WAITING");
  const writes = await trigger("draft", { paceMs: 260 });

  const about = ["spelling", "links", "figures", "names", "licences"];
  for (const [number, what] of about.entries()) {
    await trigger("check", { what, ms: number < 3 ? 200 : 60_000, isWrong: number === 1 }, { tags: [tag], metadata: { what }, delay: number === 4 ? "1h" : undefined });
  }
  const items = Array.from({ length: 36 }, (_, n) => ({
    task: "check",
    payload: { what: `page ${n}`, ms: n < 23 ? 100 + 60 * n : 60_000, isWrong: n === 9 || n === 17 },
    options: { tags: [checked] },
  }));
  const batchId = await batch(items);

  const page = await open(
    [
      { hook: "useRealtimeRun", runId: writes, title: "A draft is written" },
      { hook: "useRealtimeStream", runId: writes, stream: "text", title: "…and read while it is", wide: true },
      { hook: "useRealtimeBatch", batchId, title: "36 pages are checked" },
      { hook: "useRealtimeRunsWithTag", tag, title: "What belongs to chapter 7" },
      { hook: "useWaitToken", tokenId },
      { hook: "useInputStreamSend", runId: writes, stream: "notes" },
      { hook: "useRealtimeRunWithStreams", runId: writes },
      { hook: "useRun", runId: asks, title: "A run that sleeps", note: "It is a snapshot on a disk until somebody answers." },
      { hook: "useTaskTrigger", task: "check", payload: { what: "it", ms: 100 } },
      { hook: "useRealtimeTaskTrigger", task: "draft", payload: { paceMs: 90 } },
      { hook: "useRealtimeTaskTriggerWithStreams", task: "draft", payload: { paceMs: 70 } },
    ],
    { token, api, shownUrl: "dormouse.example.org", ignoreHTTPSErrors: true, viewport: { width: 1400, height: 900 }, deviceScaleFactor: 1.5 }
  );
  await page.press("useTaskTrigger", "Trigger check");
  await page.press("useRealtimeTaskTrigger", "Trigger draft");
  await page.press("useRealtimeTaskTriggerWithStreams", "Trigger draft");
  await page.say("Mention the snapshot");
  await page.shows("useRealtimeRunWithStreams", "heard", "1 chunks");
  await page.say("Keep it short");
  await page.shows("useRealtimeRun", "progress", /^[7-9]\d%$/);
  await page.page.evaluate(() => document.fonts.ready);
  await page.page.screenshot({ path, fullPage: true });
}
