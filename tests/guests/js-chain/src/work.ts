// Pure computation, to see what being able to suspend costs code that does not wait: each task takes `n`, the amount of work, and
// returns a checksum that depends on nothing else. The guests of the other languages have the same ones.

interface Amount {
  n: number;
}

/** A reproducible sequence (xorshift, 32 bits). */
function following(x: number) {
  x ^= x << 13;
  x ^= x >>> 17;
  return (x ^ (x << 5)) >>> 0;
}

const fold = (sum: number, value: number) => Math.imul(sum ^ value, 0x01000193) >>> 0;

/** The n-th Fibonacci number by plain recursion: nothing but calls. */
export function fib({ n }: Amount) {
  return fibonacci(n);
}

function fibonacci(n: number): number {
  return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

/** Sorts n numbers with the engine's own sort and a comparator. */
export function sort({ n }: Amount) {
  let x = 42;
  const numbers = Array.from({ length: n }, () => (x = following(x)));
  numbers.sort((left, right) => (left % 1000) - (right % 1000) || right - left);
  return numbers.reduce(fold, 0);
}

/** Writes and reads n orders as JSON. */
export function json({ n }: Amount) {
  let [x, sum] = [7, 0];
  for (let i = 0; i < n; i++) {
    x = following(x);
    const read: ReturnType<typeof order> = JSON.parse(JSON.stringify(order(x)));
    const total = read.lines.reduce((total, line) => total + line.price * line.count, 0);
    sum = fold(sum, Math.floor(total * 100 + 0.5) + read.id + (read.note?.length ?? 0));
  }
  return sum;
}

function order(number: number) {
  const lines = Array.from({ length: (number % 8) + 1 }, (_, at) => ({
    sku: `SKU-${String((number >>> at) % 100000).padStart(5, "0")}`,
    price: ((number >>> (at + 3)) & 0xffff) / 100,
    count: at + 1,
  }));
  return { id: number, customer: `customer ${number % 1000}`, lines, note: number % 3 ? null : 'leave it "at the door"' };
}

/** Digests n KiB: one long loop over integers. */
export function sha256({ n }: Amount) {
  const [state, k] = constants();
  let x = 3;
  const block = Uint8Array.from({ length: 1024 }, () => (x = following(x)) & 0xff);
  for (let i = 0; i < 16 * n; i++) digestBlock(state, k, block.subarray((i % 16) * 64));
  return state.reduce(fold, 0);
}

function constants(): [Uint32Array, Uint32Array] {
  const primes: number[] = [];
  for (let number = 2; primes.length < 64; number++) {
    if (primes.every((prime) => number % prime)) primes.push(number);
  }
  const fraction = (root: number) => Math.floor((root - Math.floor(root)) * 2 ** 32);
  return [Uint32Array.from(primes.slice(0, 8), (p) => fraction(Math.sqrt(p))), Uint32Array.from(primes, (p) => fraction(Math.cbrt(p)))];
}

const turn = (x: number, by: number) => (x >>> by) | (x << (32 - by));

function digestBlock(state: Uint32Array, k: Uint32Array, block: Uint8Array) {
  const w = new Uint32Array(64);
  for (let t = 0; t < 16; t++) w[t] = (block[4 * t] << 24) | (block[4 * t + 1] << 16) | (block[4 * t + 2] << 8) | block[4 * t + 3];
  for (let t = 16; t < 64; t++) {
    const small0 = turn(w[t - 15], 7) ^ turn(w[t - 15], 18) ^ (w[t - 15] >>> 3);
    const small1 = turn(w[t - 2], 17) ^ turn(w[t - 2], 19) ^ (w[t - 2] >>> 10);
    w[t] = w[t - 16] + small0 + w[t - 7] + small1;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let t = 0; t < 64; t++) {
    const big1 = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25);
    const choice = (e & f) ^ (~e & g);
    const first = (h + big1 + choice + k[t] + w[t]) | 0;
    const big0 = turn(a, 2) ^ turn(a, 13) ^ turn(a, 22);
    const majority = (a & b) ^ (a & c) ^ (b & c);
    [h, g, f, e] = [g, f, e, (d + first) | 0];
    [d, c, b, a] = [c, b, a, (first + big0 + majority) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((word, at) => (state[at] += word));
}

interface Tree {
  left?: Tree;
  right?: Tree;
}

/** Builds and drops n trees of 2,047 nodes: nothing but the allocator and the collector. */
export function trees({ n }: Amount) {
  let sum = 0;
  for (let i = 0; i < n; i++) sum = fold(sum, count(plant(10)));
  return sum;
}

function plant(depth: number): Tree {
  return depth > 0 ? { left: plant(depth - 1), right: plant(depth - 1) } : {};
}

function count({ left, right }: Tree): number {
  return left && right ? 1 + count(left) + count(right) : 1;
}
