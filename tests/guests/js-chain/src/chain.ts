// The task that waits from everywhere.

import { Mode, Pauses } from "./pauses";
import { scenes } from "./scenes";

interface Chain {
  /** How many waits. */
  n: number;
  mode?: Mode;
  /** Milliseconds that each takes. */
  ms?: number;
  /** Only this scene, to look into it; it has to wait in the mode asked for. */
  scene?: string;
}

/** Goes through all scenes until the waits are used up. What it returns depends on `n` and `mode` alone. */
export async function chain({ n, mode = "wait", ms = 1, scene }: Chain) {
  const pauses = new Pauses(n, mode, ms);
  const words = ["dormouse"];
  const played = Object.entries(scenes).filter(([name]) => scene === undefined || name === scene);
  let rounds = 0;
  while (pauses.areLeft) {
    rounds++;
    for (const [name, play] of played) {
      pauses.digest.text(name);
      pauses.digest.number(await play(pauses, rounds));
    }
    words.push(`${words.at(-1)!.length}-${rounds}`);
    pauses.digest.text(words.join(""));
    console.log(`round ${rounds} done after ${pauses.done} waits`);
  }
  console.error(`${words.length} words at the end`);
  return { digest: pauses.digest.toString(), waits: pauses.done, rounds, words };
}
