//! Which page of a large memory is in which pack: packs lie one on the other, and the topmost that has a page counts.
//!
//! Every suspension that has much to store adds packs on top. So that they stay few, and little in them lies covered, new packs take
//! in the pages of a pack of which less than half still counts, and of the packs below when there are [`MANY`] that are not much
//! larger. A page is then written again once for each time that what is stored has grown by that factor.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use super::pack::{MAX_PAGES, Pack};

/// Stretches of fewer pages are copied: to map one costs as much as to copy a few pages.
const LEAST_MAPPED: u32 = 8;
/// Mappings of one run, of the 65,530 that a process usually may have.
const MOST_MAPPED: usize = 256;
/// So many packs of about the same size become one.
const MANY: usize = 8;
/// So many pages between two stretches are packed with them.
const MOST_BETWEEN: u32 = 32;
/// Unless all stretches together would become so many times larger.
const MOST_WIDER: u32 = 4;

/// The packs of a run, the newest on top.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    packs: Vec<Arc<Named>>,
    /// For each memory, from the first page of each stretch.
    memories: BTreeMap<u32, BTreeMap<u32, Stretch>>,
}

/// A pack by the name it is stored under.
#[derive(Debug)]
pub struct Named {
    /// The name.
    pub digest: [u8; 32],
    /// The pack.
    pub pack: Pack,
}

/// Pages that lie one after the other in one pack.
#[derive(Debug, Clone)]
struct Stretch {
    end: u32,
    /// Number in the list of packs.
    pack: usize,
    /// Where they begin in the pack, in pages.
    at: u32,
}

impl Layers {
    /// Lays a pack on top.
    pub fn add(&mut self, pack: Arc<Named>) {
        let memory = self.memories.entry(pack.pack.memory).or_default();
        let mut at = 0;
        for pages in &pack.pack.ranges {
            make_room(memory, pages);
            memory.insert(pages.start, Stretch { end: pages.end, pack: self.packs.len(), at });
            at += pages.end - pages.start;
        }
        self.packs.push(pack);
    }

    /// The packs that count, the lowest first.
    pub fn packs(&self) -> &[Arc<Named>] {
        &self.packs
    }

    /// The bytes of a page, if a pack has it.
    pub fn page(&self, memory: u32, page: u32) -> Option<&[u8]> {
        let (first, stretch) = self.memories.get(&memory)?.range(..=page).next_back()?;
        let at = stretch.at + (page - first);
        (page < stretch.end).then(|| self.packs[stretch.pack].pack.bytes(at..at + 1))
    }

    /// How many pages of all memories lie in packs.
    pub fn pages(&self) -> u64 {
        let stretches = self.memories.values().flatten();
        stretches.map(|(first, stretch)| u64::from(stretch.end - first)).sum()
    }

    /// Which stretches are worth a mapping: those of at least so many pages. No run gets more than [`MOST_MAPPED`] mappings.
    pub fn least_mapped(&self) -> u32 {
        let mut lengths: Vec<u32> = self
            .memories
            .values()
            .flatten()
            .map(|(first, stretch)| stretch.end - first)
            .filter(|pages| *pages >= LEAST_MAPPED)
            .collect();
        lengths.sort_unstable_by(|one, other| other.cmp(one));
        // One longer than the first that would be too many.
        lengths.get(MOST_MAPPED).map_or(LEAST_MAPPED, |pages| pages + 1)
    }

    /// The stretches of a memory: which pages, of which pack, and where in it.
    pub fn stretches(&self, memory: u32) -> impl Iterator<Item = (Range<u32>, &Pack, u32)> {
        let stretches = self.memories.get(&memory).into_iter().flatten();
        stretches.map(|(first, stretch)| (*first..stretch.end, &self.packs[stretch.pack].pack, stretch.at))
    }

