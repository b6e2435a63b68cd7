// One function for each kind of call stack and state that a wait may find. Every value that lives across a wait goes into the
// digest after it.

import { Pauses } from "./pauses";

type Scene = (pauses: Pauses, round: number) => number | bigint | Promise<number | bigint>;

/** In a fixed order. */
export const scenes: Record<string, Scene> = {
  recursion: (pauses, round) => recursion(pauses, 1 + (round % 40), round),
  ackermann: (pauses, round) => ackermann(pauses, 2, (round % 3) + 1),
  numbers,
  sort,
  iterators,
  methods,
  proxies,
  collections,
  formatting,
  buffers,
  exceptions,
  asyncRecursion: (pauses, round) => asyncRecursion(pauses, 1 + (round % 12), round),
  pendingPromises,
  asyncIterators,
  otherTimers,
};

/** A frame with a text, an object and a float in each of `depth` calls. */
function recursion(pauses: Pauses, depth: number, seed: number): number {
  const text = `level ${depth}`;
  const ratio = seed / (depth + 1);
  const held = { depth, marks: [seed, depth] };
  let below = seed;
  if (depth === 0) pauses.pause(seed);
  else below = recursion(pauses, depth - 1, (seed * 31 + depth) % 1_000_003);
  if (depth % 8 === 0) pauses.pause(below);
  pauses.digest.text(text);
  pauses.digest.number(ratio);
  return (below + held.marks[0] * 7 + held.depth + text.length) % 1_000_003;
}

/** Recursion in argument position: the caller's operands lie on the interpreter's stack when the wait comes. */
function ackermann(pauses: Pauses, m: number, n: number): number {
  if (m === 0) {
    pauses.pause(n);
    return n + 1;
  }
  if (n === 0) return ackermann(pauses, m - 1, 1);
  return n * 1000 + ackermann(pauses, m - 1, ackermann(pauses, m, n - 1) % 5) + m;
}

function numbers(pauses: Pauses, round: number) {
  let [x, y] = [Math.sqrt(round), Math.sin(round)];
  let wide = (BigInt(round) << 70n) | 0x123456789abcdef0n;
  let small = Math.imul(round, 0x9e3779b1);
  for (let step = 1; step <= 4; step++) {
    pauses.pause(x);
    [x, y] = [x * 1.5 + y, y - x / step + (pauses.pause(y), Math.fround(y))];
    wide = BigInt.asIntN(128, wide * 7n) ^ BigInt(small);
    pauses.pause(wide);
    small = ((small << 5) | (small >>> 27)) ^ step;
  }
  pauses.digest.text(`${x} ${y} ${wide} ${-0} ${NaN} ${1 / small}`);
  return wide ^ (wide >> 64n);
}

/** Waits inside the comparator, below the frames of the engine's own sort. */
function sort(pauses: Pauses, round: number) {
  let comparisons = 0;
  const compare = (left: number, right: number) => {
    comparisons++;
    if (comparisons % 50 === 0) pauses.pause(comparisons * 65_536 + left);
    return left - right;
  };
  const values = Array.from({ length: 48 }, (_, i) => (i * 7_919 + round * 104_729) % 1_009);
  values.sort(compare);
  const typed = Uint16Array.from(values, (value) => value % 100).sort((left, right) => compare(right, left));
  if (values.some((value, at) => at > 0 && values[at - 1] > value)) throw new Error("the values are not sorted");
  if (typed.some((value, at) => at > 0 && typed[at - 1] < value)) throw new Error("the typed values are not sorted");
  return typed.reduce((sum, key) => (sum * 31 + key) % 1_000_003, comparisons);
}

function* counted(pauses: Pauses, from: number, to: number): Generator<number, number, number | undefined> {
  let sum = 0;
  try {
    for (let at = from; at < to; at++) {
      pauses.pause(at);
      sum += (yield at * 2) ?? 1;
    }
  } finally {
    pauses.pause(sum);
  }
  return sum;
}

function* nested(pauses: Pauses, round: number): Generator<number, void, number | undefined> {
  yield* [round, round + 1];
  const sum = yield* counted(pauses, 1, 4);
  yield sum;
}

class Countdown {
  constructor(private pauses: Pauses, private from: number) {}

  [Symbol.iterator]() {
    return this;
  }

  next() {
    this.pauses.pause(this.from);
    return this.from > 0 ? { value: this.from--, done: false } : { value: undefined, done: true };
  }

  return() {
    this.pauses.pause(this.from * 100);
    return { value: undefined, done: true };
  }
}

