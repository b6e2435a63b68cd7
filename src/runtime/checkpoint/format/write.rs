//! A snapshot's bytes from what is to be kept.

use std::{cell::RefCell, io, ops::Range};

use zstd::bulk::Compressor;

use super::{
    CHECKSUM, CONTENT_BYTES, CONTENT_WORDS, CONTENT_ZERO, HEADER, Identity, MAGIC, PAGE, PAGES_PER_WASM_PAGE, SECTION_AUX,
    SECTION_HOST, SECTION_MEMORY, SECTION_PACKS, SECTION_WAIT, VERSION,
    pages::{self, Base, Difference},
    with,
};
use crate::model::waitpoint::WaitRequest;

/// The fastest: a snapshot is written at every wait, and most of it is zeros and pointers.
const ZSTD_LEVEL: i32 = 1;

thread_local! {
    // To make it costs as much as to compress a small snapshot.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// Collects a body section by section, then seals it.
#[derive(Debug, Default)]
pub struct Writer {
    pub(super) body: Vec<u8>,
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

    pub(super) fn section(&mut self, tag: u8, bytes: &[u8]) {
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