    /// Takes out the packs of a memory that are not to lie below `count` new pages, and returns which of their pages count.
    pub fn take_in(&mut self, memory: u32, count: u32) -> Vec<Range<u32>> {
        let Some(stretches) = self.memories.get_mut(&memory) else { return vec![] };
        let mut live = vec![0; self.packs.len()];
        stretches.iter().for_each(|(first, stretch)| live[stretch.pack] += stretch.end - first);
        let of_memory = |number: &usize| self.packs[*number].pack.memory == memory;
        let mostly_covered = |number: &usize| live[*number] <= self.packs[*number].pack.pages() / 2;
        let (covered, mut others): (Vec<usize>, Vec<usize>) = (0..live.len()).filter(of_memory).partition(mostly_covered);
        let (mut goes, mut size) = (vec![false; live.len()], count);
        covered.into_iter().for_each(|number| goes[number] = true);
        loop {
            // Packs that are nearly full would be as many when they were written again.
            let most = size.saturating_mul(2).min(MAX_PAGES / 2);
            let (small, larger): (Vec<usize>, Vec<usize>) = others.into_iter().partition(|number| live[*number] <= most);
            if small.len() < MANY {
                break;
            }
            others = larger;
            for number in small {
                goes[number] = true;
                size = size.saturating_add(live[number]);
            }
        }
        let taken =
            stretches.iter().filter(|(_, stretch)| goes[stretch.pack]).map(|(first, stretch)| *first..stretch.end).collect();
        let kept: Vec<_> = self.packs.iter().zip(&goes).filter(|(_, goes)| !**goes).map(|(pack, _)| pack.clone()).collect();
        *self = Layers::default();
        kept.into_iter().for_each(|pack| self.add(pack));
        taken
    }
}

/// Cuts these pages out of what is there.
fn make_room(memory: &mut BTreeMap<u32, Stretch>, pages: &Range<u32>) {
    let before = memory.range(..pages.start).next_back().map(|(first, stretch)| (*first, stretch.clone()));
    let within: Vec<(u32, Stretch)> = memory.range(pages.clone()).map(|(first, stretch)| (*first, stretch.clone())).collect();
    for (first, stretch) in before.into_iter().chain(within).filter(|(_, stretch)| stretch.end > pages.start) {
        memory.remove(&first);
        if first < pages.start {
            memory.insert(first, Stretch { end: pages.start, ..stretch.clone() });
        }
        if stretch.end > pages.end {
            memory.insert(pages.end, Stretch { at: stretch.at + (pages.end - first), ..stretch });
        }
    }
}

/// The pages of a memory that go into new packs: those that have changed, those that were taken in, and what lies between them if
/// that is little. The fewer stretches a pack has, the fewer mappings a restored memory consists of.
pub fn to_pack(changed: &[Range<u32>], taken_in: &[Range<u32>]) -> Vec<Range<u32>> {
    let exact = joined(changed, taken_in, 0);
    let wide = joined(changed, taken_in, MOST_BETWEEN);
    if count(&wide) <= count(&exact).saturating_mul(MOST_WIDER) { wide } else { exact }
}

/// How many pages there are in a list of ranges.
pub fn count(ranges: &[Range<u32>]) -> u32 {
    ranges.iter().map(|pages| pages.end - pages.start).sum()
}

/// All pages of two lists of ranges, which ascend and do not overlap, as one such list, with gaps of up to `gap` pages filled.
fn joined(one: &[Range<u32>], other: &[Range<u32>], gap: u32) -> Vec<Range<u32>> {
    let mut all: Vec<Range<u32>> = one.iter().chain(other).cloned().collect();
    all.sort_by_key(|pages| pages.start);
    let mut joined: Vec<Range<u32>> = vec![];
    for pages in all {
        match joined.last_mut() {
            Some(last) if pages.start <= last.end.saturating_add(gap) => last.end = last.end.max(pages.end),
            _ => joined.push(pages),
        }
    }
    joined
}

