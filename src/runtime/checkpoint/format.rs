//! What a snapshot is on disk: bytes that say whose they are, and that are not believed before they have proved it.
//!
//! ```text
//!   0 ┌──────────────────────────────┐
//!     │ "DRMS"                       │  a file of ours
//!   4 │ u32  format version          │  how to read the rest
//!   8 │ 32 B component               │  blake3 of the component as it was uploaded
//!  40 │ u32  rewriter version        │  which made it suspendable
//!  44 │ 16 B run                     │  whose memory it is
//!  60 │ 16 B nonce                   │  random: no two snapshots are the same bytes
//!  76 │ u64  body length             │  before compression
//!  84 │ u64  stored length           │  of the next part
//!  92 │ 32 B rewritten component     │  blake3 of the bytes that the stack frames belong to
//! 124 ├──────────────────────────────┤
//!     │ body, zstd                   │
//!     ├──────────────────────────────┤
//!     │ 32 B checksum                │  blake3 of everything above
//!     └──────────────────────────────┘
//!
//!   body = sections, in any order:   u8 tag, u64 length, bytes
//!     1  host state    as the host wrote it                               exactly one
//!     2  wait          the wait that the run is suspended on (postcard)   exactly one
//!     3  aux           the call stack: all of the first memory in use     exactly one
//!     4  memory        u32 index (from 1), u32 length in 64 KiB pages,    one for each memory
//!                      then runs: u32 first, u32 count (of 4 KiB pages), u8 content, bytes
//!                        content 0: the pages are all zero, no bytes
//!                        content 1: the bytes of the pages
//!                        content 2: of each page, what differs from its base (`pages`)
//!     5  packs         32 B blake3 of each, the lowest first              at most one
//!     The base of a page is what the topmost pack that has it says, or else what the component's own image has there. Pages
//!     of a memory that are in no run are as their base.
//! ```
//!
//! Numbers are little-endian. Nothing here belongs to the engine: a snapshot can be read by another engine, or another
//! processor, as long as it runs the same rewritten component.
//!
//! Versions 3 and 2, which are read too, have no content 2 and no packs; and version 2 has no bytes 92 to 123: rewritten components were not kept
//! then. Such a snapshot can be restored for as long as the rewriter makes the same of the component, that is, until its version
//! goes up; then it is refused with both versions. Version 1 is refused. A later version that changes the body must go on to read
//! the earlier ones, or say here why it cannot.
//!
//! A snapshot's bytes, and with them its name in a store that names bytes by their content, are its own: whoever replaces it
//! may delete it, for no other run, and no other moment of the same run, can be meant.
//!
//! The decoder takes any bytes: it refuses, it does not panic, and it allocates little more than its limit. Bytes of pages are shared
//! with the body; but a run of zero pages has few bytes in the body and more in memory, and what bounds their number is that all
//! memories together are held to the limit too, as they are when the guest grows them.

use std::{cell::RefCell, io, ops::Range};

use bytes::Bytes;
use uuid::Uuid;
use zstd::bulk::{Compressor, Decompressor};

use self::pages::{Base, Difference};
use crate::model::{id::RunId, waitpoint::WaitRequest};

pub mod pages;

/// Version of the layout above. A change of the layout, or of what the host state or the wait are encoded as, is a new one.
pub const VERSION: u32 = 4;
/// The oldest version that is read.
pub const OLDEST: u32 = 2;
/// Bytes of the pages that are kept or left out.
pub const PAGE: usize = 4096;
/// Most memories a snapshot can have, as many as a component may define.
pub const MAX_MEMORIES: usize = 1000;
/// Most packs that a snapshot can name.
pub const MAX_PACKS: usize = 4096;

const MAGIC: &[u8; 4] = b"DRMS";
const HEADER: usize = 124;
/// The header of version 2, without the rewritten component's digest.
const HEADER_2: usize = 92;
const CHECKSUM: usize = 32;
/// Pages of 4 KiB in a WebAssembly page.
const PAGES_PER_WASM_PAGE: u32 = 16;
const MAX_WASM_PAGES: u32 = 65_536;
const SECTION_HOST: u8 = 1;
const SECTION_WAIT: u8 = 2;
const SECTION_AUX: u8 = 3;
const SECTION_MEMORY: u8 = 4;
const SECTION_PACKS: u8 = 5;
const CONTENT_ZERO: u8 = 0;
const CONTENT_BYTES: u8 = 1;
const CONTENT_WORDS: u8 = 2;
/// The fastest: a snapshot is written at every wait, and most of it is zeros and pointers.
const ZSTD_LEVEL: i32 = 1;

