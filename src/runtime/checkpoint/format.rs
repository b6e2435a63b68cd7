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
//! Versions 3 and 2, which are read too, have no content 2 and no packs; and version 2 has no bytes 92 to 123: rewritten
//! components were not kept then. Such a snapshot can be restored for as long as the rewriter makes the same of the component,
//! that is, until its version goes up; then it is refused with both versions. Version 1 is refused. A later version that changes the body must go on to read
//! the earlier ones, or say here why it cannot.
//!
//! A snapshot's bytes, and with them its name in a store that names bytes by their content, are its own: whoever replaces it
//! may delete it, for no other run, and no other moment of the same run, can be meant.
//!
//! The decoder takes any bytes: it refuses, it does not panic, and it allocates little more than its limit. Bytes of pages are shared
//! with the body; but a run of zero pages has few bytes in the body and more in memory, and what bounds their number is that all
//! memories together are held to the limit too, as they are when the guest grows them.

pub mod pages;
mod read;
mod write;

use std::{cell::RefCell, io};

use crate::model::id::RunId;

pub use self::{
    read::{Content, Contents, Memory, Run, decode},
    write::Writer,
};

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

#[cfg(test)]
mod tests;
