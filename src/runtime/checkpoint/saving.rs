//! One memory after the other on its way into a snapshot, or, if much of it has changed, into packs.

use std::{io, ops::Range, path::PathBuf, sync::Arc};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

use super::{
    format::{
        PAGE, Writer,
        pages::{Base, differs},
    },
    layers::{Layers, count, in_parts, to_pack},
    memory::{Image, Tracker, View},
    pack::{MAX_PAGES, Pack},
};

/// Bytes of a memory that a snapshot holds itself. More go into packs: what is in one need not be stored again, nor read at once, but
/// each costs a blob.
const MOST_INLINE: usize = 256 << 10;

/// A snapshot that is being taken.
pub struct Saving {
    /// Takes what goes into the snapshot itself.
    pub writer: Writer,
    /// What the component's memories hold before it runs; none: unknown.
    pub image: Option<Arc<Image>>,
    /// The packs that the instance lies in, but for those that the new ones replace.
    pub layers: Layers,
    /// Where files of packs are made.
    pub folder: PathBuf,
    /// New packs.
    pub new: Vec<Pack>,
    /// Why one of them could not be written. The guest, which is about to show its next memory, must not hear of it.
    pub failed: Option<io::Error>,
}

impl Saving {
    /// Takes what has changed in a memory.
    ///
    /// # Errors
    /// If the kernel does not say which pages have been written to.
    pub fn memory(&mut self, index: u32, view: &View<'_>) -> io::Result<()> {
        let dirty = view.dirty(Tracker::of_this_machine())?;
        let (image, layers) = (self.image.clone(), self.layers.clone());
        let base = |page| layers.page(index, page).map_or_else(|| base_in_image(image.as_deref(), index, page), Base::Page);
        if self.writer.memory(index, view.bytes(), base, &dirty, MOST_INLINE) {
            return Ok(());
        }
        let is_changed = |page: u32| differs(&view.bytes()[page as usize * PAGE..][..PAGE], base(page));
        at_length(|| {
            let changed = ranges(dirty.into_iter().flatten().filter(|page| is_changed(*page)));
            let taken_in = self.layers.take_in(index, count(&changed));
            for part in in_parts(&to_pack(&changed, &taken_in), MAX_PAGES) {
                match Pack::write(&self.folder, index, view.bytes(), part) {
                    Ok(pack) => self.new.push(pack),
                    Err(error) => self.failed = Some(error),
                }
            }
        });
        Ok(())
    }
}

/// Does what may take a second for each gigabyte, without keeping this thread's other tasks waiting.
fn at_length(work: impl FnOnce()) {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}

/// A page as the component's own image has it.
fn base_in_image(image: Option<&Image>, memory: u32, page: u32) -> Base<'_> {
    match image.and_then(|image| image.memory(memory as usize - 1)) {
        None => Base::Unknown,
        Some(image) => image.get(page as usize * PAGE..(page as usize + 1) * PAGE).map_or(Base::Zero, Base::Page),
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