thread_local! {
    // To make these costs as much as to compress a small snapshot.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// What a snapshot belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// blake3 of the component as it was uploaded.
    pub component: [u8; 32],
    /// Version of the rewriter that made it suspendable.
    pub rewriter: u32,
    /// blake3 of what that made of it.
    pub rewritten: [u8; 32],
    /// The run.
    pub run: RunId,
}

/// Why a snapshot is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Fewer or more bytes than it says.
    #[error("the snapshot has {found} bytes, not the {expected} it should have")]
    Truncated {
        /// What it has.
        found: u64,
        /// What its header asks for.
        expected: u64,
    },
    /// Something else altogether.
    #[error("this is not a snapshot: it does not begin with DRMS")]
    Magic,
    /// Written by an older or newer program.
    #[error("the snapshot has format version {0}, this program reads the versions {OLDEST} to {VERSION}")]
    Version(u32),
    /// The bytes were altered.
    #[error("the checksum of the snapshot does not hold")]
    Checksum,
    /// It is of another component.
    #[error("the snapshot is of the component {found}, not of {expected}")]
    Component {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// It is of the right component, rewritten by another version of the rewriter.
    #[error("the snapshot was made with version {found} of the rewriter, the component at hand with version {expected}")]
    Rewriter {
        /// Which it was made with.
        found: u32,
        /// Which made the component at hand.
        expected: u32,
    },
    /// It is of the right component, rewritten by the right version, but not of these bytes.
    #[error("the snapshot fits the rewritten component {found}, not {expected}")]
    Rewritten {
        /// Which it fits.
        found: String,
        /// Which is at hand.
        expected: String,
    },
    /// It is of another run of the component.
    #[error("the snapshot is of the run {found}, not of {expected}")]
    Run {
        /// Whose it is.
        found: RunId,
        /// Whose it should be.
        expected: RunId,
    },
    /// It would need too much memory.
    #[error("the snapshot holds {found} bytes, the limit is {limit}")]
    TooLarge {
        /// What it says it holds.
        found: u64,
        /// What it may hold.
        limit: u64,
    },
    /// The checksum holds, but what it protects makes no sense.
    #[error("the snapshot is malformed: {0}")]
    Malformed(&'static str),
}

/// Collects a body section by section, then seals it.
#[derive(Debug, Default)]
pub struct Writer {
    body: Vec<u8>,
}

impl Writer {
    /// Adds what the host keeps for the run.
    pub fn host_state(&mut self, state: &[u8]) {
        self.section(SECTION_HOST, state);
    }

    /// Adds the wait that the run is suspended on.
    pub fn wait(&mut self, request: &WaitRequest) {
        let bytes = postcard::to_stdvec(request).expect("a wait request has only plain fields");
        self.section(SECTION_WAIT, &bytes);
    }

    /// Adds the call stack.
    pub fn aux(&mut self, stack: &[u8]) {
        self.section(SECTION_AUX, stack);
    }

    /// Adds those of the `dirty` pages of the memory `index` (from 1) that differ from their base, and returns true; or, if that were
    /// more than `most` bytes, none of them, and returns false. The ranges count pages of 4 KiB, ascend, do not overlap and lie
    /// within the memory, whose length is a multiple of 64 KiB.
    pub fn memory<'a>(
        &mut self,
        index: u32,
        memory: &[u8],
        base: impl Fn(u32) -> Base<'a>,
        dirty: &[Range<u32>],
        most: usize,
    ) -> bool {
        let wasm_pages =
            u32::try_from(memory.len() / (PAGE * PAGES_PER_WASM_PAGE as usize)).expect("a memory has at most 65,536 pages");
        self.body.push(SECTION_MEMORY);
        let length_at = self.body.len();
        self.body.extend_from_slice(&[0; 8]);
        self.body.extend_from_slice(&index.to_le_bytes());
        self.body.extend_from_slice(&wasm_pages.to_le_bytes());
        let runs_at = self.body.len();
        let mut runs = Runs { body: &mut self.body, last: None };
        let is_all = dirty.iter().cloned().flatten().all(|page| {
            let bytes = &memory[page as usize * PAGE..][..PAGE];
            runs.page(page, bytes, pages::compare(bytes, base(page)));
            runs.body.len() - runs_at <= most
        });
        if !is_all {
            self.body.truncate(runs_at);
        }
        let length = (self.body.len() - length_at - 8) as u64;
        self.body[length_at..length_at + 8].copy_from_slice(&length.to_le_bytes());
        is_all
    }

    /// Adds the names of the packs that pages lie in, the lowest first.
    pub fn packs(&mut self, digests: impl Iterator<Item = [u8; 32]>) {
        self.section(SECTION_PACKS, &digests.collect::<Vec<_>>().concat());
    }

    /// Bytes collected so far.
    pub fn raw_bytes(&self) -> u64 {
        self.body.len() as u64
    }

    /// The snapshot's bytes.
    ///
    /// # Errors
    /// If there is not enough memory to compress it.
    pub fn seal(self, identity: Identity) -> io::Result<Vec<u8>> {
        let stored = with(&COMPRESSOR, || Compressor::new(ZSTD_LEVEL), |compressor| compressor.compress(&self.body))?;
        let mut bytes = Vec::with_capacity(HEADER + stored.len() + CHECKSUM);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&identity.component);
        bytes.extend_from_slice(&identity.rewriter.to_le_bytes());
        bytes.extend_from_slice(identity.run.uuid().as_bytes());
        bytes.extend_from_slice(&rand::random::<[u8; 16]>());
        bytes.extend_from_slice(&(self.body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&(stored.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&identity.rewritten);
        bytes.extend_from_slice(&stored);
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        Ok(bytes)
    }

    fn section(&mut self, tag: u8, bytes: &[u8]) {
        self.body.push(tag);
        self.body.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.body.extend_from_slice(bytes);
    }
}

/// Writes pages in runs of one content each.
struct Runs<'a> {
    body: &'a mut Vec<u8>,
    /// Where the last run's count is, the page after it, and its content.
    last: Option<(usize, u32, u8)>,
}