/** Generators, and iterators that the engine itself calls. */
function iterators(pauses: Pauses, round: number) {
  let sum = 0;
  for (const value of nested(pauses, round)) sum = sum * 3 + value;
  // Left early: `finally` and `return` wait too.
  for (const value of counted(pauses, 10, 20)) if (value > 22) break;
  const [first, second] = new Countdown(pauses, 4) as Iterable<any>;
  const all = [...(new Countdown(pauses, 2) as Iterable<any>)];
  const spoken = counted(pauses, 0, 3);
  spoken.next();
  const told = [spoken.next(5).value, spoken.next(7).value, spoken.next(round).value];
  const lengths = "the quick brown fox jumps over the lazy dog"
    .split(" ")
    .filter((word, at) => {
      pauses.pause(at * 10 + word.length);
      return (at + round) % 3 !== 0;
    })
    .map((word, at) => word.length * at);
  const folded = lengths.flatMap((length) => [length, length % 4]).reduceRight((fold, length) => {
    if (length % 2) pauses.pause(fold);
    return (fold * 5 + length) % 1_000_003;
  }, 7);
  return [sum, first, second, all.length, ...told, folded].reduce((total, value) => (total * 31 + Number(value)) % 1_000_003, 0);
}

abstract class Player {
  abstract play(pauses: Pauses): number;
}

class Counter extends Player {
  #count: number;

  constructor(pauses: Pauses, count: number) {
    super();
    pauses.pause(count);
    this.#count = count;
  }

  play(pauses: Pauses) {
    pauses.pause(this.#count);
    return ++this.#count;
  }
}

class Chorus extends Player {
  constructor(private players: Player[]) {
    super();
  }

