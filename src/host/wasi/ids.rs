//! The handles of a guest: numbers that the host gives out, so that a snapshot can name them.
//!
//! A number is given out once, from 1 upwards, and again only after all 2²⁸−1 have been used. Each knows what kind of thing
//! it is and how the thing can be made again. A number that a guest made up reaches nothing but its own run's things, and
//! traps unless the kind is right.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use wasmtime::{
    bail,
    component::{ComponentType, Lift, Lower},
    format_err,
};
use wasmtime_wasi::p2::bindings::{
    filesystem::types::{DescriptorFlags, OpenFlags, PathFlags},
    io::streams::StreamError,
};

use super::{files::Identity, generated::Kind};
use crate::host::limits::{MAX_HANDLES, MAX_LOCATION_BYTES};

/// The largest number, as in the canonical ABI; guests' bindings use `u32::MAX` as "none".
const MAX_ID: u32 = (1 << 28) - 1;

/// How a thing is made again in a restored instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reopen {
    /// It cannot be: while it is open, waits stay in memory.
    Never,
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The network, which is denied.
    Network,
    /// A timer with this deadline on the guest's monotonic clock, in nanoseconds.
    Timer(u64),
    /// A subscription to another handle.
    Child(u32),
    /// An error that a stream reported: its text.
    Failure(String),
    /// A file or directory.
    File(Location),
    /// A stream that reads a file, from this offset on.
    Read(Location, u64),
    /// A stream that writes a file, from this offset on.
    Write(Location, u64),
    /// A stream that appends to a file.
    Append(Location),
    /// A directory listing of which so many entries have been read.
    Entries(Location, u64),
    /// Header fields, and whether they can be changed.
    Fields(Fields, bool),
    /// Part of an HTTP request and its answer, by the exchange's number in this instance. Saved as one of those below.
    Exchange(u64),
    /// An HTTP response: status, header fields, and whether its body, which is empty, can still be taken.
    Response(u16, Fields, bool),
    /// The body of an HTTP response, a stream of it, or its trailers, at the end.
    Ended,
    /// The body of an HTTP response, with nothing in it, whose stream can still be taken.
    Empty,
    /// A future of HTTP whose answer was taken.
    Taken,
}

/// Header fields in order.
pub type Fields = Vec<(String, Vec<u8>)>;

/// Where a file is and how it was opened. Creating, truncating and insisting on a new file are not repeated.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Location {
    /// Which of the preopened directories it is under.
    pub preopen: u32,
    /// Relative to that; empty for the directory itself. At most [`MAX_LOCATION_BYTES`].
    #[serde(with = "shared_text")]
    pub path: Arc<str>,
    /// Whether a symbolic link at the end of the path is followed.
    pub is_followed: bool,
    /// Whether it was opened as a directory.
    pub is_directory: bool,
    /// One bit for each of [`DESCRIPTOR_FLAGS`].
    pub flags: u8,
    /// Of what is made of a file: which one was there when it was made. A descriptor can be asked.
    #[serde(skip)]
    pub(super) identity: Option<Identity>,
}

mod shared_text {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
        text.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
        Ok(String::deserialize(deserializer)?.into())
    }
}

/// The descriptor flags in the order of [`Location::flags`].
pub const DESCRIPTOR_FLAGS: [DescriptorFlags; 6] = [
    DescriptorFlags::READ,
    DescriptorFlags::WRITE,
    DescriptorFlags::FILE_INTEGRITY_SYNC,
    DescriptorFlags::DATA_INTEGRITY_SYNC,
    DescriptorFlags::REQUESTED_WRITE_SYNC,
    DescriptorFlags::MUTATE_DIRECTORY,
];

impl Reopen {
    /// What the `place`-th element of a list of products has in place of the first.
    pub(super) fn nth(&self, place: usize) -> Reopen {
        match self {
            Reopen::File(location) => Reopen::File(Location { preopen: place as u32, ..location.clone() }),
            other => other.clone(),
        }
    }

