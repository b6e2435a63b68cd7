// The waits of a run: at most as many as asked for, of the kind asked for, each leaving its trace.

import { log } from "dormouse:task/telemetry@0.1.0";
import { forDuration, until } from "dormouse:task/wait@0.1.0";

import { Digest } from "./digest";

/** Through the functions of `dormouse:task/wait`, with `setTimeout`, or one after the other. */
export type Mode = "wait" | "sleep" | "mixed";

export class Pauses {
  readonly digest = new Digest();
  done = 0;

  constructor(private left: number, private mode: Mode, private ms: number) {}

  get areLeft() {
    return this.left > 0;
  }

  /**
   * Waits if a wait is left, and notes `seen` before and after it. JavaScript has no sleep that blocks, so this is the host's
   * wait in every mode; in mode `sleep` it is none.
   */
  pause(seen: number | bigint) {
    if (this.left === 0 || this.mode === "sleep") return;
    const number = this.#begin(seen);
    this.#waitOnTheHost(number);
    this.#end(seen, number);
  }

  /** The same where one may await. */
  async sleep(seen: number | bigint) {
    if (this.left === 0) return;
    const number = this.#begin(seen);
    if (this.mode === "sleep" || (this.mode === "mixed" && number % 2 === 1)) {
      await new Promise<void>((resolve) => setTimeout(resolve, this.ms));
    } else {
      this.#waitOnTheHost(number);
    }
    this.#end(seen, number);
  }

  #begin(seen: number | bigint) {
    this.left--;
    this.done++;
    this.digest.number(seen);
    console.log(`pause ${this.done}: ${seen}`);
    return this.done;
  }

  #waitOnTheHost(number: number) {
    if (number % 4 === 0) until(BigInt(Date.now() + Math.ceil(this.ms)));
    else forDuration(BigInt(Math.ceil(this.ms)));
  }

  #end(seen: number | bigint, number: number) {
    this.digest.number(seen);
    this.digest.number(number);
    if (number % 7 === 0) {
      log("info", "woken", JSON.stringify({ number, digest: this.digest.toString() }), undefined);
    }
  }
}