  play(pauses: Pauses) {
    return this.players.reduce((sum, player) => sum * 3 + player.play(pauses), 1);
  }
}

/** Methods, constructors, closures, bound functions and `Reflect`. */
function methods(pauses: Pauses, round: number) {
  const heard: number[] = [round];
  const listener = new (class extends Counter {
    override play(pauses: Pauses) {
      heard.push(heard.length);
      pauses.pause(heard.length);
      return super.play(pauses) + heard.reduce((sum, value) => sum + value);
    }
  })(pauses, 3);
  const chorus = new Chorus([new Counter(pauses, 1), new Chorus([listener, new Counter(pauses, round)]), new Counter(pauses, 2)]);
  const bound = Chorus.prototype.play.bind(chorus);
  const made = Reflect.construct(Counter, [pauses, 9]);
  return chorus.play(pauses) + 2 * bound(pauses) + 3 * Reflect.apply(chorus.play, chorus, [pauses]) + made.play.call(made, pauses);
}

/** Waits in the traps of a proxy, in accessors and in conversions. */
function proxies(pauses: Pauses, round: number) {
  const target: Record<string, number> = { a: round };
  const proxy = new Proxy(target, {
    get(target, name: string) {
      pauses.pause(name.length);
      return target[name] ?? 0;
    },
    set(target, name: string, value) {
      pauses.pause(value);
      target[name] = value * 2;
      return true;
    },
    has(target, name) {
      pauses.pause(8);
      return Reflect.has(target, name);
    },
    ownKeys(target) {
      pauses.pause(9);
      return Reflect.ownKeys(target);
    },
  });
  proxy.bc = proxy.a + 5;
  const keys = "bc" in proxy ? Object.keys({ ...proxy }).join() : "";
  const convertible = {
    get length() {
      pauses.pause(round);
      return 3;
    },
    [Symbol.toPrimitive](hint: string) {
      pauses.pause(hint.length);
      return hint === "string" ? "text" : 12;
    },
  } as any;
  const list = Array.from(convertible as ArrayLike<undefined>);
  pauses.digest.text(`${keys} ${convertible} ${convertible * 2 + list.length}`);
  return proxy.bc;
}

function collections(pauses: Pauses, round: number) {
  const counts = new Map<string, number>();
  const seen = new Set<object>();
  const weak = new WeakMap<object, number>();
  for (let i = 0; i < 12; i++) {
    const key = { name: `key ${(i * round) % 5}` };
    counts.set(key.name, (counts.get(key.name) ?? 0) + i);
    weak.set(key, i);
    seen.add(key);
    if (i % 4 === 0) pauses.pause(i);
  }
  let sum = 0;
  counts.forEach((count, name, map) => {
    pauses.pause(count);
    if (count > 30) map.delete(name);
    sum += count * name.length;
  });
  for (const key of seen) sum += weak.get(key)!;
  const groups = Object.groupBy([...counts.keys()], (name) => {
    pauses.pause(name.length);
    return counts.get(name)! % 2 ? "odd" : "even";
  });
  pauses.digest.text(JSON.stringify(groups));
  return sum;
}

/** Waits in what the engine calls while it formats, parses and replaces. */
function formatting(pauses: Pauses, round: number) {
  const shown = {
    toString() {
      pauses.pause(round);
      return `<${(round / 7).toFixed(2)}|${round.toString(16)}>`;
    },
    toJSON(key: string) {
      pauses.pause(key.length);
      return { round, quoted: '"\u{1F400}"' };
    },
  };
  const text = `${shown} and ` + shown + String(shown).padStart(20);
  const json = JSON.stringify({ first: shown, list: [shown, 1] }, (_, value) => {
    if (typeof value === "number") pauses.pause(value);
    return value;
  });
  const parsed = JSON.parse(json, (key, value) => {
    if (key === "round") pauses.pause(value);
    return key === "round" ? value + 1 : value;
  });
  const replaced = text.replace(/[0-9]+/g, (digits, at) => {
    pauses.pause(at);
    return `[${digits}]`;
  });
  pauses.digest.text(replaced + JSON.stringify(parsed));
  return json.length;
}

/** Much data, written before and read after the wait. */
function buffers(pauses: Pauses, round: number) {
  const table = Uint32Array.from({ length: 4_096 }, (_, at) => Math.imul(at, 2_654_435_761) + round);
  const floats = new Float64Array(table.buffer.slice(0, 1_024));
  const holes: unknown[] = [];
  holes[999] = table.subarray(7, 9);
  pauses.pause(table[round]);
  table[7] ^= recursion(pauses, 2, 9);
  floats.fill(round, 3, 5);
  pauses.pause(floats[4]);
  pauses.digest.number((holes[999] as Uint32Array)[0]);
  return table.reduce((sum, cell) => ((sum << 5) | (sum >>> 27)) ^ cell, 0) >>> 0;
}

class Refused extends Error {
  constructor(readonly code: number) {
    super(`refused with ${code}`);
  }
}

/** Waits in `try`, `catch` and `finally`, and while errors pass through native frames. */
function exceptions(pauses: Pauses, round: number) {
  const attempt = (number: number): number => {
    try {
      pauses.pause(number);
      if (number % 3 === 0) throw new Refused(number);
      return [number].map((value) => {
        pauses.pause(value);
        if (value % 3 === 1) throw new TypeError(`${value}`);
        return value * 2;
      })[0];
    } catch (error) {
      pauses.pause(99);
      if (error instanceof TypeError) return error.message.length;
      throw error;
    } finally {
      pauses.pause(number + 100);
    }
  };
  let sum = 0;
  for (let number = round; number < round + 3; number++) {
    try {
      sum += attempt(number);
    } catch (error) {
      sum += (error as Refused).code * 1_000;
    }
  }
  return sum;
}

/** As many suspended async functions as there are levels, when the innermost one sleeps. */
async function asyncRecursion(pauses: Pauses, depth: number, seed: number): Promise<number> {
  const text = `async level ${depth}`;
  let below = seed;
  if (depth === 0) await pauses.sleep(seed);
  else below = (await asyncRecursion(pauses, depth - 1, (seed * 31 + depth) % 1_000_003)) + depth;
  if (depth % 4 === 0) await pauses.sleep(below);
  pauses.digest.text(text);
  return (below + text.length) % 1_000_003;
}

/** Other promises are pending, settled and chained while one of them sleeps, and waits happen inside their reactions. */
async function pendingPromises(pauses: Pauses, round: number) {
  const order: string[] = [];
  const later = Promise.withResolvers<number>();
  const chained = later.promise.then((value) => {
    order.push("chained");
    pauses.pause(value);
    return value * 2;
  });
  const thrown = Promise.reject(new Refused(round)).catch((error: Refused) => {
    pauses.pause(error.code);
    order.push(error.message);
    return error.code;
  });
  queueMicrotask(() => {
    pauses.pause(order.length);
    order.push("microtask");
  });
  await pauses.sleep(round);
  order.push("slept");
  later.resolve(round + 4);
  const settled = await Promise.allSettled([chained, thrown, Promise.reject(1), pauses.sleep(round * 2)]);
  const winner = await Promise.race([new Promise<never>(() => {}), pauses.sleep(3).then(() => order.length)]);
  pauses.digest.text(order.join() + JSON.stringify(settled));
  return winner;
}

async function* ticks(pauses: Pauses, count: number) {
  try {
    for (let tick = 0; tick < count; tick++) {
      await pauses.sleep(tick);
      yield tick * 3;
      pauses.pause(tick + 50);
    }
  } finally {
    await pauses.sleep(count);
  }
}

async function asyncIterators(pauses: Pauses, round: number) {
  let sum = round;
  for await (const tick of ticks(pauses, 3)) sum = sum * 5 + tick;
  for await (const tick of ticks(pauses, 9)) if (tick > 2) break;
  for await (const value of [Promise.resolve(4), pauses.sleep(sum).then(() => 6)]) sum += value;
  return sum;
}

/** Timers that are far from due, or cleared, while one is slept for. */
async function otherTimers(pauses: Pauses, round: number) {
  let fired = 0;
  const far = setTimeout(() => (fired += 1_000_000), 3_600_000);
  const ticking = setInterval(() => (fired += 1_000), 1_800_000);
  const cleared = setTimeout(() => (fired += 1), 0);
  clearTimeout(cleared);
  await pauses.sleep(round);
  await pauses.sleep(fired);
  clearTimeout(far);
  clearInterval(ticking);
  await pauses.sleep(fired + 1);
  return fired;
}