    /// Header fields; what they are is looked up when they are saved.
    pub(super) fn fields(is_mutable: bool) -> Reopen {
        Reopen::Fields(Vec::new(), is_mutable)
    }

    /// The first preopened directory.
    pub(in crate::host) fn preopen() -> Reopen {
        let path = "".into();
        Reopen::File(Location { preopen: 0, path, is_followed: true, is_directory: true, flags: 0, identity: None })
    }
}

/// A live handle.
#[derive(Debug)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// How to make it again.
    pub reopen: Reopen,
    /// Its place in the resource table, or why there is none.
    pub place: Result<u32, String>,
}

/// The handles of one instance.
#[derive(Debug)]
pub struct Ids {
    next: u32,
    max_live: usize,
    live: BTreeMap<u32, Entry>,
}

/// What is kept of the handles.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedIds {
    next: u32,
    /// Ordered by number.
    pub(super) live: Vec<(u32, Kind, Reopen)>,
}

impl Default for Ids {
    fn default() -> Ids {
        Ids { next: 1, max_live: MAX_HANDLES, live: BTreeMap::new() }
    }
}

impl Ids {
    /// The place of a borrowed handle in the resource table.
    ///
    /// # Errors
    /// A trap: the guest has no such handle, or it is of another kind.
    pub fn borrow(&self, id: u32, kind: Kind) -> wasmtime::Result<u32> {
        let entry = self.live.get(&id).ok_or_else(|| format_err!("unknown handle {id}"))?;
        if entry.kind != kind {
            bail!("handle {id} is a {}, not a {}", entry.kind.name(), kind.name());
        }
        entry.place.clone().map_err(|reason| format_err!("handle {id} was lost in a restore: {reason}"))
    }

    /// The place of a handle that the guest gives away.
    ///
    /// # Errors
    /// As [`Ids::borrow`]; then nothing is taken.
    pub fn take(&mut self, id: u32, kind: Kind) -> wasmtime::Result<u32> {
        let place = self.borrow(id, kind)?;
        self.live.remove(&id);
        Ok(place)
    }

    /// Gives out a number.
    ///
    /// # Errors
    /// A trap: the guest has too many handles.
    pub fn put(&mut self, place: u32, kind: Kind, reopen: Reopen) -> wasmtime::Result<u32> {
        if self.live.len() >= self.max_live {
            bail!("more than {} handles are open at a time; drop those that are not needed", self.max_live);
        }
        while self.next > MAX_ID || self.live.contains_key(&self.next) {
            self.next = if self.next >= MAX_ID { 1 } else { self.next + 1 };
        }
        let id = self.next;
        self.next += 1;
        self.live.insert(id, Entry { kind, reopen, place: Ok(place) });
        Ok(id)
    }

    /// Forgets a handle that the guest drops.
    ///
    /// # Errors
    /// A trap: the guest has no such handle.
    pub fn remove(&mut self, id: u32) -> wasmtime::Result<Entry> {
        self.live.remove(&id).ok_or_else(|| format_err!("unknown handle {id}"))
    }

    /// A handle's entry.
    pub fn get(&self, id: u32) -> Option<&Entry> {
        self.live.get(&id)
    }

