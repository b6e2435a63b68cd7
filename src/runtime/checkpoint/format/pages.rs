//! What a page of a memory is, told by how it differs from the page that the component's own image, or a pack, has there.
//!
//! An interpreter that runs a few functions writes to hundreds of pages: it counts references, marks objects, turns a cursor. Of each page
//! a few words change, of many none that was not changed back. So a page is kept as the words that are new, with a bit for each word of
//! the page that says whether it is among them; whole only if most are; and not at all if none is.
//!
//! ```text
//!   64 B  a bit for each 8 bytes of the page, from the lowest bit of the first byte on
//!   8 B   the new words, as many as there are bits set, in their order
//! ```

use super::PAGE;

/// Bytes that are kept or left out together.
const WORD: usize = 8;
/// Bytes of the bits of a page.
pub const BITS: usize = PAGE / WORD / 8;
/// A page of which more words are new is kept whole: to put so many in their places takes longer than to copy it.
const MOST_WORDS: u32 = 384;

/// How a page differs from the image's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Not at all.
    None,
    /// It is all zero.
    Zero,
    /// In some words; a bit for each that is new.
    Words([u64; BITS / 8]),
    /// In most.
    Whole,
}

/// What a page would be if nothing were kept of it.
#[derive(Debug, Clone, Copy)]
pub enum Base<'a> {
    /// Nobody knows.
    Unknown,
    /// Zeros.
    Zero,
    /// These bytes.
    Page(&'a [u8]),
}

/// Compares a page with what it would be if nothing were kept of it.
///
/// # Panics
/// If one of them is not a page.
pub fn compare(page: &[u8], base: Base<'_>) -> Difference {
    let bits = match base {
        Base::Unknown if is_zero(page) => return Difference::Zero,
        Base::Unknown => return Difference::Whole,
        Base::Page(base) if page == base => return Difference::None,
        Base::Page(_) if is_zero(page) => return Difference::Zero,
        Base::Page(base) => bits(page, |at| word(base, at)),
        Base::Zero => bits(page, |_| 0),
    };
    match bits.iter().map(|bits| bits.count_ones()).sum::<u32>() {
        0 => Difference::None,
        1..=MOST_WORDS => Difference::Words(bits),
        _ => Difference::Whole,
    }
}

/// Whether anything would have to be kept.
pub fn differs(page: &[u8], base: Base<'_>) -> bool {
    match base {
        Base::Unknown => true,
        Base::Zero => !is_zero(page),
        Base::Page(base) => page != base,
    }
}

fn bits(page: &[u8], base: impl Fn(usize) -> u64) -> [u64; BITS / 8] {
    std::array::from_fn(|row| {
        let is_new = |bit: usize| u64::from(word(page, row * 64 + bit) != base(row * 64 + bit));
        (0..64).fold(0, |bits, bit| bits | is_new(bit) << bit)
    })
}

fn word(page: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(page[at * WORD..][..WORD].try_into().expect("a word"))
}

/// Whether a page holds only zeros.
pub fn is_zero(page: &[u8]) -> bool {
    page.chunks(64).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Writes the bits and the words that they stand for.
pub fn encode(page: &[u8], bits: &[u64; BITS / 8], to: &mut Vec<u8>) {
    to.extend(bits.iter().flat_map(|bits| bits.to_le_bytes()));
    for at in places(bits) {
        to.extend_from_slice(&page[at..at + WORD]);
    }
}

/// The encoded page at the beginning of `bytes`, and what follows it; none if it ends too early.
pub fn split(bytes: &[u8]) -> Option<(Encoded<'_>, &[u8])> {
    let (bits, rest) = bytes.split_at_checked(BITS)?;
    let bits: [u64; BITS / 8] = std::array::from_fn(|row| word(bits, row));
    let count = bits.iter().map(|bits| bits.count_ones() as usize).sum::<usize>();
    let (words, rest) = rest.split_at_checked(count * WORD)?;
    Some((Encoded { bits, words }, rest))
}

/// One page as it is kept.
#[derive(Debug, Clone, Copy)]
pub struct Encoded<'a> {
    bits: [u64; BITS / 8],
    words: &'a [u8],
}

impl Encoded<'_> {
    /// The new words and where in the page each belongs, in bytes.
    pub fn words(&self) -> impl Iterator<Item = (usize, &[u8])> {
        places(&self.bits).zip(self.words.chunks_exact(WORD))
    }
}

/// Where the words are whose bits are set, in bytes from the start of the page.
fn places(bits: &[u64; BITS / 8]) -> impl Iterator<Item = usize> {
    bits.iter().enumerate().flat_map(|(row, bits)| {
        let mut left = *bits;
        std::iter::from_fn(move || {
            let bit = left.trailing_zeros() as usize;
            left &= left.checked_sub(1)?;
            Some((row * 64 + bit) * WORD)
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn restored(image: &[u8], encoded: &[u8]) -> Vec<u8> {
        let (encoded, rest) = split(encoded).unwrap();
        assert!(rest.is_empty());
        let mut page = image.to_vec();
        encoded.words().for_each(|(at, word)| page[at..at + WORD].copy_from_slice(word));
        page
    }

    #[test]
    fn a_page_is_told_by_what_is_new() {
        let (zero, image) = ([0; PAGE], [7; PAGE]);
        assert_eq!(compare(&image, Base::Page(&image)), Difference::None);
        assert_eq!(compare(&zero, Base::Zero), Difference::None);
        assert_eq!(compare(&zero, Base::Page(&zero)), Difference::None);
        assert_eq!(compare(&zero, Base::Page(&image)), Difference::Zero);
        assert_eq!(compare(&image, Base::Zero), Difference::Whole);
        assert_eq!(compare(&zero, Base::Unknown), Difference::Zero);
        assert_eq!(compare(&image, Base::Unknown), Difference::Whole);
        let mut page = image;
        page[4095] = 0;
        let mut bits = [0; 8];
        bits[7] = 1 << 63;
        assert_eq!(compare(&page, Base::Page(&image)), Difference::Words(bits));
    }

    #[test]
    fn what_ends_too_early_is_not_a_page() {
        let mut encoded = vec![];
        let mut page = [0; PAGE];
        page[8] = 1;
        let Difference::Words(bits) = compare(&page, Base::Zero) else { panic!("one word is new") };
        encode(&page, &bits, &mut encoded);
        assert_eq!(encoded.len(), BITS + WORD);
        for length in 0..encoded.len() {
            assert!(split(&encoded[..length]).is_none());
        }
    }

    proptest! {
        #[test]
        fn a_page_is_itself_again(image in any::<Option<u8>>(), changes in proptest::collection::vec((0..PAGE, any::<u8>()), 0..300)) {
            let image = image.map(|byte| vec![byte; PAGE]);
            let from = image.clone().unwrap_or(vec![0; PAGE]);
            let mut page = from.clone();
            changes.iter().for_each(|(at, byte)| page[*at] = *byte);
            let base = image.as_deref().map_or(Base::Zero, Base::Page);
            let difference = compare(&page, base);
            prop_assert_eq!(differs(&page, base), difference != Difference::None);
            match difference {
                Difference::None => prop_assert!(page == from),
                Difference::Zero => prop_assert!(is_zero(&page)),
                Difference::Whole => prop_assert!(changes.len() > MOST_WORDS as usize),
                Difference::Words(bits) => {
                    let mut encoded = vec![];
                    encode(&page, &bits, &mut encoded);
                    prop_assert!(restored(&from, &encoded) == page);
                }
            }
        }
    }
}
