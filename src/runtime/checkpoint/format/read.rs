//! What is kept from bytes that may be anything.

use std::{cell::RefCell, ops::Range};

use bytes::Bytes;
use uuid::Uuid;
use zstd::bulk::Decompressor;

use super::{
    CHECKSUM, CONTENT_BYTES, CONTENT_WORDS, CONTENT_ZERO, HEADER, HEADER_2, Identity, MAGIC, MAX_MEMORIES, MAX_PACKS,
    MAX_WASM_PAGES, OLDEST, PAGE, PAGES_PER_WASM_PAGE, Refused, SECTION_AUX, SECTION_HOST, SECTION_MEMORY, SECTION_PACKS,
    SECTION_WAIT, VERSION, pages, with,
};
use crate::model::{id::RunId, waitpoint::WaitRequest};

thread_local! {
    // To make it costs as much as to decompress a small snapshot.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Contents {
    /// What the host keeps for the run.
    pub host_state: Bytes,
    /// The wait that the run is suspended on.
    pub wait: WaitRequest,
    /// The call stack.
    pub aux: Bytes,
    /// The memories, from index 1 on.
    pub memories: Vec<Memory>,
    /// The packs that pages lie in, the lowest first.
    pub packs: Vec<[u8; 32]>,
}

impl Contents {
    /// How many pages of all memories it holds.
    pub fn pages(&self) -> u64 {
        self.memories.iter().flat_map(|memory| &memory.runs).map(|run| run.pages.len() as u64).sum()
    }
}

/// One memory of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Its length in pages of 64 KiB.
    pub wasm_pages: u32,
    /// Pages that differ from their base; ascending, none twice.
    pub runs: Vec<Run>,
}

/// Consecutive pages of 4 KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Which pages.
    pub pages: Range<u32>,
    /// What is in them.
    pub content: Content,
}

/// What is in a run of pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Zeros.
    Zero,
    /// These bytes.
    Bytes(Bytes),
    /// What their base has there, but for some words: a page after the other, each to be [`pages::split`] off. There are
    /// as many as there are pages.
    Words(Bytes),
}

/// Reads a snapshot of `expected`, whose body, and whose memories, may have at most `limit` bytes.
///
/// # Errors
/// If it is not that, or is damaged.
pub fn decode(snapshot: &[u8], expected: Identity, limit: u64) -> Result<Contents, Refused> {
    let mut header = Input(snapshot);
    if header.array::<4>().ok() != Some(*MAGIC) {
        return Err(Refused::Magic);
    }
    let truncated = |expected: u64| Refused::Truncated { found: snapshot.len() as u64, expected };
    let version = header.u32().map_err(|_| truncated((HEADER + CHECKSUM) as u64))?;
    let header_length = match version {
        OLDEST => HEADER_2,
        3..=VERSION => HEADER,
        other => return Err(Refused::Version(other)),
    };
    let least = (header_length + CHECKSUM) as u64;
    if (snapshot.len() as u64) < least {
        return Err(truncated(least));
    }
    let component = header.array::<32>()?;
    let rewriter = header.u32()?;
    let run = RunId::from_uuid(Uuid::from_bytes(header.array()?));
    header.array::<16>()?;
    let body_length = header.u64()?;
    let stored_length = header.u64()?;
    let rewritten = if version == OLDEST { None } else { Some(header.array::<32>()?) };
    if Some(snapshot.len() as u64) != stored_length.checked_add(least) {
        return Err(truncated(stored_length.saturating_add(least)));
    }
    let (sealed, checksum) = snapshot.split_at(snapshot.len() - CHECKSUM);
    if blake3::hash(sealed).as_bytes() != checksum {
        return Err(Refused::Checksum);
    }
    if component != expected.component {
        return Err(Refused::Component { found: hex::encode(component), expected: hex::encode(expected.component) });
    }
    if rewriter != expected.rewriter {
        return Err(Refused::Rewriter { found: rewriter, expected: expected.rewriter });
    }
    if let Some(found) = rewritten.filter(|rewritten| *rewritten != expected.rewritten) {
        return Err(Refused::Rewritten { found: hex::encode(found), expected: hex::encode(expected.rewritten) });
    }
    if run != expected.run {
        return Err(Refused::Run { found: run, expected: expected.run });
    }
    if body_length > limit {
        return Err(Refused::TooLarge { found: body_length, limit });
    }
    parse(inflate(&sealed[header_length..], body_length)?, limit)
}

/// Decompresses what must come to exactly `length` bytes.
pub(super) fn inflate(stored: &[u8], length: u64) -> Result<Bytes, Refused> {
    let mut body = Vec::new();
    let room = usize::try_from(length).ok().filter(|length| body.try_reserve_exact(*length).is_ok());
    let Some(room) = room else { return Err(Refused::Malformed("there is no memory for the body")) };
    let inflated = with(&DECOMPRESSOR, Decompressor::new, |decompressor| decompressor.decompress_to_buffer(stored, &mut body));
    match inflated {
        Ok(count) if count == room => Ok(body.into()),
        _ => Err(Refused::Malformed("the body is not a zstd frame of the length it should have")),
    }
}

