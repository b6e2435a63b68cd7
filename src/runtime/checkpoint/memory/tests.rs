//! The three ways to find dirty pages, on a real copy-on-write mapping and on wasmtime's own memories.

use std::io::Write;

use wasmtime::{
    Config, Engine, Store,
    component::{Component, Linker},
};

use super::*;

/// A private mapping of a file of `file_pages`, page n full of n + 1, followed by `more` anonymous pages.
pub(in super::super) struct Mapping {
    base: *mut u8,
    pages: usize,
}

impl Mapping {
    pub(in super::super) fn new(file_pages: usize, more: usize) -> Mapping {
        let mut file = File::from(rustix::fs::memfd_create("image", rustix::fs::MemfdFlags::empty()).unwrap());
        for page in 0..file_pages {
            file.write_all(&[page as u8 + 1; PAGE]).unwrap();
        }
        let pages = file_pages + more;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, and a file mapped over its first part.
        let base = unsafe {
            let base = rustix::mm::mmap_anonymous(std::ptr::null_mut(), pages * PAGE, protection, MapFlags::PRIVATE).unwrap();
            rustix::mm::mmap(base, file_pages * PAGE, protection, MapFlags::PRIVATE | MapFlags::FIXED, &file, 0).unwrap()
        };
        Mapping { base: base.cast(), pages }
    }

    pub(in super::super) fn view(&mut self) -> View<'_> {
        View { base: self.base, length: self.pages * PAGE, store: PhantomData }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no view of it is left.
        unsafe { rustix::mm::munmap(self.base.cast(), self.pages * PAGE).unwrap() };
    }
}

fn trackers() -> Vec<Tracker> {
    [Tracker::scan(), Tracker::pagemap()].into_iter().flatten().collect()
}

impl Tracker {
    /// All that work here.
    pub(in super::super) fn all() -> Vec<Tracker> {
        trackers().into_iter().chain([Tracker::Everything]).collect()
    }
}

#[test]
fn written_pages_are_dirty_and_read_pages_are_not() {
    let trackers = trackers();
    assert!(!trackers.is_empty(), "this kernel has at least /proc/self/pagemap");
    let mut mapping = Mapping::new(8, 8);
    let mut view = mapping.view();
    view.write(2 * PAGE + 7, &[9]);
    view.write(3 * PAGE, &[9]);
    view.write(12 * PAGE, &[9]);
    assert_eq!(view.bytes()[5 * PAGE], 6, "a page of the file, only read");
    view.clear(13..15);
    for tracker in &trackers {
        let mut dirty = view.dirty(tracker).unwrap();
        if !matches!(tracker, Tracker::Scan(_)) {
            // Here the shared page of zeros, which reading maps, looks like any other.
            dirty.iter_mut().for_each(|range| range.end = range.end.min(13));
        }
        assert_eq!(dirty, [2..4, 12..13], "{}", tracker.name());
    }
    assert_eq!(view.dirty(&Tracker::Everything).unwrap(), vec![0..16]);
}

#[test]
fn more_ranges_than_one_call_returns_are_all_found() {
    let mut mapping = Mapping::new(1, 2000);
    let mut view = mapping.view();
    let written: Vec<Range<u32>> = (0..2000).step_by(3).map(|page| page..page + 1).collect();
    for range in &written {
        view.write(range.start as usize * PAGE, &[1]);
    }
    for tracker in trackers() {
        assert_eq!(view.dirty(&tracker).unwrap(), written, "{}", tracker.name());
    }
}

#[test]
fn a_page_that_is_reset_is_the_image_again() {
    let mut mapping = Mapping::new(4, 4);
    let mut view = mapping.view();
    view.write(0, &[0xff; 8 * PAGE]);
    view.reset(1..2).unwrap();
    view.reset(5..6).unwrap();
    for (page, byte) in [(0, 0xff), (1, 2), (2, 0xff), (4, 0xff), (5, 0)] {
        assert!(view.bytes()[page * PAGE..][..PAGE].iter().all(|found| *found == byte), "page {page}");
    }
    if let Some(tracker) = Tracker::scan() {
        assert_eq!(view.dirty(&tracker).unwrap(), [0..1, 2..5, 6..8]);
    }
}

/// A component whose function shows its memory to the host: a data segment in page 0 and 40, and a start function that
/// writes to pages 1 and 40.
const GUEST: &str = r#"(component
    (import "visit" (func $visit (param "bytes" (list u8))))
    (core module $memory (memory (export "memory") 3)
        (data (i32.const 0) "zero") (data (i32.const 163840) "forty")
        (func $start
            (i32.store (i32.const 4096) (i32.const -1))
            (i32.store (i32.const 163844) (i32.const -1))
            (drop (memory.grow (i32.const 1)))
            (i32.store (i32.const 200000) (i32.const -1)))
        (start $start))
    (core instance $memory (instantiate $memory))
    (alias core export $memory "memory" (core memory $m))
    (core func $visit (canon lower (func $visit) (memory $m)))
    (core module $main (import "host" "visit" (func $visit (param i32 i32)))
        (func (export "show") (call $visit (i32.const 0) (i32.const 262144))))
    (core instance $main (instantiate $main (with "host" (instance (export "visit" (func $visit))))))
    (func (export "show") (canon lift (core func $main "show"))))"#;

#[test]
fn a_memory_of_wasmtime_falls_back_to_its_image() {
    let engine = Engine::new(Config::new().wasm_component_model(true)).unwrap();
    let component = Component::new(&engine, wat::parse_str(GUEST).unwrap()).unwrap();
    let mut linker = Linker::new(&engine);
    let visit = |mut store: StoreContextMut<'_, u32>, (list,): (WasmList<u8>,)| {
        let mut view = View::of(&list, &mut store);
        if let Some(tracker) = Tracker::scan() {
            assert_eq!(view.dirty(&tracker)?, [1..2, 40..41, 48..49]);
        }
        view.reset(1..49)?;
        assert_eq!(view.bytes()[..4], *b"zero");
        assert_eq!(view.bytes()[4096..4100], [0; 4]);
        assert_eq!(view.bytes()[163840..163850], *b"forty\0\0\0\0\0");
        assert_eq!(view.bytes()[200000..200004], [0; 4]);
        view.write(163840, b"FORTY");
        *store.data_mut() += 1;
        Ok(())
    };
    linker.root().func_wrap("visit", visit).unwrap();
    for _ in 0..2 {
        let mut store = Store::new(&engine, 0);
        let instance = linker.instantiate(&mut store, &component).unwrap();
        let show = instance.get_typed_func::<(), ()>(&mut store, "show").unwrap();
        show.call(&mut store, ()).unwrap();
        assert_eq!(*store.data(), 1);
    }
}
