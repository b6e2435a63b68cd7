//! One function for each kind of call stack and state that a wait may find. Every value that lives across a wait goes into
//! the digest after it.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write};
use std::rc::Rc;

use crate::pauses::Pauses;

/// All scenes in a fixed order.
pub fn play_all(pauses: &mut Pauses, round: u32, words: &mut Vec<String>) {
    let depth = recursion(pauses, 1 + round % 40, u64::from(round));
    let tree = ackermann(pauses, 2, round % 3 + 1);
    let floats = floats(pauses, f64::from(round));
    let integers = integers(pauses, i64::from(round) - 3);
    let sorted = sort(pauses, round);
    let folded = iterators(pauses, round);
    let played = trait_objects(pauses, round);
    let mapped = maps(pauses, round);
    let formatted = formatting(pauses, round);
    let frame = large_frame(pauses, round);
    let dropped = drops(pauses, round);
    let shared = shared_cells(pauses, round);
    let tried = early_returns(pauses, round);
    for value in [depth, tree, floats, integers, sorted, folded, played, mapped, formatted, frame, dropped, shared, tried] {
        pauses.digest.number(value);
    }
    words.push(format!("{}-{round}", words.last().map_or(0, String::len)));
}

/// A frame with a text, an integer and a float in each of `depth` calls.
fn recursion(pauses: &mut Pauses, depth: u32, seed: u64) -> u64 {
    let text = format!("level {depth}");
    let ratio = seed as f64 / f64::from(depth + 1);
    let below = if depth == 0 {
        pauses.pause(seed);
        seed
    } else {
        recursion(pauses, depth - 1, seed.wrapping_mul(31).wrapping_add(u64::from(depth)))
    };
    if depth.is_multiple_of(8) {
        pauses.pause(below);
    }
    pauses.digest.bytes(text.as_bytes());
    below.rotate_left(depth) ^ ratio.to_bits() ^ text.len() as u64
}

/// Recursion in argument position: the caller's operands lie on the stack machine when the wait comes.
fn ackermann(pauses: &mut Pauses, m: u32, n: u32) -> u64 {
    if m == 0 {
        pauses.pause(u64::from(n));
        return u64::from(n) + 1;
    }
    if n == 0 {
        return ackermann(pauses, m - 1, 1);
    }
    let inner = ackermann(pauses, m, n - 1) as u32;
    u64::from(n) * 1_000 + ackermann(pauses, m - 1, inner % 5) + u64::from(m)
}

fn floats(pauses: &mut Pauses, start: f64) -> u64 {
    let (mut x, mut y, single) = (start.sqrt(), start.sin(), start as f32 * 0.1);
    for step in 1..=4_u32 {
        pauses.pause(x.to_bits());
        (x, y) = (x * 1.5 + y, y - x / f64::from(step));
        x += f64::from(single) + observed(pauses, y) * 2.0;
    }
    let odd = [f64::NAN.is_nan(), f64::INFINITY > x, (-0.0_f64).is_sign_negative()];
    x.to_bits() ^ y.to_bits() ^ u64::from(single.to_bits()) ^ odd.iter().filter(|holds| **holds).count() as u64
}

fn observed(pauses: &mut Pauses, value: f64) -> f64 {
    pauses.pause(value.to_bits());
    value.abs().min(100.0)
}

fn integers(pauses: &mut Pauses, start: i64) -> u64 {
    let mut wide = i128::from(start) << 70 | 0x1234_5678_9abc_def0;
    let (mut small, mut byte) = (start as i16, start as u8);
    let mut long = start.wrapping_mul(0x0123_4567_89ab_cdef);
    for step in 0..3 {
        pauses.pause(long as u64);
        wide = wide.wrapping_mul(7) ^ i128::from(long);
        small = small.wrapping_sub(13).rotate_left(3);
        byte = byte.wrapping_add(small as u8).reverse_bits();
        long = long.rotate_right(step + 5) ^ i64::from(small);
    }
    wide as u64 ^ (wide >> 64) as u64 ^ small as u64 ^ u64::from(byte) ^ long as u64
}