/// Lists of at most `most` pages each.
pub fn in_parts(ranges: &[Range<u32>], most: u32) -> Vec<Vec<Range<u32>>> {
    let mut parts: Vec<Vec<Range<u32>>> = vec![];
    let mut room = 0;
    for pages in ranges {
        let mut start = pages.start;
        while start < pages.end {
            if room == 0 {
                parts.push(vec![]);
                room = most;
            }
            let end = pages.end.min(start + room);
            parts.last_mut().expect("one was just begun").push(start..end);
            room -= end - start;
            start = end;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::format::PAGE, *};

    const PAGES: u32 = 64;

    /// Of a memory whose every page is full of `fill`.
    fn pack(folder: &std::path::Path, fill: u8, ranges: Vec<Range<u32>>) -> Arc<Named> {
        let bytes = vec![fill; PAGES as usize * PAGE];
        Arc::new(Named { digest: [fill; 32], pack: Pack::write(folder, 1, &bytes, ranges).unwrap() })
    }

    fn only(pages: Range<u32>) -> Vec<Range<u32>> {
        std::iter::once(pages).collect()
    }

    fn ranges() -> impl Strategy<Value = Vec<Range<u32>>> {
        proptest::collection::btree_set(0..PAGES, 2..12).prop_map(|bounds| {
            let bounds: Vec<u32> = bounds.into_iter().collect();
            bounds.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_topmost_pack_that_has_a_page_counts_and_no_page_is_lost(all in proptest::collection::vec(ranges(), 1..10)) {
            let folder = tempfile::tempdir().unwrap();
            let (mut layers, mut expected) = (Layers::default(), vec![None; PAGES as usize]);
            for (fill, changed) in (1_u8..).zip(&all) {
                let taken = layers.take_in(1, count(changed));
                // What is taken in is as it was; each fill in a pack of its own here.
                for pages in taken.iter().cloned().flatten() {
                    let old = expected[pages as usize].unwrap();
                    layers.add(pack(folder.path(), old, only(pages..pages + 1)));
                }
                layers.add(pack(folder.path(), fill, changed.clone()));
                changed.iter().cloned().flatten().for_each(|page| expected[page as usize] = Some(fill));
                for (page, fill) in (0..).zip(&expected) {
                    prop_assert_eq!(layers.page(1, page).map(|bytes| bytes[0]), *fill);
                    prop_assert_eq!(layers.page(2, page), None);
                }
                let of_stretches: Vec<u32> = layers.stretches(1).flat_map(|(pages, ..)| pages).collect();
                let of_pages: Vec<u32> = (0..PAGES).filter(|page| expected[*page as usize].is_some()).collect();
                prop_assert_eq!(of_stretches, of_pages);
            }
        }

        #[test]
        fn parts_are_the_whole(one in ranges(), other in ranges(), most in 1..20_u32) {
            let joined = joined(&one, &other, 0);
            let is_in = |ranges: &[Range<u32>], page| ranges.iter().any(|range| range.contains(&page));
            let parts = in_parts(&joined, most);
            prop_assert!(parts.iter().all(|part| count(part) <= most));
            let parts = parts.concat();
            for page in 0..PAGES {
                prop_assert_eq!(is_in(&parts, page), is_in(&one, page) || is_in(&other, page));
            }
        }
    }

    #[test]
    fn only_the_longest_stretches_are_mapped() {
        let folder = tempfile::tempdir().unwrap();
        let long = |count: u32| (0..count).map(|number| number * 30..number * 30 + 10).collect::<Vec<_>>();
        let bytes = vec![1; 30 * 400 * PAGE];
        let layers = |ranges| {
            let mut layers = Layers::default();
            layers.add(Arc::new(Named { digest: [1; 32], pack: Pack::write(folder.path(), 1, &bytes, ranges).unwrap() }));
            layers
        };
        assert_eq!(layers(long(100)).least_mapped(), LEAST_MAPPED);
        assert_eq!(layers(long(400)).least_mapped(), 11);
    }

    #[test]
    fn what_lies_between_is_packed_too_if_it_is_little() {
        let near: Vec<Range<u32>> = (0..10).map(|number| number * 20..number * 20 + 10).collect();
        assert_eq!(to_pack(&near, &[]), only(0..190));
        let far: Vec<Range<u32>> = (0..10).map(|number| number * 20..number * 20 + 1).collect();
        assert_eq!(to_pack(&far, &[]), far);
    }

    #[test]
    fn packs_stay_few_and_large_ones_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut layers = Layers::default();
        layers.add(pack(folder.path(), 1, only(0..60)));
        let mut written = 0;
        for round in 0..200_u32 {
            let page = round * 7 % 32;
            let all = joined(&layers.take_in(1, 1), &only(page..page + 1), 0);
            written += count(&all);
            layers.add(pack(folder.path(), 2, all));
            assert!(layers.packs().len() <= 3 * MANY, "{round}: {}", layers.packs().len());
        }
        assert!(written < 3 * 200, "{written} pages were written for 200 that changed");
    }
}
