//! Pages of a large memory, written once and named by many snapshots: of a gigabyte, a suspension stores only what has changed since
//! the one before.
//!
//! ```text
//!   0  "DRMP"                       a pack of ours
//!   4  u32  format version
//!   8  32 B rewritten component     whose pages
//!  40  16 B run
//!  56  16 B nonce                   random: no two packs are the same bytes, so whoever needs one no more may delete it
//!  72  u32  memory                  as snapshots count them, from 1
//!  76  u32  number of ranges        ascending: u32 first, u32 count, of pages of 4 KiB
//!      the pages of all ranges, zstd
//!      32 B blake3 of everything above
//! ```
//!
//! Numbers are little-endian. A pack that is in use is also a file here, not compressed: restored memories are mapped from it, and
//! what a memory holds at the next suspension is compared with it. The file has no name, so it is gone when the process is.

use std::{
    fs::File,
    io::{self, Write as _},
    ops::Range,
    path::Path,
};

use super::{
    format::{Identity, PAGE},
    layers::count,
    memory::Mapped,
};

/// Most pages in a pack: 64 MiB, which are in memory as a whole while they are compressed.
pub const MAX_PAGES: u32 = 16_384;

const MAGIC: &[u8; 4] = b"DRMP";
const VERSION: u32 = 1;
const HEADER: usize = 80;
const RANGE: usize = 8;
const CHECKSUM: usize = 32;
const ZSTD_LEVEL: i32 = 1;

/// A pack that can be read and mapped.
#[derive(Debug)]
pub struct Pack {
    /// Which memory its pages are of, from 1.
    pub memory: u32,
    /// Which pages, ascending; in the file one after the other.
    pub ranges: Vec<Range<u32>>,
    /// The file they are in.
    pub file: File,
    mapped: Mapped,
}

impl Pack {
    /// A pack of these pages of a memory, at most [`MAX_PAGES`], in a file in this folder.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(folder: &Path, memory: u32, bytes: &[u8], ranges: Vec<Range<u32>>) -> io::Result<Pack> {
        let mut file = tempfile::tempfile_in(folder)?;
        for pages in &ranges {
            file.write_all(&bytes[pages.start as usize * PAGE..pages.end as usize * PAGE])?;
        }
        Self::of_file(file, memory, ranges)
    }

    fn of_file(file: File, memory: u32, ranges: Vec<Range<u32>>) -> io::Result<Pack> {
        let mapped = Mapped::new(&file, count(&ranges) as usize * PAGE)?;
        Ok(Pack { memory, ranges, file, mapped })
    }

    /// How many pages it has.
    pub fn pages(&self) -> u32 {
        count(&self.ranges)
    }

    /// The bytes of pages, counted from the first of the pack.
    pub fn bytes(&self, pages: Range<u32>) -> &[u8] {
        &self.mapped.bytes()[pages.start as usize * PAGE..pages.end as usize * PAGE]
    }

    /// The pack as it is stored.
    ///
    /// # Errors
    /// If there is not enough memory to compress it.
    pub fn seal(&self, identity: Identity) -> io::Result<Vec<u8>> {
        let stored = zstd::bulk::compress(self.mapped.bytes(), ZSTD_LEVEL)?;
        let mut bytes = Vec::with_capacity(HEADER + self.ranges.len() * RANGE + stored.len() + CHECKSUM);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&identity.rewritten);
        bytes.extend_from_slice(identity.run.uuid().as_bytes());
        bytes.extend_from_slice(&rand::random::<[u8; 16]>());
        bytes.extend_from_slice(&self.memory.to_le_bytes());
        bytes.extend_from_slice(&(self.ranges.len() as u32).to_le_bytes());
        for pages in &self.ranges {
            bytes.extend_from_slice(&pages.start.to_le_bytes());
            bytes.extend_from_slice(&(pages.end - pages.start).to_le_bytes());
        }
        bytes.extend_from_slice(&stored);
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        Ok(bytes)
    }

    /// Reads a pack of `expected` into a file in this folder.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if it is not that, or is damaged; any other if the file cannot be written.
    pub fn open(folder: &Path, stored: &[u8], expected: Identity) -> io::Result<Pack> {
        let (memory, ranges, frame) = parse(stored, expected).ok_or_else(|| damaged("it is damaged, or of another run"))?;
        let length = count(&ranges) as usize * PAGE;
        let pages = zstd::bulk::decompress(frame, length).map_err(|_| damaged("its pages are damaged"))?;
        if pages.len() != length {
            return Err(damaged("it has fewer pages than it says"));
        }
        let mut file = tempfile::tempfile_in(folder)?;
        file.write_all(&pages)?;
        Self::of_file(file, memory, ranges)
    }
}

