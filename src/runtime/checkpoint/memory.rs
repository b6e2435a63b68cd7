//! Linear memories as the operating system sees them: which pages differ from the image, and how to write them all the same.
//!
//! wasmtime maps a memory's initial contents copy-on-write, so a page that an instance has written to is a private,
//! anonymous page of this process, and one that it has not is still backed by the image, or not there at all. The kernel
//! knows which is which, and there are three ways to learn it, tried in this order when the process starts:
//!
//! 1. the `PAGEMAP_SCAN` ioctl (Linux 6.7), which walks the page tables and answers with ranges;
//! 2. `/proc/self/pagemap`, eight bytes for each page;
//! 3. neither: every page counts as dirty. Snapshots are then larger, not wrong.
//!
//! A page that is reported dirty and is not costs a few bytes. One that is dirty and not reported would be lost, so
//! pages that were swapped out or are about to be moved count as dirty too.
//!
//! Large memories are restored by mapping a file over them, which leaves their pages as clean as the image's.
//!
//! This file holds the `unsafe` code of snapshots, all of it.
#![allow(unsafe_code, reason = "asks the kernel about pages, and writes linear memory through wasmtime's read-only view")]

use std::{ffi::c_void, fs::File, io, marker::PhantomData, ops::Range, os::fd::AsFd, os::unix::fs::FileExt, sync::OnceLock};

use rustix::{
    ioctl::{Ioctl, IoctlOutput, Opcode, opcode},
    mm::{MapFlags, ProtFlags},
};
use wasmtime::{StoreContextMut, component::WasmList};

use super::format::{PAGE, pages::is_zero};

/// One linear memory, or its beginning, while the store is borrowed and so no guest code runs.
pub struct View<'a> {
    base: *mut u8,
    length: usize,
    store: PhantomData<&'a mut ()>,
}

impl<'a> View<'a> {
    /// The bytes that the guest passed as a list: they are not copied, so to write to them is to write to its memory.
    pub fn of<T: 'static>(list: &WasmList<u8>, store: &'a mut StoreContextMut<'_, T>) -> View<'a> {
        let bytes = list.as_le_slice(&*store);
        let base = std::ptr::with_exposed_provenance_mut(bytes.as_ptr().expose_provenance());
        View { base, length: bytes.len(), store: PhantomData }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `of` took base and length from a slice of a linear memory. The memory stays where it is and as long as
        // it is while the store is borrowed mutably (`'a`), since only guest code or a call on the store can grow it; and
        // nothing writes to it meanwhile but `write` and `reset`, which need `&mut self`.
        unsafe { std::slice::from_raw_parts(self.base, self.length) }
    }