impl Runs<'_> {
    /// Adds a page, which is after the last one.
    fn page(&mut self, number: u32, page: &[u8], difference: Difference) {
        let content = match difference {
            Difference::None => return,
            Difference::Zero => CONTENT_ZERO,
            Difference::Words(_) => CONTENT_WORDS,
            Difference::Whole => CONTENT_BYTES,
        };
        self.count(number, content);
        match difference {
            Difference::None | Difference::Zero => {}
            Difference::Words(bits) => pages::encode(page, &bits, self.body),
            Difference::Whole => self.body.extend_from_slice(page),
        }
    }

    /// Makes the last run one longer, or begins another.
    fn count(&mut self, number: u32, content: u8) {
        let count_at = match self.last {
            Some((count_at, end, of)) if end == number && of == content => count_at,
            _ => {
                self.body.extend_from_slice(&number.to_le_bytes());
                self.body.extend_from_slice(&[0; 4]);
                self.body.push(content);
                self.body.len() - 5
            }
        };
        let count = &mut self.body[count_at..count_at + 4];
        let longer = u32::from_le_bytes(count.try_into().expect("4 bytes")) + 1;
        count.copy_from_slice(&longer.to_le_bytes());
        self.last = Some((count_at, number + 1, content));
    }
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
fn inflate(stored: &[u8], length: u64) -> Result<Bytes, Refused> {
    let mut body = Vec::new();
    let room = usize::try_from(length).ok().filter(|length| body.try_reserve_exact(*length).is_ok());
    let Some(room) = room else { return Err(Refused::Malformed("there is no memory for the body")) };
    let inflated = with(&DECOMPRESSOR, Decompressor::new, |decompressor| decompressor.decompress_to_buffer(stored, &mut body));
    match inflated {
        Ok(count) if count == room => Ok(body.into()),
        _ => Err(Refused::Malformed("the body is not a zstd frame of the length it should have")),
    }
}

/// Works with this thread's own `T`, making it at first.
fn with<T, R>(
    own: &'static std::thread::LocalKey<RefCell<Option<T>>>,
    make: impl FnOnce() -> io::Result<T>,
    work: impl FnOnce(&mut T) -> io::Result<R>,
) -> io::Result<R> {
    own.with_borrow_mut(|own| {
        if own.is_none() {
            *own = Some(make()?);
        }
        work(own.as_mut().expect("it was just made"))
    })
}

fn parse(body: Bytes, limit: u64) -> Result<Contents, Refused> {
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
fn parse_memory(
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

#[cfg(test)]
mod tests;