/// Waits inside the comparator, below the frames of the standard library's sort.
fn sort(pauses: &mut Pauses, round: u32) -> u64 {
    let mut values: Vec<u32> = (0..48).map(|i: u32| (i * 7_919 + round * 104_729) % 1_009).collect();
    let mut comparisons = 0_u64;
    values.sort_by(|left, right| {
        comparisons += 1;
        if comparisons.is_multiple_of(50) {
            pauses.pause(comparisons << 32 | u64::from(*left));
        }
        left.cmp(right)
    });
    values.sort_unstable_by_key(|value| {
        comparisons += 1;
        if comparisons.is_multiple_of(97) {
            pauses.pause(u64::from(*value));
        }
        std::cmp::Reverse(value % 100)
    });
    assert!(values.windows(2).all(|pair| pair[0] % 100 >= pair[1] % 100), "sorted");
    let mut keys: Vec<u32> = values.iter().map(|value| value % 100).collect();
    keys.dedup();
    keys.iter().fold(comparisons, |sum, key| sum.wrapping_mul(31).wrapping_add(u64::from(*key)))
}

fn iterators(pauses: &mut Pauses, round: u32) -> u64 {
    let pauses = RefCell::new(pauses);
    let text = "the quick brown fox jumps over the lazy dog";
    let lengths: Vec<usize> = text
        .split(' ')
        .enumerate()
        .filter(|(at, word)| {
            pauses.borrow_mut().pause(*at as u64 ^ word.len() as u64);
            !(at + round as usize).is_multiple_of(3)
        })
        .map(|(at, word)| word.len() * at)
        .collect();
    let chunks = lengths.chunks(2).map(|pair| pair.iter().product::<usize>());
    chunks.zip((1_u64..).step_by(3)).fold(7, |sum, (product, weight)| {
        pauses.borrow_mut().pause(sum);
        sum.wrapping_mul(weight) ^ product as u64
    })
}

trait Player {
    fn play(&mut self, pauses: &mut Pauses) -> u64;
}

struct Counter(u64);

struct Chorus(Vec<Box<dyn Player>>);

struct Called<F>(F);

impl Player for Counter {
    fn play(&mut self, pauses: &mut Pauses) -> u64 {
        pauses.pause(self.0);
        self.0 += 1;
        self.0
    }
}

impl Player for Chorus {
    fn play(&mut self, pauses: &mut Pauses) -> u64 {
        self.0.iter_mut().fold(1, |sum, player| sum * 3 + player.play(pauses))
    }
}

impl<F: FnMut(&mut Pauses) -> u64> Player for Called<F> {
    fn play(&mut self, pauses: &mut Pauses) -> u64 {
        (self.0)(pauses)
    }
}

/// Calls through tables, nested, with closures that own heap values.
fn trait_objects(pauses: &mut Pauses, round: u32) -> u64 {
    let mut heard = vec![round as u8];
    let listener = Called(move |pauses: &mut Pauses| {
        heard.push(heard.len() as u8);
        pauses.pause(heard.len() as u64);
        heard.iter().map(|byte| u64::from(*byte)).sum()
    });
    let inner = Chorus(vec![Box::new(Counter(u64::from(round))), Box::new(listener)]);
    let mut outer = Chorus(vec![Box::new(Counter(1)), Box::new(inner), Box::new(Counter(2))]);
    let functions: [fn(u64) -> u64; 3] = [|x| x + 1, |x| x * 2, u64::swap_bytes];
    let first = outer.play(pauses);
    let second = outer.play(pauses);
    functions[round as usize % 3](first) ^ second
}