    /// Overwrites the bytes from `at` on.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at.checked_add(bytes.len()).expect("lengths of slices are below half the address space");
        assert!(end <= self.length, "the bytes fit into the memory");
        // SAFETY: the range was just checked to lie in the memory, which is mapped for reading and writing (guests store to
        // it) and is not a Rust object whose type could forbid writing; `&mut self` and the borrowed store make this the
        // only access. The source is a Rust slice, so it is not part of the memory.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.add(at), bytes.len()) }
    }

    /// Makes pages zero. Pages that are so already are only read, and stay clean.
    ///
    /// # Panics
    /// If they are not all in the memory.
    pub fn clear(&mut self, pages: Range<u32>) {
        for page in pages {
            let at = page as usize * PAGE;
            if !is_zero(&self.bytes()[at..at + PAGE]) {
                self.write(at, &[0; PAGE]);
            }
        }
    }

    /// Gives pages back to the kernel, so that they are again what the component's image has there.
    ///
    /// # Errors
    /// If the kernel refuses.
    ///
    /// # Panics
    /// If they are not all in the memory, or the memory does not begin at a page.
    pub fn reset(&mut self, pages: Range<u32>) -> io::Result<()> {
        let range = pages.start as usize * PAGE..pages.end as usize * PAGE;
        assert!(range.start <= range.end && range.end <= self.length && self.is_aligned(), "the pages are pages of the memory");
        // SAFETY: the range consists of whole pages of the memory's own private mapping. Dropping a private page gives the
        // contents of the file beneath it, or zeros where there is none: any bytes are valid contents of a linear memory,
        // and `&mut self` says that nobody holds a slice of the old ones.
        unsafe { rustix::mm::madvise(self.base.add(range.start).cast(), range.len(), rustix::mm::Advice::LinuxDontNeed)? };
        Ok(())
    }

    /// Puts pages of a file, which nobody writes to any more, in the place of as many of the memory's: they are read when they are
    /// touched, and stay clean until they are written to.
    ///
    /// # Errors
    /// If the kernel refuses; the instance then has a hole in its memory, and must be dropped.
    ///
    /// # Panics
    /// If they are not all in the memory, or the memory does not begin at a page.
    pub fn map(&mut self, pages: Range<u32>, file: &File, first: u32) -> io::Result<()> {
        let range = pages.start as usize * PAGE..pages.end as usize * PAGE;
        assert!(range.start < range.end && range.end <= self.length && self.is_aligned(), "the pages are pages of the memory");
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::FIXED);
        // SAFETY: the range lies in the memory.
        let at = unsafe { self.base.add(range.start).cast() };
        // SAFETY: the range consists of whole pages of a mapping that is this memory's alone (the engine's instances are not
        // pooled: the whole mapping goes with the instance, so nobody gets these pages after it), and that is readable and
        // writable there, as these are. Any bytes are valid contents of a linear memory, and `&mut self` says that nobody
        // holds a slice of the old ones.
        let mapped = unsafe { rustix::mm::mmap(at, range.len(), protection, flags, file, u64::from(first) * PAGE as u64) };
        if mapped.is_err() {
            // The kernel may have taken the old pages away before it failed. Nobody else may come to lie in their place, for the
            // instance takes its whole mapping down when it is dropped.
            // SAFETY: as above; and nothing reads or writes what cannot be, but the guest, which is not run any more.
            let kept = unsafe { rustix::mm::mmap_anonymous(at, range.len(), ProtFlags::empty(), flags) };
            if kept.is_err() {
                std::process::abort();
            }
        }
        mapped.map(|_| ()).map_err(io::Error::from)
    }

    /// The pages that may differ from the memory's image: ascending ranges that do not touch.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn dirty(&self, tracker: &Tracker) -> io::Result<Vec<Range<u32>>> {
        let all = 0..(self.length / PAGE) as u32;
        if !self.is_aligned() {
            return Ok(vec![all]);
        }
        match tracker {
            Tracker::Scan(pagemap) => scan(pagemap, self.base.addr(), self.length),
            Tracker::Pagemap(pagemap) => read_pagemap(pagemap, self.base.addr(), all),
            Tracker::Everything => Ok(vec![all]),
        }
    }

    fn is_aligned(&self) -> bool {
        self.base.addr().is_multiple_of(PAGE) && self.length.is_multiple_of(PAGE)
    }
}

/// A file in memory, to be read.
#[derive(Debug)]
pub struct Mapped {
    base: *mut c_void,
    length: usize,
}

// SAFETY: it is only read, and unmapped when nobody can read it any more.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// So many bytes of a file that has them, that nobody else can open, and that its owner does not write to or cut any more.
    ///
    /// # Errors
    /// If the kernel refuses, as it does when the file is empty.
    pub fn new(file: &File, length: usize) -> io::Result<Mapped> {
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, file, 0)? };
        Ok(Mapped { base, length })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable and there until `self` is dropped, and the file beneath it does not change (`new`).
        unsafe { std::slice::from_raw_parts(self.base.cast(), self.length) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no slice of it outlives `self`. It cannot fail for a whole mapping.
        let _ = unsafe { rustix::mm::munmap(self.base, self.length) };
    }
}

/// How dirty pages are found on this machine.
#[derive(Debug)]
pub enum Tracker {
    /// By `PAGEMAP_SCAN` on this file.
    Scan(File),
    /// By reading this file.
    Pagemap(File),
    /// Not at all.
    Everything,
}

impl Tracker {
    /// The best way that works here, found out on first use.
    pub fn of_this_machine() -> &'static Tracker {
        static TRACKER: OnceLock<Tracker> = OnceLock::new();
        TRACKER.get_or_init(|| {
            let tracker = [Self::scan(), Self::pagemap()].into_iter().flatten().next().unwrap_or(Tracker::Everything);
            tracing::debug!(tracker = tracker.name(), "chose how to find the pages that a run has written to");
            tracker
        })
    }

    /// For people.
    pub fn name(&self) -> &'static str {
        match self {
            Tracker::Scan(_) => "PAGEMAP_SCAN",
            Tracker::Pagemap(_) => "/proc/self/pagemap",
            Tracker::Everything => "none",
        }
    }

    fn scan() -> Option<Tracker> {
        let pagemap = open_pagemap()?;
        let probe = [0u8; 1];
        scan(&pagemap, probe.as_ptr().addr() / PAGE * PAGE, PAGE).ok()?;
        Some(Tracker::Scan(pagemap))
    }

    fn pagemap() -> Option<Tracker> {
        let pagemap = open_pagemap()?;
        let probe = Box::new([1u8; 1]);
        let page = (probe.as_ptr().addr() / PAGE) as u64;
        // A page that was just written to must show up; where reading is restricted, entries come back empty.
        let is_seen = pagemap_entry_is_dirty(read_entries(&pagemap, page, 1).ok()?[0]);
        is_seen.then_some(Tracker::Pagemap(pagemap))
    }
}