fn damaged(how: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a pack of pages cannot be used: {how}"))
}

/// The memory, the ranges, and the compressed pages.
type Parsed<'a> = (u32, Vec<Range<u32>>, &'a [u8]);

/// What is in a whole pack of `expected`.
fn parse(stored: &[u8], expected: Identity) -> Option<Parsed<'_>> {
    let (sealed, checksum) = stored.split_at_checked(stored.len().checked_sub(CHECKSUM)?)?;
    let (header, rest) = sealed.split_at_checked(HEADER)?;
    let is_ours = header.starts_with(MAGIC)
        && header[4..8] == VERSION.to_le_bytes()
        && header[8..40] == expected.rewritten
        && header[40..56] == *expected.run.uuid().as_bytes();
    if !is_ours || blake3::hash(sealed).as_bytes() != checksum {
        return None;
    }
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("4 bytes"));
    let (memory, length) = (number(&header[72..76]), number(&header[76..80]));
    let (listed, frame) = rest.split_at_checked((length as usize).checked_mul(RANGE)?)?;
    let mut ranges: Vec<Range<u32>> = vec![];
    let mut total = 0_u32;
    for range in listed.chunks_exact(RANGE) {
        let (first, count) = (number(&range[..4]), number(&range[4..]));
        total = total.checked_add(count)?;
        let is_after_last = ranges.last().is_none_or(|last| last.end <= first);
        if count == 0 || total > MAX_PAGES || !is_after_last {
            return None;
        }
        ranges.push(first..first.checked_add(count)?);
    }
    Some((memory, ranges, frame))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::RunId;

    fn identity() -> Identity {
        Identity { component: [0; 32], rewriter: 1, rewritten: [1; 32], run: RunId::new() }
    }

    fn memory() -> Vec<u8> {
        (0..32_u8).flat_map(|page| [page; PAGE]).collect()
    }

    #[test]
    fn a_pack_is_itself_again() {
        let (folder, identity) = (tempfile::tempdir().unwrap(), identity());
        let written = Pack::write(folder.path(), 1, &memory(), vec![3..5, 9..10]).unwrap();
        let read = Pack::open(folder.path(), &written.seal(identity).unwrap(), identity).unwrap();
        assert_eq!((read.memory, &read.ranges, read.pages()), (1, &vec![3..5, 9..10], 3));
        assert_eq!(read.bytes(0..3), [[3; PAGE], [4; PAGE], [9; PAGE]].concat());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "its file has no name");
    }

    #[test]
    fn a_pack_that_is_altered_cut_or_of_another_run_is_refused() {
        let (folder, whose) = (tempfile::tempdir().unwrap(), identity());
        let good = Pack::write(folder.path(), 1, &memory(), vec![3..5, 9..10]).unwrap().seal(whose).unwrap();
        let is_refused = |stored: &[u8], whose: Identity| {
            Pack::open(folder.path(), stored, whose).is_err_and(|error| error.kind() == io::ErrorKind::InvalidData)
        };
        assert!(is_refused(&good, identity()));
        assert!(is_refused(&good, Identity { rewritten: [2; 32], ..whose }));
        for at in 0..good.len() {
            let mut altered = good.clone();
            altered[at] ^= 1;
            assert!(is_refused(&altered, whose), "byte {at}");
            assert!(is_refused(&good[..at], whose), "the first {at} bytes");
            // Even when somebody corrects the checksum: an answer, whatever it is.
            altered.truncate(good.len() - CHECKSUM);
            altered.extend_from_slice(blake3::hash(&altered).as_bytes());
            let _ = Pack::open(folder.path(), &altered, whose);
        }
    }
}
