//! A suspended instance as bytes, and an instance from those bytes.
//!
//! The rewriter gives a component two functions for this. `ckpt-save` puts what only WebAssembly can reach (mutable globals,
//! the place in the call stack) into the checkpoint's own memory, then shows every memory to the host through the import
//! `ckpt:host/memory.visit`; `ckpt-load`, in a fresh instance, makes the memories as long as they were (`pages`), shows
//! them to be filled, and takes its own back out. Between the two, a snapshot is what [`mod@format`] draws.
//!
//! Saved: the call stack with the exceptions that functions on it have caught, all mutable globals, which segments were
//! dropped, every page of every memory that differs from the component's image, the host's handles and how to open what is
//! behind them again, output that is not yet a whole line, how far the monotonic clock was, and the wait itself.
//!
//! Not saved: code, and the image that clean pages come from (they are the component's); tables, which no accepted component
//! can change; files of the scratch directory; sockets and HTTP bodies, which keep a run from being suspended at all; and
//! environment variables, time and randomness, which are those of the day it goes on.
//!
//! Start functions run again in the fresh instance, with the host keeping still. The pages they wrote to are
//! put back to the image first, so that what they did this time leaves no trace.
//!
//! What a page has to be compared with, the component's own image of it, is not in the suspended instance any more: it is read
//! from another one, made once for each component, of which only that is kept (`Image`).
//!
//! Of a memory in which much has changed since the image, what has changed goes into packs, which later snapshots only name: a
//! memory of a gigabyte of which a megabyte is written to between two waits costs what a megabyte costs. Going on, the packs are
//! mapped, not read, and by that the kernel again knows which pages have changed since ([`packs`]).

pub mod format;
mod image;
mod layers;
mod memory;
mod pack;
pub mod packs;
mod saving;

use std::{ops::Range, sync::Arc};

use tokio::task::spawn_blocking;
use wasmtime::{
    StoreContextMut,
    component::{ComponentExportIndex, Linker, WasmList},
};

use self::{
    format::{Content, PAGE},
    memory::{Tracker, View},
    packs::Packs,
    saving::{Saving, at_length},
};
pub(super) use self::{image::Image, layers::Layers};
use super::{LoadedComponent, execution::RunFault, host_fault, instance::Live};
use crate::{
    host::{HostState, RebuildError, limits::HOSTCALL_FUEL},
    model::{id::RunId, machine::Machine, waitpoint::WaitRequest},
};

/// Above this many bytes, a snapshot is compressed or decompressed on a thread that may block.
const INLINE_BYTES: u64 = 1 << 20;
/// Beyond the guest's own memory: the call stack, and what the host keeps for the run.
const OVERHEAD_BYTES: u64 = 128 << 20;
/// The index under which the rewriter shows the checkpoint's own memory.
const AUX: u32 = 0;
const WASM_PAGE: usize = 1 << 16;

/// A captured run.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What to store.
    pub bytes: Vec<u8>,
    /// Bytes before compression.
    pub raw_bytes: u64,
    /// The packs that it names: lower-case hex of their blake3 digests.
    pub packs: Vec<String>,
}

/// Captures a suspended instance of this component, which lies in these layers if it was restored; with everything in the snapshot,
/// unless it may have packs.
pub(super) async fn capture(
    live: &mut Live,
    component: &LoadedComponent,
    layers: Option<&Layers>,
    packs: Option<&Arc<Packs>>,
    run: RunId,
    wait: &WaitRequest,
) -> Result<Snapshot, RunFault> {
    let (save, identity) = (component.exports.save, component.identity(run));
    let mut writer = format::Writer::default();
    writer.host_state(&live.store.data_mut().save().await);
    writer.wait(wait);
    let most_inline = if layers.is_some() { saving::MOST_INLINE } else { saving::MOST_INLINE_AT_FIRST };
    let (image, layers, packs) = (component.image().await, layers.cloned().unwrap_or_default(), packs.cloned());
    let saving = Saving { writer, image, layers, packs, most_inline, new: vec![], failed: None };
    let Transfer::Saving(Saving { mut writer, mut layers, new, failed, .. }) =
        transfer(live, Transfer::Saving(saving), save).await.map_err(|error| self::failed(live, "saving", error))?
    else {
        unreachable!("a transfer does not change its direction")
    };
    if let Some(error) = failed {
        return Err(RunFault::NotStored(anyhow::Error::from(error).context("cannot write a pack of pages")));
    }
    component.packs().store(new, &mut layers, identity).await.map_err(RunFault::NotStored)?;
    let digests: Vec<[u8; 32]> = layers.packs().iter().map(|pack| pack.digest).collect();
    if !digests.is_empty() {
        writer.packs(digests.iter().copied());
    }
    let raw_bytes = writer.raw_bytes();
    let sealed = match raw_bytes {
        ..=INLINE_BYTES => writer.seal(identity),
        _ => spawn_blocking(move || writer.seal(identity)).await.map_err(|error| RunFault::Host(error.into()))?,
    };
    let bytes = sealed.map_err(|error| RunFault::Host(anyhow::Error::from(error).context("cannot compress the snapshot")))?;
    Ok(Snapshot { bytes, raw_bytes, packs: digests.iter().map(hex::encode).collect() })
}

