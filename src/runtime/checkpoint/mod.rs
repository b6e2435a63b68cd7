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

pub mod format;
mod memory;

use std::ops::Range;

use tokio::task::spawn_blocking;
use wasmtime::{
    StoreContextMut,
    component::{ComponentExportIndex, Linker, WasmList},
};

use self::memory::{Tracker, View};
use super::{execution::RunFault, host_fault, instance::Live};
use crate::{
    host::{HostState, RebuildError, limits::HOSTCALL_FUEL},
    model::{machine::Machine, waitpoint::WaitRequest},
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
}

/// Captures a suspended instance.
pub(super) async fn capture(
    live: &mut Live,
    save: ComponentExportIndex,
    identity: format::Identity,
    wait: &WaitRequest,
) -> Result<Snapshot, RunFault> {
    let mut writer = format::Writer::default();
    writer.host_state(&live.store.data_mut().save().await);
    writer.wait(wait);
    let saved = transfer(live, Transfer::Saving(writer), save).await;
    let Transfer::Saving(writer) = saved.map_err(|error| failed(live, "saving", error))? else {
        unreachable!("a transfer does not change its direction")
    };
    let raw_bytes = writer.raw_bytes();
    let sealed = match raw_bytes {
        ..=INLINE_BYTES => writer.seal(identity),
        _ => spawn_blocking(move || writer.seal(identity)).await.map_err(|error| RunFault::Host(error.into()))?,
    };
    let bytes = sealed.map_err(|error| RunFault::Host(anyhow::Error::from(error).context("cannot compress the snapshot")))?;
    Ok(Snapshot { bytes, raw_bytes })
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

/// Fills a fresh instance with what a snapshot holds, and gives the wait that it was taken in.
pub(super) async fn load(
    live: &mut Live,
    load: ComponentExportIndex,
    contents: format::Contents,
) -> Result<WaitRequest, RunFault> {
    let expected = contents.memories.len() + 1;
    let loading = Transfer::Loading { contents, visited: 0 };
    let loaded = transfer(live, loading, load).await;
    let Transfer::Loading { contents, visited } = loaded.map_err(|error| failed(live, "loading", error))? else {
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
    /// They go into a snapshot.
    Saving(format::Writer),
    /// They come from one.
    Loading { contents: format::Contents, visited: usize },
}

impl Transfer {
    /// Pages of 64 KiB that memory `index` must have; 0: as it is.
    fn pages(&self, index: u32) -> u32 {
        match self {
            Transfer::Saving(_) => 0,
            Transfer::Loading { contents, .. } if index == AUX => contents.aux.len().div_ceil(WASM_PAGE) as u32,
            Transfer::Loading { contents, .. } => memory(contents, index).map_or(0, |memory| memory.wasm_pages),
        }
    }

    fn visit(&mut self, index: u32, mut view: View<'_>) -> wasmtime::Result<()> {
        match self {
            Transfer::Saving(writer) if index == AUX => writer.aux(view.bytes()),
            Transfer::Saving(writer) => {
                let dirty = view.dirty(Tracker::of_this_machine())?;
                writer.memory(index, view.bytes(), &dirty);
            }
            Transfer::Loading { contents, visited } => {
                *visited += 1;
                fill(&mut view, index, contents, Tracker::of_this_machine())?;
            }
        }
        Ok(())
    }
}

fn memory(contents: &format::Contents, index: u32) -> Option<&format::Memory> {
    contents.memories.get(index.checked_sub(1)? as usize)
}

/// Makes a memory what it was.
fn fill(view: &mut View<'_>, index: u32, contents: &format::Contents, tracker: &Tracker) -> wasmtime::Result<()> {
    if index == AUX {
        wasmtime::ensure!(contents.aux.len() <= view.bytes().len(), "the call stack does not fit into its memory");
        view.write(0, &contents.aux);
        return Ok(());
    }
    let Some(memory) = memory(contents, index) else { wasmtime::bail!("the snapshot has no memory {index}") };
    let length = memory.wasm_pages as usize * WASM_PAGE;
    wasmtime::ensure!(length == view.bytes().len(), "memory {index} is not as long as it was");
    let kept: Vec<Range<u32>> = memory.runs.iter().map(|run| run.pages.clone()).collect();
    for pages in without(&view.dirty(tracker)?, &kept) {
        view.reset(pages)?;
    }
    for run in &memory.runs {
        match &run.bytes {
            Some(bytes) => view.write(run.pages.start as usize * format::PAGE, bytes),
            None => view.clear(run.pages.clone()),
        }
    }
    Ok(())
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

    use super::{memory::tests::Mapping, *};
    use crate::model::id::RunId;

    const IMAGE_PAGES: usize = 20;
    const PAGES: usize = 32;

    /// A memory whose first 20 pages have an image, written to as a run would.
    fn written() -> Mapping {
        let mut mapping = Mapping::new(IMAGE_PAGES, PAGES - IMAGE_PAGES);
        let mut view = mapping.view();
        view.write(3 * format::PAGE + 5, b"in the image");
        view.write(18 * format::PAGE, &[0; 4 * format::PAGE]);
        view.write(30 * format::PAGE, b"beyond it");
        mapping
    }

    #[test]
    fn a_memory_survives_whichever_way_dirty_pages_are_found_on_either_side() {
        let identity = format::Identity { component: [0; 32], rewriter: 1, rewritten: [1; 32], run: RunId::new() };
        for (saver, loader) in
            Tracker::all().iter().flat_map(|saver| Tracker::all().into_iter().map(move |loader| (saver, loader)))
        {
            let mut original = written();
            let view = original.view();
            let mut writer = format::Writer::default();
            writer.host_state(b"");
            writer.wait(&WaitRequest::Any { waitpoints: Vec::new() });
            writer.aux(b"");
            writer.memory(1, view.bytes(), &view.dirty(saver).unwrap());
            let contents = format::decode(&writer.seal(identity).unwrap(), identity, 1 << 20).unwrap();
            // What a start function did this time, and not the last.
            let mut fresh = Mapping::new(IMAGE_PAGES, PAGES - IMAGE_PAGES);
            fresh.view().write(5 * format::PAGE, &[9; 20 * format::PAGE]);
            fill(&mut fresh.view(), 1, &contents, &loader).unwrap();
            assert!(fresh.view().bytes() == view.bytes(), "{} to {}", saver.name(), loader.name());
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
