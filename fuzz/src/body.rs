//! Bodies of snapshots that are nearly right, and the seal around them: random bytes alone would never get past the checksum.

use chrono::DateTime;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use uuid::Uuid;

use crate::{
    model::{
        id::{RunId, WaitpointId},
        waitpoint::{Idempotency, WaitRequest},
    },
    runtime::checkpoint::format::{Identity, PAGE, VERSION, pages::BITS},
};

/// Pages of 4 KiB in one of WebAssembly.
pub const PAGES_PER_WASM_PAGE: u32 = 16;
/// Whose snapshots are decoded.
pub const IDENTITY: Identity =
    Identity { component: [7; 32], rewriter: 1, rewritten: [6; 32], run: RunId::from_uuid(Uuid::from_u128(5)) };

/// A body in which everything is there once and in its place.
#[derive(Debug, Arbitrary)]
pub struct Whole<'a> {
    host: &'a [u8],
    wait: Wait<'a>,
    aux: &'a [u8],
    memories: Vec<Memory>,
}

/// A section of a body, or what could be taken for one.
#[derive(Debug, Arbitrary)]
pub enum Section<'a> {
    Host(&'a [u8]),
    Wait(Wait<'a>),
    EncodedWait(&'a [u8]),
    Aux(&'a [u8]),
    Memory { index: u8, memory: Memory },
    Other { tag: u8, length: u64, bytes: &'a [u8] },
}

/// Pages that come again and again.
#[derive(Debug, Arbitrary)]
pub struct Memory {
    wasm_pages: u16,
    pattern: Vec<Pages>,
    times: u16,
}

/// What a run can wait for.
#[derive(Debug, Arbitrary)]
pub enum Wait<'a> {
    Timer { ms: i64, key: Option<(&'a str, Option<u64>)> },
    Any(Vec<u128>),
    Sleep { seconds: i64, nanos: u32 },
}

/// Pages of a memory, counted from the last ones.
#[derive(Debug, Arbitrary)]
pub struct Pages {
    skipped: u8,
    count: u8,
    fill: Fill,
}

/// What is in them.
#[derive(Debug, Arbitrary)]
enum Fill {
    Zero,
    Byte(u8),
    /// The low bits of each byte of the bits: which words are new.
    Words(u8),
}

/// The sections one after the other, without those with which it would come to have more than `most` bytes.
pub fn of_sections(sections: &[Section<'_>], most: usize) -> Vec<u8> {
    let mut body = vec![];
    for section in sections {
        let (tag, length, bytes) = match section {
            Section::Host(bytes) => (1, None, bytes.to_vec()),
            Section::Wait(wait) => (2, None, encoded(wait)),
            Section::EncodedWait(bytes) => (2, None, bytes.to_vec()),
            Section::Aux(bytes) => (3, None, bytes.to_vec()),
            Section::Memory { index, memory } => {
                let place = |pages: &Pages| (pages.skipped, pages.count);
                let head = [u32::from(*index).to_le_bytes(), u32::from(memory.wasm_pages).to_le_bytes()];
                (4, None, [head.concat(), runs(memory, u32::MAX, most, place)].concat())
            }
            Section::Other { tag, length, bytes } => (*tag, Some(*length), bytes.to_vec()),
        };
        if body.len() + bytes.len() <= most {
            append(&mut body, tag, length.unwrap_or(bytes.len() as u64), &bytes);
        }
    }
    body
}

/// A body that is to be read, unless it and its memories come to more than `most` bytes.
pub fn whole(whole: &Whole<'_>, most: usize) -> Vec<u8> {
    let mut body = vec![];
    for (index, memory) in (1_u32..).zip(&whole.memories) {
        let wasm_pages = u32::from(memory.wasm_pages % 9);
        let place = |pages: &Pages| (pages.skipped % 4, pages.count % 8 + 1);
        let head = [index.to_le_bytes(), wasm_pages.to_le_bytes()].concat();
        let runs = runs(memory, wasm_pages * PAGES_PER_WASM_PAGE, most, place);
        append(&mut body, 4, (head.len() + runs.len()) as u64, &[head, runs].concat());
    }
    append(&mut body, 1, whole.host.len() as u64, whole.host);
    append(&mut body, 3, whole.aux.len() as u64, whole.aux);
    let wait = encoded(&whole.wait);
    append(&mut body, 2, wait.len() as u64, &wait);
    body
}

fn append(body: &mut Vec<u8>, tag: u8, length: u64, bytes: &[u8]) {
    body.push(tag);
    body.extend(length.to_le_bytes());
    body.extend(bytes);
}

fn encoded(wait: &Wait<'_>) -> Vec<u8> {
    postcard::to_stdvec(&request(wait)).expect("every wait can be encoded")
}

fn request(wait: &Wait<'_>) -> WaitRequest {
    match wait {
        Wait::Timer { ms, key } => WaitRequest::Timer {
            at: DateTime::from_timestamp_millis(*ms).unwrap_or_default(),
            idempotency: key.map(|(key, ttl_ms)| Idempotency { key: key.to_owned(), ttl_ms }),
        },
        Wait::Any(ids) => {
            WaitRequest::Any { waitpoints: ids.iter().map(|id| WaitpointId::from_uuid(Uuid::from_u128(*id))).collect() }
        }
        Wait::Sleep { seconds, nanos } => {
            WaitRequest::Sleep { at: DateTime::from_timestamp(*seconds, *nanos).unwrap_or_default() }
        }
    }
}

/// The runs of a memory that has `end` pages, as long as there are fewer than `most` bytes. How many pages each skips and has, `place`
/// makes of what was drawn.
fn runs(memory: &Memory, end: u32, most: usize, place: impl Fn(&Pages) -> (u8, u8)) -> Vec<u8> {
    let (mut bytes, mut next) = (vec![], 0_u32);
    for pages in std::iter::repeat_n(&memory.pattern, memory.times.into()).flatten() {
        let (skipped, count) = place(pages);
        let (first, count) = (next + u32::from(skipped), u32::from(count));
        next = first + count;
        if next > end || bytes.len() > most {
            break;
        }
        bytes.extend([first.to_le_bytes(), count.to_le_bytes()].concat());
        match pages.fill {
            Fill::Zero => bytes.push(0),
            Fill::Byte(fill) => {
                bytes.push(1);
                bytes.resize(bytes.len() + count as usize * PAGE, fill);
            }
            Fill::Words(bits) => {
                bytes.push(2);
                let page = [vec![bits; BITS], vec![bits; BITS * bits.count_ones() as usize * 8]].concat();
                bytes.extend(page.repeat(count as usize));
            }
        }
    }
    bytes
}

/// Header and checksum around what is stored of a body, as `runtime/checkpoint/format.rs` draws them.
pub fn sealed(stored: &[u8], body_length: u64) -> Vec<u8> {
    let mut bytes = b"DRMS".to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(IDENTITY.component);
    bytes.extend(IDENTITY.rewriter.to_le_bytes());
    bytes.extend(IDENTITY.run.uuid().as_bytes());
    bytes.extend([0; 16]);
    bytes.extend(body_length.to_le_bytes());
    bytes.extend((stored.len() as u64).to_le_bytes());
    bytes.extend(IDENTITY.rewritten);
    bytes.extend(stored);
    let checksum = blake3::hash(&bytes);
    bytes.extend(checksum.as_bytes());
    bytes
}