    /// All handles, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Entry)> {
        self.live.iter().map(|(id, entry)| (*id, entry))
    }

    /// A stream has been read or written on, or a listing has been read on.
    pub(super) fn advance(&mut self, id: u32, by: u64) {
        if let Some(Entry { reopen: Reopen::Read(_, at) | Reopen::Write(_, at) | Reopen::Entries(_, at), .. }) =
            self.live.get_mut(&id)
        {
            *at = at.saturating_add(by);
        }
    }

    /// How a file opened from directory `id` is opened again.
    pub(super) fn file_at(
        &self,
        id: u32,
        path_flags: PathFlags,
        path: &str,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> Reopen {
        let Some(Reopen::File(directory)) = self.live.get(&id).map(|entry| &entry.reopen) else { return Reopen::Never };
        let Some(whole) = join(&directory.path, path) else { return Reopen::Never };
        let ends_in_folder = path.ends_with('/') || path == "." || path.ends_with("/.");
        let bits = DESCRIPTOR_FLAGS.iter().enumerate().filter(|(_, flag)| flags.contains(**flag));
        Reopen::File(Location {
            preopen: directory.preopen,
            path: whole,
            is_followed: path_flags.contains(PathFlags::SYMLINK_FOLLOW) || ends_in_folder,
            is_directory: open_flags.contains(OpenFlags::DIRECTORY),
            flags: bits.fold(0, |bits, (place, _)| bits | 1 << place),
            identity: None,
        })
    }

    /// The exchange that what is made of handle `id` belongs to.
    pub(super) fn exchange_of(&self, id: u32) -> Reopen {
        match self.live.get(&id).map(|entry| &entry.reopen) {
            Some(Reopen::Exchange(number)) => Reopen::Exchange(*number),
            Some(Reopen::Response(..) | Reopen::Ended | Reopen::Empty) => Reopen::Ended,
            _ => Reopen::Never,
        }
    }

    /// Puts the error inside a stream error.
    pub(super) fn put_stream_error(&mut self, error: StreamError) -> wasmtime::Result<ErasedStreamError> {
        Ok(match error {
            StreamError::LastOperationFailed(error) => {
                ErasedStreamError::LastOperationFailed(self.put(error.rep(), Kind::Error, Reopen::Failure(String::new()))?)
            }
            StreamError::Closed => ErasedStreamError::Closed,
        })
    }

    /// What to keep; `content` tells how a thing that is saved by what is in it is made again.
    pub(super) fn save(&self, mut content: impl FnMut(&Entry, u32) -> Option<Reopen>) -> SavedIds {
        let mut reopen = |entry: &Entry| {
            let told = entry.place.as_ref().ok().and_then(|place| content(entry, *place));
            told.unwrap_or_else(|| entry.reopen.clone())
        };
        SavedIds { next: self.next, live: self.live.iter().map(|(id, entry)| (*id, entry.kind, reopen(entry))).collect() }
    }

    /// An empty set that goes on counting where `saved` stopped.
    ///
    /// # Errors
    /// What is wrong with `saved`.
    pub(super) fn go_on(saved: &SavedIds) -> Result<Ids, String> {
        if saved.live.len() > MAX_HANDLES {
            return Err(format!("{} handles where {MAX_HANDLES} are allowed", saved.live.len()));
        }
        let mut last = 0;
        for (id, ..) in &saved.live {
            if *id <= last || *id > MAX_ID {
                return Err(format!("handle {id} after handle {last}"));
            }
            last = *id;
        }
        Ok(Ids { next: saved.next.max(1), ..Ids::default() })
    }

    /// Puts a saved handle back under its number.
    pub(super) fn put_back(&mut self, id: u32, kind: Kind, reopen: Reopen, place: Result<u32, String>) {
        self.live.insert(id, Entry { kind, reopen, place });
    }
}

/// A path in a directory, without the parts that lead nowhere, of which a guest could pile up any number. None: it is too long.
fn join(directory: &str, path: &str) -> Option<Arc<str>> {
    let mut whole = String::new();
    for part in directory.split('/').chain(path.split('/')).filter(|part| !part.is_empty() && *part != ".") {
        if whole.len() + 1 + part.len() > MAX_LOCATION_BYTES {
            return None;
        }
        if !whole.is_empty() {
            whole.push('/');
        }
        whole.push_str(part);
    }
    Some(if whole.is_empty() { ".".into() } else { whole.into() })
}

/// WASI's `stream-error` with a number in place of the handle.
#[derive(Debug, ComponentType, Lift, Lower)]
#[component(variant)]
pub enum ErasedStreamError {
    /// The error tells more.
    #[component(name = "last-operation-failed")]
    LastOperationFailed(u32),
    /// The stream has ended.
    #[component(name = "closed")]
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_out_once_and_skip_live_ones_when_they_wrap() {
        let mut ids = Ids::default();
        assert_eq!(ids.put(7, Kind::Pollable, Reopen::Timer(1)).unwrap(), 1);
        ids.remove(1).unwrap();
        let kept = ids.put(7, Kind::Pollable, Reopen::Timer(1)).unwrap();
        assert_eq!(kept, 2);
        ids.next = MAX_ID;
        let after: Vec<u32> = (0..3).map(|place| ids.put(place, Kind::Pollable, Reopen::Never).unwrap()).collect();
        assert_eq!(after, [MAX_ID, 1, 3]);
    }