/// A hash map's order differs from run to run, so only sums of it count; the tree's order counts.
fn maps(pauses: &mut Pauses, round: u32) -> u64 {
    let mut hashed: HashMap<String, u64> = HashMap::new();
    let mut ordered: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for i in 0..12_u64 {
        let key = format!("key {}", (i * u64::from(round)) % 5);
        *hashed.entry(key.clone()).or_insert_with(|| {
            pauses.pause(i);
            i
        }) += 1;
        ordered.entry(i % 4).or_default().push(key);
    }
    let sum: u64 = hashed.iter().map(|(key, count)| key.len() as u64 * count).sum();
    for (at, keys) in &ordered {
        pauses.pause(*at);
        pauses.digest.bytes(keys.join(",").as_bytes());
    }
    sum
}

struct Shown<'a> {
    pauses: RefCell<&'a mut Pauses>,
    number: u32,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pauses.borrow_mut().pause(u64::from(self.number));
        write!(f, "<{:>6.2}|{:#x}>", f64::from(self.number) / 7.0, self.number)
    }
}

/// Waits inside `Display`, below the frames of `core::fmt`.
fn formatting(pauses: &mut Pauses, round: u32) -> u64 {
    let shown = Shown { pauses: RefCell::new(pauses), number: round };
    let mut text = String::new();
    write!(text, "{shown:>3} and {shown}, {:?}", Some("quoted \u{1F400}")).expect("a String takes everything");
    let length = text.len() as u64;
    shown.pauses.borrow_mut().digest.bytes(text.as_bytes());
    length
}

/// Locals too large for registers, written before and read after the wait.
fn large_frame(pauses: &mut Pauses, round: u32) -> u64 {
    let mut table = [0_u32; 2_048];
    for (at, cell) in table.iter_mut().enumerate() {
        *cell = (at as u32).wrapping_mul(2_654_435_761).wrapping_add(round);
    }
    pauses.pause(u64::from(table[round as usize % table.len()]));
    let nested = std::hint::black_box(&mut table);
    nested[7] ^= recursion(pauses, 2, 9) as u32;
    table.iter().fold(0, |sum, cell| sum.rotate_left(5) ^ u64::from(*cell))
}

struct Farewell<'a> {
    pauses: &'a RefCell<&'a mut Pauses>,
    name: String,
}

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        let mut pauses = self.pauses.borrow_mut();
        pauses.pause(self.name.len() as u64);
        pauses.digest.bytes(self.name.as_bytes());
    }
}

/// Waits in destructors.
fn drops(pauses: &mut Pauses, round: u32) -> u64 {
    let shared = RefCell::new(pauses);
    let farewell = |name: &str| Farewell { pauses: &shared, name: format!("{name} {round}") };
    let kept: Vec<Farewell<'_>> = ["first", "second"].into_iter().map(farewell).collect();
    drop(farewell("third"));
    kept.len() as u64
}

/// Reference counts and borrows that are held during the wait.
fn shared_cells(pauses: &mut Pauses, round: u32) -> u64 {
    let shared = Rc::new(RefCell::new(vec![u64::from(round)]));
    let weak = Rc::downgrade(&shared);
    let also = Rc::clone(&shared);
    {
        let mut borrowed = shared.borrow_mut();
        pauses.pause(borrowed.len() as u64);
        borrowed.push(Rc::strong_count(&also) as u64);
    }
    drop(shared);
    pauses.pause(2);
    let total: u64 = also.borrow().iter().sum();
    drop(also);
    total + u64::from(weak.upgrade().is_none())
}

fn early_returns(pauses: &mut Pauses, round: u32) -> u64 {
    match attempt(pauses, round) {
        Ok(value) => value,
        Err(reason) => reason.len() as u64,
    }
}

fn attempt(pauses: &mut Pauses, round: u32) -> Result<u64, String> {
    let number: u64 = parse(pauses, &round.to_string())?;
    let odd = if number.is_multiple_of(2) { parse(pauses, "not a number")? } else { number };
    pauses.pause(odd);
    Ok(odd + number)
}

fn parse(pauses: &mut Pauses, text: &str) -> Result<u64, String> {
    pauses.pause(text.len() as u64);
    text.parse().map_err(|error| format!("{text}: {error}"))
}
