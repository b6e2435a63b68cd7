//! One memory after the other on its way into a snapshot, or, if much of it has changed, into packs.

use std::{io, ops::Range, sync::Arc};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

use super::{
    format::{
        PAGE, Writer,
        pages::{Base, differs},
    },
    image::Image,
    layers::{Layers, count, in_parts, to_pack},
    memory::{Tracker, View},
    pack::{MAX_PAGES, Pack},
    packs::Packs,
};

/// Bytes of a memory that the first snapshot of a run holds itself. More go into packs: what is in one need not be stored again, nor
/// read at once, but each costs a blob, and many a run never waits again.
pub const MOST_INLINE_AT_FIRST: usize = 256 << 10;
/// The same of later snapshots: a run that has waited twice will probably wait again. Compressed, so much fits into a row.
pub const MOST_INLINE: usize = 64 << 10;

/// A snapshot that is being taken.
pub struct Saving {
    /// Takes what goes into the snapshot itself.
    pub writer: Writer,
    /// What the component's memories hold before it runs; none: unknown.
    pub image: Option<Arc<Image>>,
    /// The packs that the instance lies in, but for those that the new ones replace.
    pub layers: Layers,
    /// Where packs are made; none: everything goes into the snapshot.
    pub packs: Option<Arc<Packs>>,
    /// Bytes of a memory that the snapshot holds itself, if there may be packs.
    pub most_inline: usize,
    /// New packs.
    pub new: Vec<Pack>,
    /// Why one of them could not be written. The guest, which is about to show its next memory, must not hear of it.
    pub failed: Option<io::Error>,
}

/// Pages that are compared or copied without asking whether others wait for this thread: a few milliseconds.
pub const AT_A_TIME: u64 = 2048;

impl Saving {
    /// Takes what has changed in a memory.
    ///
    /// # Errors
    /// If the kernel does not say which pages have been written to.
    pub fn memory(&mut self, index: u32, view: &View<'_>) -> io::Result<()> {
        let dirty = view.dirty(Tracker::of_this_machine())?;
        let pages = dirty.iter().map(|pages| pages.len() as u64).sum();
        at_length(pages, || {
            if let Some(changed) = self.inline(index, view, &dirty) {
                self.pack(index, view, &changed);
            }
        });
        Ok(())
    }

    /// Takes what has changed into the snapshot; or, if that is too much, returns which pages have.
    fn inline(&mut self, index: u32, view: &View<'_>, dirty: &[Range<u32>]) -> Option<Vec<Range<u32>>> {
        let (image, layers) = (self.image.as_deref(), &self.layers);
        let in_image = |page| image.map_or(Base::Unknown, |image| image.page(index, page));
        let base = |page| layers.page(index, page).map_or_else(|| in_image(page), Base::Page);
        let most = if self.packs.is_some() { self.most_inline } else { usize::MAX };
        if self.writer.memory(index, view.bytes(), base, dirty, most) {
            return None;
        }
        let is_changed = |page: u32| differs(&view.bytes()[page as usize * PAGE..][..PAGE], base(page));
        Some(ranges(dirty.iter().cloned().flatten().filter(|page| is_changed(*page))))
    }

    fn pack(&mut self, index: u32, view: &View<'_>, changed: &[Range<u32>]) {
        let packs = self.packs.as_ref().expect("without packs, nothing is too much for the snapshot");
        let taken_in = self.layers.take_in(index, count(changed));
        for part in in_parts(&to_pack(changed, &taken_in), MAX_PAGES) {
            match packs.write(index, view.bytes(), part) {
                Ok(pack) => self.new.push(pack),
                Err(error) => return self.failed = Some(error),
            }
        }
    }
}

/// Does what may take a second for each gigabyte, without keeping this thread's other tasks waiting.
pub fn at_length<T>(pages: u64, work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) if pages > AT_A_TIME => block_in_place(work),
        _ => work(),
    }
}

/// Ascending pages as ranges.
fn ranges(pages: impl Iterator<Item = u32>) -> Vec<Range<u32>> {
    let mut ranges: Vec<Range<u32>> = vec![];
    for page in pages {
        match ranges.last_mut() {
            Some(last) if last.end == page => last.end += 1,
            _ => ranges.push(page..page + 1),
        }
    }
    ranges
}