/// The map of this process's pages, if pages have the size that snapshots count in.
fn open_pagemap() -> Option<File> {
    (rustix::param::page_size() == PAGE).then(|| File::open("/proc/self/pagemap").ok()).flatten()
}

/// Adds a range of pages, given by addresses, to those found so far.
fn add(found: &mut Vec<Range<u32>>, base: usize, addresses: Range<u64>) {
    let page = |address: u64| ((address - base as u64) / PAGE as u64) as u32;
    let pages = page(addresses.start)..page(addresses.end);
    match found.last_mut() {
        Some(last) if last.end == pages.start => last.end = pages.end,
        _ => found.push(pages),
    }
}

// Categories of pages. Source: linux/fs.h
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;

/// The argument of `PAGEMAP_SCAN`. Source: `struct pm_scan_arg` in linux/fs.h
#[repr(C)]
#[derive(Default)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    regions_length: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// Part of the answer of `PAGEMAP_SCAN`. Source: `struct page_region` in linux/fs.h
#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// The ioctl.
struct Scan<'a>(&'a mut ScanArgument);

// SAFETY: opcode and argument are those of `PAGEMAP_SCAN`. What the kernel writes through the argument's own pointer is the
// business of whoever set it.
unsafe impl Ioctl for Scan<'_> {
    /// How many regions were found.
    type Output = usize;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<ScanArgument>(b'f', 16)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut *self.0).cast()
    }

    unsafe fn output_from_ptr(count: IoctlOutput, _: *mut c_void) -> rustix::io::Result<usize> {
        Ok(count as usize)
    }
}

/// Asks for private pages that are there or swapped out, the shared page of zeros excepted.
fn scan(pagemap: &File, base: usize, length: usize) -> io::Result<Vec<Range<u32>>> {
    let unwanted = PAGE_IS_FILE | PAGE_IS_PFNZERO;
    let wanted = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
    let mut regions = [Region::default(); 128];
    let mut argument = ScanArgument {
        size: size_of::<ScanArgument>() as u64,
        start: base as u64,
        end: (base + length) as u64,
        regions: regions.as_mut_ptr().expose_provenance() as u64,
        regions_length: regions.len() as u64,
        category_inverted: unwanted,
        category_mask: unwanted,
        category_anyof_mask: wanted,
        return_mask: wanted,
        ..ScanArgument::default()
    };
    let mut found = Vec::new();
    while argument.start < argument.end {
        // SAFETY: the kernel writes no more than `regions_length` regions to `regions`, an array that nothing else uses
        // during the call.
        let count = unsafe { rustix::ioctl::ioctl(pagemap.as_fd(), Scan(&mut argument))? };
        for region in &regions[..count] {
            add(&mut found, base, region.start..region.end);
        }
        if argument.walk_end <= argument.start {
            return Err(io::Error::other("the scan of pages does not advance"));
        }
        argument.start = argument.walk_end;
    }
    Ok(found)
}

fn read_pagemap(pagemap: &File, base: usize, pages: Range<u32>) -> io::Result<Vec<Range<u32>>> {
    const AT_ONCE: usize = 8192;
    let mut found = Vec::new();
    let first = (base / PAGE) as u64;
    for start in pages.clone().step_by(AT_ONCE) {
        let count = AT_ONCE.min((pages.end - start) as usize);
        for (page, entry) in (first + u64::from(start)..).zip(read_entries(pagemap, first + u64::from(start), count)?) {
            if pagemap_entry_is_dirty(entry) {
                add(&mut found, base, page * PAGE as u64..(page + 1) * PAGE as u64);
            }
        }
    }
    Ok(found)
}

fn read_entries(pagemap: &File, first: u64, count: usize) -> io::Result<Vec<u64>> {
    let mut bytes = vec![0; count * 8];
    pagemap.read_exact_at(&mut bytes, first * 8)?;
    Ok(bytes.chunks_exact(8).map(|entry| u64::from_ne_bytes(entry.try_into().expect("chunks of 8"))).collect())
}

/// Source: Documentation/admin-guide/mm/pagemap.rst of Linux
fn pagemap_entry_is_dirty(entry: u64) -> bool {
    let (is_present, is_swapped, is_file) = (entry >> 63 & 1 == 1, entry >> 62 & 1 == 1, entry >> 61 & 1 == 1);
    (is_present || is_swapped) && !is_file
}

#[cfg(test)]
pub(super) mod tests;