/// The image of a component, from a fresh instance of it.
pub(super) async fn image(mut live: Live, save: ComponentExportIndex) -> Result<Image, RunFault> {
    let shown = transfer(&mut live, Transfer::Showing(Image::default()), save).await;
    match shown.map_err(|error| failed(&live, "showing", error))? {
        Transfer::Showing(image) => Ok(image),
        _ => unreachable!("a transfer does not change its direction"),
    }
}

/// Reads a snapshot of a run on `machine`.
pub(super) async fn decode(snapshot: &[u8], identity: format::Identity, machine: Machine) -> Result<format::Contents, RunFault> {
    let limit = machine.linear_memory_bytes() + OVERHEAD_BYTES;
    let decoded = if snapshot.len() as u64 <= INLINE_BYTES {
        format::decode(snapshot, identity, limit)
    } else {
        let snapshot = snapshot.to_vec();
        spawn_blocking(move || format::decode(&snapshot, identity, limit)).await.map_err(|error| RunFault::Host(error.into()))?
    };
    decoded.map_err(|refused| RunFault::Damaged(refused.to_string()))
}

/// Fills a fresh instance with what a snapshot and the packs that it names hold, and gives the wait that it was taken in.
pub(super) async fn load(
    live: &mut Live,
    load: ComponentExportIndex,
    contents: format::Contents,
    layers: &Layers,
) -> Result<WaitRequest, RunFault> {
    let expected = contents.memories.len() + 1;
    let loading = Transfer::Loading { contents, layers: layers.clone(), visited: 0 };
    let loaded = transfer(live, loading, load).await;
    let Transfer::Loading { contents, visited, .. } = loaded.map_err(|error| failed(live, "loading", error))? else {
        unreachable!("a transfer does not change its direction")
    };
    if visited != expected {
        return Err(RunFault::Damaged(format!("the snapshot has {expected} memories, the component {visited}")));
    }
    match live.store.data_mut().rebuild(&contents.host_state).await {
        Ok(()) => Ok(contents.wait),
        Err(error @ RebuildError::Damaged(_)) => Err(RunFault::Damaged(error.to_string())),
    }
}

/// Lets the guest show its memories.
async fn transfer(live: &mut Live, transfer: Transfer, function: ComponentExportIndex) -> wasmtime::Result<Transfer> {
    live.store.data_mut().memory_transfer = Some(Box::new(transfer));
    // Whole memories cross over as lists; none of their bytes are copied into the host.
    live.store.set_hostcall_fuel(usize::MAX);
    let called = live.call_unmeasured(function).await;
    live.store.set_hostcall_fuel(HOSTCALL_FUEL);
    let transfer = take_transfer(live.store.data_mut());
    called?;
    Ok(*transfer.expect("`visit` puts it back"))
}

fn failed(live: &Live, doing: &str, error: wasmtime::Error) -> RunFault {
    let context = format!("{doing} a run's memories failed (rewriter version {})", live.rewriter);
    RunFault::Host(host_fault(error).context(context))
}

/// What is done with the memories that a guest shows.
enum Transfer {
    /// They go into a snapshot, and into packs.
    Saving(Saving),
    /// They become an image.
    Showing(Image),
    /// They come from there.
    Loading { contents: format::Contents, layers: Layers, visited: usize },
}

