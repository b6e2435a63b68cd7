// The web's own `fetch`, with a wait where the test wants it. Nothing is dropped before the end: that is the collector's affair.

import { forDuration } from "dormouse:task/wait@0.1.0";

export interface Fetching {
  url: string;
  method?: string;
  body?: string;
  headers?: Record<string, string>;
  /** After the first piece of the answer, or after the last. */
  wait?: "middle" | "after";
  ms?: number;
  /** With `setTimeout` instead of the host's wait. */
  isSleep?: boolean;
}

export async function fetching({ url, method, body, headers, wait, ms = 0, isSleep }: Fetching) {
  const pause = async (at: string) => {
    if (at !== wait) return;
    if (isSleep) await new Promise<void>((resolve) => setTimeout(resolve, ms));
    else forDuration(BigInt(ms));
  };
  const response = await fetch(url, { method, body, headers });
  const decoder = new TextDecoder();
  let [text, length] = ["", 0];
  if (response.body) {
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (length === 0) await pause("middle");
      length += value.length;
      text = (text + decoder.decode(value, { stream: true })).slice(0, 100);
    }
  }
  await pause("after");
  return { status: response.status, ok: response.ok, text, length, kind: response.headers.get("content-length") };
}
