//! Pure computation, to see what being able to suspend costs code that does not wait: each task takes `{n}`, the amount of
//! work, and returns a checksum that depends on nothing else.

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Deserialize)]
pub struct Amount {
    n: u32,
}

/// A reproducible sequence (xorshift, 64 bits).
pub struct Sequence(pub u64);

impl Iterator for Sequence {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Some(self.0)
    }
}

fn fold(sum: u64, value: u64) -> u64 {
    (sum ^ value).wrapping_mul(0x0000_0100_0000_01b3)
}

/// The n-th Fibonacci number by plain recursion: nothing but calls.
#[dormouse::task(id = "fib")]
pub fn fib(payload: Amount) -> u64 {
    fibonacci(std::hint::black_box(payload.n))
}

fn fibonacci(n: u32) -> u64 {
    if n < 2 { u64::from(n) } else { fibonacci(n - 1) + fibonacci(n - 2) }
}

/// Sorts n numbers: with the standard library's sort and a comparator.
#[dormouse::task(id = "sort")]
pub fn sort(payload: Amount) -> u64 {
    let mut numbers: Vec<u64> = Sequence(42).take(payload.n as usize).collect();
    numbers.sort_by(|left, right| (left % 1_000).cmp(&(right % 1_000)).then_with(|| right.cmp(left)));
    numbers.into_iter().fold(0, fold)
}

#[derive(Serialize, Deserialize)]
struct Order {
    id: u64,
    customer: String,
    lines: Vec<Line>,
    note: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    sku: String,
    price: f64,
    count: u32,
}

/// Writes and reads n orders as JSON, typed and untyped.
#[dormouse::task(id = "json")]
pub fn json(payload: Amount) -> Result<u64, serde_json::Error> {
    let mut sum = 0;
    for number in Sequence(7).take(payload.n as usize) {
        let text = serde_json::to_string(&order(number))?;
        let again: Order = serde_json::from_str(&text)?;
        let loose: Value = serde_json::from_str(&text)?;
        let total: f64 = again.lines.iter().map(|line| line.price * f64::from(line.count)).sum();
        sum = fold(sum, total.to_bits() ^ again.id ^ loose["lines"].as_array().map_or(0, Vec::len) as u64 ^ text.len() as u64);
    }
    Ok(sum)
}

fn order(number: u64) -> Order {
    let lines = (0..number % 8 + 1).map(|at| Line {
        sku: format!("SKU-{:05}", (number >> at) % 100_000),
        price: (number >> (at + 3) & 0xffff) as f64 / 100.0,
        count: (at + 1) as u32,
    });
    let note = number.is_multiple_of(3).then(|| "leave it \"at the door\"\n".to_owned());
    Order { id: number, customer: format!("customer {}", number % 1_000), lines: lines.collect(), note }
}

/// Digests n KiB: one long loop over integers.
#[dormouse::task(id = "sha256")]
pub fn sha256(payload: Amount) -> String {
    let block: Vec<u8> = Sequence(3).take(1_024).map(|number| number as u8).collect();
    let mut digest = crate::sha256::Sha256::new();
    for _ in 0..payload.n {
        digest.update(&block);
    }
    digest.finish()
}

/// Builds and drops n trees of 2,047 nodes: nothing but the allocator.
#[dormouse::task(id = "trees")]
pub fn trees(payload: Amount) -> u64 {
    (0..payload.n).fold(0, |sum, _| fold(sum, Tree::plant(10).count()))
}

struct Tree(Option<Box<(Tree, Tree)>>);

impl Tree {
    fn plant(depth: u32) -> Tree {
        Tree((depth > 0).then(|| Box::new((Tree::plant(depth - 1), Tree::plant(depth - 1)))))
    }

    fn count(&self) -> u64 {
        self.0.as_ref().map_or(1, |below| 1 + below.0.count() + below.1.count())
    }
}

/// Interprets a program of n rounds: a call through a table for every instruction.
#[dormouse::task(id = "interpreter")]
pub fn interpreter(payload: Amount) -> u64 {
    crate::interpreter::run(payload.n)
}