impl Transfer {
    /// Pages of 64 KiB that memory `index` must have; 0: as it is.
    fn pages(&self, index: u32) -> u32 {
        match self {
            Transfer::Saving(_) | Transfer::Showing(_) => 0,
            Transfer::Loading { contents, .. } if index == AUX => contents.aux.len().div_ceil(WASM_PAGE) as u32,
            Transfer::Loading { contents, .. } => memory(contents, index).map_or(0, |memory| memory.wasm_pages),
        }
    }

    fn visit(&mut self, index: u32, mut view: View<'_>) -> wasmtime::Result<()> {
        match self {
            Transfer::Saving(saving) if index == AUX => saving.writer.aux(view.bytes()),
            Transfer::Saving(saving) => saving.memory(index, &view)?,
            Transfer::Showing(_) if index == AUX => {}
            Transfer::Showing(image) => {
                for written in view.dirty(Tracker::of_this_machine())? {
                    view.reset(written)?;
                }
                image.add(view.bytes());
            }
            Transfer::Loading { contents, layers, visited } => {
                *visited += 1;
                let pages = contents.pages() + layers.pages();
                at_length(pages, || fill(&mut view, index, contents, layers, Tracker::of_this_machine()))?;
            }
        }
        Ok(())
    }
}

fn memory(contents: &format::Contents, index: u32) -> Option<&format::Memory> {
    contents.memories.get(index.checked_sub(1)? as usize)
}

/// Makes a memory what it was.
fn fill(
    view: &mut View<'_>,
    index: u32,
    contents: &format::Contents,
    layers: &Layers,
    tracker: &Tracker,
) -> wasmtime::Result<()> {
    if index == AUX {
        wasmtime::ensure!(contents.aux.len() <= view.bytes().len(), "the call stack does not fit into its memory");
        view.write(0, &contents.aux);
        return Ok(());
    }
    let Some(memory) = memory(contents, index) else { wasmtime::bail!("the snapshot has no memory {index}") };
    let length = memory.wasm_pages as usize * WASM_PAGE;
    wasmtime::ensure!(length == view.bytes().len(), "memory {index} is not as long as it was");
    let replaced = memory.runs.iter().filter(|run| !matches!(run.content, Content::Words(_)));
    let replaced: Vec<Range<u32>> = replaced.map(|run| run.pages.clone()).collect();
    for pages in without(&view.dirty(tracker)?, &replaced) {
        view.reset(pages)?;
    }
    let least_mapped = layers.least_mapped();
    for (pages, pack, at) in layers.stretches(index) {
        wasmtime::ensure!(pages.end as usize * PAGE <= length, "a pack has pages beyond the end of memory {index}");
        if pages.len() >= least_mapped as usize {
            view.map(pages, &pack.file, at)?;
        } else {
            view.write(pages.start as usize * PAGE, pack.bytes(at..at + pages.len() as u32));
        }
    }
    for run in &memory.runs {
        match &run.content {
            Content::Zero => view.clear(run.pages.clone()),
            Content::Bytes(bytes) => view.write(run.pages.start as usize * PAGE, bytes),
            Content::Words(differences) => put_words(view, run.pages.clone(), differences),
        }
    }
    Ok(())
}

/// Changes pages that are as their base.
fn put_words(view: &mut View<'_>, pages: Range<u32>, mut differences: &[u8]) {
    for page in pages {
        let Some((encoded, rest)) = format::pages::split(differences) else { unreachable!("the decoder has split them") };
        for (at, word) in encoded.words() {
            view.write(page as usize * PAGE + at, word);
        }
        differences = rest;
    }
}

/// The parts of `ranges` that are in none of `others`; both ascend and do not overlap.
fn without(ranges: &[Range<u32>], others: &[Range<u32>]) -> Vec<Range<u32>> {
    let mut left = Vec::new();
    let mut others = others.iter().peekable();
    for range in ranges {
        let mut start = range.start;
        while let Some(other) = others.peek().filter(|other| other.start < range.end) {
            if other.start > start {
                left.push(start..other.start);
            }
            start = start.max(other.end);
            if other.end > range.end {
                break;
            }
            others.next();
        }
        if start < range.end {
            left.push(start..range.end);
        }
    }
    left
}