    #[test]
    fn a_handle_of_another_kind_is_refused_and_stays() {
        let mut ids = Ids::default();
        let id = ids.put(3, Kind::InputStream, Reopen::Stdin).unwrap();
        let error = ids.take(id, Kind::Descriptor).unwrap_err().to_string();
        assert_eq!(error, "handle 1 is a input-stream, not a descriptor");
        assert_eq!(ids.take(id, Kind::InputStream).unwrap(), 3);
        assert_eq!(ids.borrow(id, Kind::InputStream).unwrap_err().to_string(), "unknown handle 1");
    }

    #[test]
    fn the_number_of_live_handles_is_bounded() {
        let mut ids = Ids::default();
        for place in 0..MAX_HANDLES as u32 {
            ids.put(place, Kind::Pollable, Reopen::Never).unwrap();
        }
        assert!(ids.put(0, Kind::Pollable, Reopen::Never).unwrap_err().to_string().contains("4096 handles"));
    }

    #[test]
    fn saved_numbers_out_of_order_or_range_are_refused() {
        let saved =
            |numbers: &[u32]| SavedIds { next: 1, live: numbers.iter().map(|id| (*id, Kind::Pollable, Reopen::Never)).collect() };
        for numbers in [&[0][..], &[2, 1], &[3, 3], &[MAX_ID + 1]] {
            assert!(Ids::go_on(&saved(numbers)).is_err(), "{numbers:?}");
        }
        assert!(Ids::go_on(&saved(&[1, 5, MAX_ID])).is_ok());
    }

    #[test]
    fn a_file_in_a_directory_is_reopened_by_its_whole_path() {
        let mut ids = Ids::default();
        let root = ids.put(0, Kind::Descriptor, Reopen::preopen()).unwrap();
        let all = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
        let directory = ids.file_at(root, PathFlags::empty(), "a", OpenFlags::DIRECTORY, all);
        let directory = ids.put(1, Kind::Descriptor, directory).unwrap();
        let create = OpenFlags::CREATE | OpenFlags::TRUNCATE;
        let file = ids.file_at(directory, PathFlags::SYMLINK_FOLLOW, "b", create, DescriptorFlags::WRITE);
        let expected =
            Location { preopen: 0, path: "a/b".into(), is_followed: true, is_directory: false, flags: 0b10, identity: None };
        assert_eq!(file, Reopen::File(expected));
    }

    #[test]
    fn the_path_of_an_open_file_does_not_grow_with_what_leads_nowhere_and_is_bounded() {
        let mut ids = Ids::default();
        let mut directory = ids.put(0, Kind::Descriptor, Reopen::preopen()).unwrap();
        let mut open = |path: &str| {
            let reopen = ids.file_at(directory, PathFlags::empty(), path, OpenFlags::DIRECTORY, DescriptorFlags::READ);
            directory = ids.put(0, Kind::Descriptor, reopen.clone()).unwrap();
            match reopen {
                Reopen::File(location) => Some((location.path.to_string(), location.is_followed)),
                _ => None,
            }
        };
        assert_eq!(open("./."), Some((".".into(), true)));
        for _ in 0..10 {
            assert_eq!(open(&"./".repeat(5000)), Some((".".into(), true)));
        }
        assert_eq!(open("a//./b"), Some(("a/b".into(), false)));
        assert_eq!(open("../c/"), Some(("a/b/../c".into(), true)));
        assert_eq!(open(&"d/".repeat(2000)).map(|(path, _)| path.len()), Some(4008));
        assert_eq!(open(&"d/".repeat(200)), None);
        // What is in there cannot be found again either.
        assert_eq!(open("e"), None);
    }
}