pub(super) fn parse(body: Bytes, limit: u64) -> Result<Contents, Refused> {
    let (mut host_state, mut wait, mut aux, mut packs) = (None, None, None, None);
    let mut memories: Vec<Option<Memory>> = Vec::new();
    let mut memory_bytes = 0;
    let mut input = Input(&body);
    while !input.0.is_empty() {
        let tag = input.u8()?;
        let section = input.bytes_of_length_u64()?;
        let is_new = match tag {
            SECTION_HOST => host_state.replace(body.slice_ref(section)).is_none(),
            SECTION_AUX => aux.replace(body.slice_ref(section)).is_none(),
            SECTION_PACKS => packs.replace(parse_packs(section)?).is_none(),
            SECTION_WAIT => wait.replace(parse_wait(section)?).is_none(),
            SECTION_MEMORY => {
                let (index, memory) = parse_memory(&body, section, |bytes| {
                    memory_bytes += bytes;
                    if memory_bytes > limit { Err(Refused::TooLarge { found: memory_bytes, limit }) } else { Ok(()) }
                })?;
                if memories.len() <= index {
                    memories.resize(index + 1, None);
                }
                memories[index].replace(memory).is_none()
            }
            _ => return Err(Refused::Malformed("a section has an unknown tag")),
        };
        if !is_new {
            return Err(Refused::Malformed("a section is there twice"));
        }
    }
    const MISSING: Refused = Refused::Malformed("a section is missing");
    Ok(Contents {
        host_state: host_state.ok_or(MISSING)?,
        wait: wait.ok_or(MISSING)?,
        aux: aux.ok_or(MISSING)?,
        memories: memories.into_iter().collect::<Option<_>>().ok_or(MISSING)?,
        packs: packs.unwrap_or_default(),
    })
}

fn parse_packs(section: &[u8]) -> Result<Vec<[u8; 32]>, Refused> {
    match section.as_chunks() {
        (packs, []) if packs.len() <= MAX_PACKS => Ok(packs.to_vec()),
        _ => Err(Refused::Malformed("the names of packs cannot be read")),
    }
}

fn parse_wait(section: &[u8]) -> Result<WaitRequest, Refused> {
    match postcard::take_from_bytes(section) {
        Ok((wait, [])) => Ok(wait),
        _ => Err(Refused::Malformed("the wait cannot be read")),
    }
}

/// The memory's place in the list, from 0, and what it holds; `charge` may refuse its length in bytes.
pub(super) fn parse_memory(
    body: &Bytes,
    section: &[u8],
    charge: impl FnOnce(u64) -> Result<(), Refused>,
) -> Result<(usize, Memory), Refused> {
    let mut input = Input(section);
    let index = input.u32()? as usize;
    if index == 0 || index > MAX_MEMORIES {
        return Err(Refused::Malformed("a memory has an impossible index"));
    }
    let wasm_pages = input.u32()?;
    if wasm_pages > MAX_WASM_PAGES {
        return Err(Refused::Malformed("a memory is longer than a memory can be"));
    }
    charge(u64::from(wasm_pages) * u64::from(PAGES_PER_WASM_PAGE) * PAGE as u64)?;
    let mut runs = Vec::new();
    let mut end_of_last = 0;
    while !input.0.is_empty() {
        let (first, count, content) = (input.u32()?, input.u32()?, input.u8()?);
        let end = first.checked_add(count).filter(|end| *end <= wasm_pages * PAGES_PER_WASM_PAGE);
        let Some(end) = end.filter(|_| first >= end_of_last && count > 0) else {
            return Err(Refused::Malformed("pages of a memory are out of place"));
        };
        let content = match content {
            CONTENT_ZERO => Content::Zero,
            CONTENT_BYTES => Content::Bytes(body.slice_ref(input.bytes(count as usize * PAGE)?)),
            CONTENT_WORDS => Content::Words(body.slice_ref(input.words(count)?)),
            _ => return Err(Refused::Malformed("pages of a memory have an unknown content")),
        };
        runs.push(Run { pages: first..end, content });
        end_of_last = end;
    }
    Ok((index - 1, Memory { wasm_pages, runs }))
}

/// Bytes still to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Refused> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Refused::Malformed("a section ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// The encoded differences of so many pages.
    fn words(&mut self, pages: u32) -> Result<&'a [u8], Refused> {
        let mut rest = self.0;
        for _ in 0..pages {
            rest = pages::split(rest).ok_or(Refused::Malformed("a section ends too early"))?.1;
        }
        self.bytes(self.0.len() - rest.len())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        Ok(self.bytes(N)?.try_into().expect("N bytes were taken"))
    }

    fn u8(&mut self) -> Result<u8, Refused> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, Refused> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Refused> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn bytes_of_length_u64(&mut self) -> Result<&'a [u8], Refused> {
        let length = self.u64()?;
        self.bytes(usize::try_from(length).unwrap_or(usize::MAX))
    }
}
