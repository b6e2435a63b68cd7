//! What the memories of a component hold before it runs: what the words of a snapshot are compared with.

use std::ops::Range;

use super::format::{
    PAGE,
    pages::{Base, is_zero},
};

/// The memories of a fresh instance, whose pages were put back to what the component has there.
#[derive(Debug, Default)]
pub struct Image {
    /// Of each memory the pages that are not all zero, ascending.
    memories: Vec<Vec<Stretch>>,
}

#[derive(Debug)]
struct Stretch {
    pages: Range<u32>,
    bytes: Vec<u8>,
}

impl Image {
    /// Adds the next memory.
    pub fn add(&mut self, memory: &[u8]) {
        let mut stretches: Vec<Stretch> = vec![];
        for (number, page) in (0..).zip(memory.chunks_exact(PAGE)).filter(|(_, page)| !is_zero(page)) {
            match stretches.last_mut() {
                Some(last) if last.pages.end == number => {
                    last.pages.end += 1;
                    last.bytes.extend_from_slice(page);
                }
                _ => stretches.push(Stretch { pages: number..number + 1, bytes: page.to_vec() }),
            }
        }
        stretches.iter_mut().for_each(|stretch| stretch.bytes.shrink_to_fit());
        self.memories.push(stretches);
    }

    /// A page of a memory, which is counted from 1 as in snapshots.
    pub fn page(&self, memory: u32, page: u32) -> Base<'_> {
        let Some(stretches) = self.memories.get(memory as usize - 1) else { return Base::Unknown };
        let after = stretches.partition_point(|stretch| stretch.pages.start <= page);
        match after.checked_sub(1).map(|place| &stretches[place]).filter(|stretch| page < stretch.pages.end) {
            Some(stretch) => Base::Page(&stretch.bytes[(page - stretch.pages.start) as usize * PAGE..][..PAGE]),
            None => Base::Zero,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_every_page_of_every_memory() {
        let fills = [0, 0, 3, 4, 0, 6];
        let memory: Vec<u8> = fills.iter().flat_map(|fill| [*fill; PAGE]).collect();
        let mut image = Image::default();
        image.add(&[]);
        image.add(&memory);
        for (number, fill) in (0..).zip(fills) {
            match image.page(2, number) {
                Base::Zero => assert_eq!(fill, 0),
                Base::Page(page) => assert_eq!(page, [fill; PAGE]),
                Base::Unknown => panic!("the memory is known"),
            }
        }
        assert!(matches!(image.page(1, 0), Base::Zero), "a memory that has grown had zeros there");
        assert!(matches!(image.page(3, 0), Base::Unknown));
    }
}