/// Registers the functions through which a guest shows its memories.
pub(super) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut interface = linker.instance("ckpt:host/memory")?;
    interface.func_wrap("pages", |mut store: StoreContextMut<'_, HostState>, (index,): (u32,)| {
        let transfer = expect_transfer(store.data_mut())?;
        let pages = transfer.pages(index);
        store.data_mut().memory_transfer = Some(transfer);
        Ok((pages,))
    })?;
    interface.func_wrap("visit", |mut store: StoreContextMut<'_, HostState>, (index, bytes): (u32, WasmList<u8>)| {
        let mut transfer = expect_transfer(store.data_mut())?;
        let result = transfer.visit(index, View::of(&bytes, &mut store));
        store.data_mut().memory_transfer = Some(transfer);
        result
    })
}

/// Takes the transfer out, so that the store is free for the memories to be looked at.
fn take_transfer(state: &mut HostState) -> Option<Box<Transfer>> {
    state.memory_transfer.take()?.downcast().ok()
}

/// A forged call, at any other time, is the guest's fault and ends it.
fn expect_transfer(state: &mut HostState) -> wasmtime::Result<Box<Transfer>> {
    take_transfer(state).ok_or_else(|| wasmtime::format_err!("the guest showed its memories without being asked to"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{format::pages::Base, memory::tests::Mapping, *};

    const IMAGE_PAGES: usize = 20;
    const PAGES: usize = 32;

    /// A memory whose first 20 pages have an image, written to as a run would.
    fn written() -> Mapping {
        let mut mapping = Mapping::new(IMAGE_PAGES, PAGES - IMAGE_PAGES);
        let mut view = mapping.view();
        view.write(3 * PAGE + 5, b"in the image");
        view.write(8 * PAGE, &[0xee; PAGE]);
        view.write(10 * PAGE, &[11; PAGE]);
        view.write(18 * PAGE, &[0; 4 * PAGE]);
        view.write(30 * PAGE, b"beyond it");
        mapping
    }

    #[test]
    fn a_memory_survives_whichever_way_dirty_pages_are_found_on_either_side_with_and_without_an_image() {
        let identity = format::Identity { component: [0; 32], rewriter: 1, rewritten: [1; 32], run: RunId::new() };
        let image = Mapping::new(IMAGE_PAGES, 0).view().bytes().to_vec();
        let trackers = Tracker::all();
        for (saver, loader) in trackers.iter().flat_map(|saver| trackers.iter().map(move |loader| (saver, loader))) {
            for image in [None, Some(&image[..])] {
                let mut original = written();
                let view = original.view();
                let mut writer = format::Writer::default();
                writer.host_state(b"");
                writer.wait(&WaitRequest::Any { waitables: Vec::new() });
                writer.aux(b"");
                let base = |page: u32| match image {
                    None => Base::Unknown,
                    Some(image) => image.get(page as usize * PAGE..(page as usize + 1) * PAGE).map_or(Base::Zero, Base::Page),
                };
                assert!(writer.memory(1, view.bytes(), base, &view.dirty(saver).unwrap(), 1 << 20));
                let contents = format::decode(&writer.seal(identity).unwrap(), identity, 1 << 20).unwrap();
                // What a start function did this time, and not the last.
                let mut fresh = Mapping::new(IMAGE_PAGES, PAGES - IMAGE_PAGES);
                fresh.view().write(2 * PAGE, &[9; 20 * PAGE]);
                fill(&mut fresh.view(), 1, &contents, &Layers::default(), loader).unwrap();
                assert!(fresh.view().bytes() == view.bytes(), "{} to {}, {}", saver.name(), loader.name(), image.is_some());
            }
        }
    }

    fn ranges() -> impl Strategy<Value = Vec<Range<u32>>> {
        proptest::collection::btree_set(0u32..40, 0..20).prop_map(|bounds| {
            let bounds: Vec<u32> = bounds.into_iter().collect();
            bounds.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_left_is_in_the_first_and_not_in_the_second(first in ranges(), second in ranges()) {
            let left = without(&first, &second);
            let is_in = |ranges: &[Range<u32>], page| ranges.iter().any(|range| range.contains(&page));
            for page in 0..40 {
                prop_assert_eq!(is_in(&left, page), is_in(&first, page) && !is_in(&second, page));
            }
        }
    }
}
