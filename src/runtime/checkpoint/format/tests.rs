//! Round trips, exact refusals, and any bytes at all.

use std::ops::Range;

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::{
    pages::Base,
    read::{inflate, parse, parse_memory},
    *,
};
use crate::model::{id::WaitpointId, waitpoint::WaitRequest};

const IDENTITY: Identity =
    Identity { component: [7; 32], rewriter: 3, rewritten: [6; 32], run: RunId::from_uuid(Uuid::from_u128(5)) };
const LIMIT: u64 = 64 << 20;
const WASM_PAGE: usize = PAGE * PAGES_PER_WASM_PAGE as usize;

fn wait() -> WaitRequest {
    WaitRequest::Any { waitables: vec![WaitpointId::from_uuid(Uuid::from_u128(1)).into()] }
}

/// A memory of `wasm_pages` whose page n is filled with the n-th byte of `fill`.
fn memory(wasm_pages: usize, fill: &[u8]) -> Vec<u8> {
    (0..wasm_pages * 16).flat_map(|page| [fill.get(page).copied().unwrap_or(0); PAGE]).collect()
}

fn body() -> Writer {
    let mut writer = Writer::default();
    writer.memory(2, &memory(1, &[1, 2]), |_| Base::Unknown, std::slice::from_ref(&(0..1)), PAGE * 9);
    writer.host_state(b"host");
    writer.wait(&wait());
    writer.memory(1, &memory(2, &[0, 5, 5, 0, 9]), |_| Base::Unknown, &[0..2, 3..5], PAGE * 9);
    writer.packs([[1; 32], [2; 32]].into_iter());
    writer.aux(b"frames");
    writer
}

fn sealed() -> Vec<u8> {
    body().seal(IDENTITY).unwrap()
}

/// Gives altered bytes a checksum that holds.
fn reseal(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - CHECKSUM);
    let checksum = blake3::hash(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    bytes
}

#[test]
fn what_was_written_is_read() {
    let contents = decode(&sealed(), IDENTITY, LIMIT).unwrap();
    assert_eq!(contents.host_state, "host");
    assert_eq!(contents.wait, wait());
    assert_eq!(contents.aux, "frames");
    assert_eq!(contents.packs, [[1; 32], [2; 32]]);
    let bytes = |fill: u8| Content::Bytes(Bytes::from(vec![fill; PAGE]));
    assert_eq!(
        contents.memories,
        [
            Memory {
                wasm_pages: 2,
                runs: vec![
                    Run { pages: 0..1, content: Content::Zero },
                    Run { pages: 1..2, content: bytes(5) },
                    Run { pages: 3..4, content: Content::Zero },
                    Run { pages: 4..5, content: bytes(9) },
                ],
            },
            Memory { wasm_pages: 1, runs: vec![Run { pages: 0..1, content: bytes(1) }] },
        ]
    );
}

#[test]
fn each_refusal_says_exactly_what_is_wrong() {
    let good = sealed();
    let refusal = |bytes: Vec<u8>| decode(&bytes, IDENTITY, LIMIT).unwrap_err().to_string();
    let altered = |at: usize, with: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    let length = good.len();
    insta::assert_snapshot!(refusal(vec![]), @"this is not a snapshot: it does not begin with DRMS");
    insta::assert_snapshot!(refusal(altered(0, b"\x7fELF")), @"this is not a snapshot: it does not begin with DRMS");
    insta::assert_snapshot!(refusal(altered(4, &[9])), @"the snapshot has format version 9, this program reads the versions 2 to 4");
    insta::assert_snapshot!(refusal(altered(4, &[1])), @"the snapshot has format version 1, this program reads the versions 2 to 4");
    insta::assert_snapshot!(refusal(good[..70].to_vec()), @"the snapshot has 70 bytes, not the 156 it should have");
    assert_eq!(
        refusal(good[..length - 1].to_vec()),
        format!("the snapshot has {} bytes, not the {length} it should have", length - 1)
    );
    insta::assert_snapshot!(refusal(altered(length - 1, &[good[length - 1] ^ 1])), @"the checksum of the snapshot does not hold");
    insta::assert_snapshot!(refusal(altered(130, &[good[130] ^ 1])), @"the checksum of the snapshot does not hold");
    insta::assert_snapshot!(refusal(reseal(altered(8, &[8; 32]))), @"the snapshot is of the component 0808080808080808080808080808080808080808080808080808080808080808, not of 0707070707070707070707070707070707070707070707070707070707070707");
    insta::assert_snapshot!(refusal(reseal(altered(40, &[4]))), @"the snapshot was made with version 4 of the rewriter, the component at hand with version 3");
    let other = Identity { run: RunId::from_uuid(Uuid::from_u128(6)), ..IDENTITY };
    assert_eq!(
        decode(&good, other, LIMIT).unwrap_err().to_string(),
        format!("the snapshot is of the run {}, not of {}", IDENTITY.run, other.run)
    );
    insta::assert_snapshot!(refusal(reseal(altered(76, &[0xff; 8]))), @"the snapshot holds 18446744073709551615 bytes, the limit is 67108864");
    insta::assert_snapshot!(refusal(reseal(altered(76, &[1, 0]))), @"the snapshot is malformed: the body is not a zstd frame of the length it should have");
    insta::assert_snapshot!(refusal(reseal(altered(92, &[5; 32]))), @"the snapshot fits the rewritten component 0505050505050505050505050505050505050505050505050505050505050505, not 0606060606060606060606060606060606060606060606060606060606060606");
    insta::assert_snapshot!(refusal(reseal(altered(124, b"junk"))), @"the snapshot is malformed: the body is not a zstd frame of the length it should have");
}

/// As version 2 wrote it: no rewritten component in the header.
fn of_version_2() -> Vec<u8> {
    let mut bytes = sealed();
    bytes.drain(HEADER_2..HEADER);
    bytes[4] = 2;
    reseal(bytes)
}

#[test]
fn a_snapshot_of_format_version_2_is_read_as_long_as_the_rewriter_is_the_same() {
    let current = decode(&sealed(), IDENTITY, LIMIT).unwrap();
    assert_eq!(decode(&of_version_2(), IDENTITY, LIMIT).unwrap(), current);
    assert_eq!(decode(&of_version_2(), Identity { rewritten: [1; 32], ..IDENTITY }, LIMIT).unwrap(), current);
    let later = decode(&of_version_2(), Identity { rewriter: 4, ..IDENTITY }, LIMIT).unwrap_err().to_string();
    assert_eq!(later, "the snapshot was made with version 3 of the rewriter, the component at hand with version 4");
    let short = decode(&of_version_2()[..100], IDENTITY, LIMIT).unwrap_err().to_string();
    assert_eq!(short, "the snapshot has 100 bytes, not the 124 it should have");
}

#[test]
fn the_same_contents_are_never_the_same_bytes() {
    let (one, other) = (sealed(), sealed());
    assert_ne!(one, other);
    assert_eq!(decode(&one, IDENTITY, LIMIT), decode(&other, IDENTITY, LIMIT));
}

#[test]
fn sections_must_be_there_once_and_make_sense() {
    let parse_altered = |alter: &dyn Fn(&mut Writer)| {
        let mut writer = body();
        alter(&mut writer);
        parse(writer.body.into(), LIMIT).unwrap_err().to_string()
    };
    let memory_with = |index: u32, pages: u32, run: (u32, u32, u8)| {
        parse_altered(&|writer: &mut Writer| {
            let mut section = [index.to_le_bytes(), pages.to_le_bytes(), run.0.to_le_bytes(), run.1.to_le_bytes()].concat();
            section.push(run.2);
            writer.section(SECTION_MEMORY, &section);
        })
    };
    insta::assert_snapshot!(parse_altered(&|writer| writer.aux(b"again")), @"the snapshot is malformed: a section is there twice");
    insta::assert_snapshot!(parse_altered(&|writer| writer.packs([].into_iter())), @"the snapshot is malformed: a section is there twice");
    insta::assert_snapshot!(parse_altered(&|writer| writer.section(SECTION_PACKS, &[0; 31])), @"the snapshot is malformed: the names of packs cannot be read");
    insta::assert_snapshot!(parse_altered(&|writer| writer.section(9, b"")), @"the snapshot is malformed: a section has an unknown tag");
    insta::assert_snapshot!(parse_altered(&|writer| _ = writer.memory(4, &[], |_| Base::Unknown, &[], 0)), @"the snapshot is malformed: a section is missing");
    insta::assert_snapshot!(parse_altered(&|writer| writer.body.truncate(9)), @"the snapshot is malformed: a section ends too early");
    insta::assert_snapshot!(parse_altered(&|writer| writer.body.clear()), @"the snapshot is malformed: a section is missing");
    insta::assert_snapshot!(memory_with(0, 1, (0, 1, 0)), @"the snapshot is malformed: a memory has an impossible index");
    insta::assert_snapshot!(memory_with(1001, 1, (0, 1, 0)), @"the snapshot is malformed: a memory has an impossible index");
    insta::assert_snapshot!(memory_with(3, 65_537, (0, 1, 0)), @"the snapshot is malformed: a memory is longer than a memory can be");
    insta::assert_snapshot!(memory_with(3, 1, (16, 1, 0)), @"the snapshot is malformed: pages of a memory are out of place");
    insta::assert_snapshot!(memory_with(3, 1, (u32::MAX, 2, 0)), @"the snapshot is malformed: pages of a memory are out of place");
    insta::assert_snapshot!(memory_with(3, 1, (0, 0, 0)), @"the snapshot is malformed: pages of a memory are out of place");
    insta::assert_snapshot!(memory_with(3, 1, (0, 1, 3)), @"the snapshot is malformed: pages of a memory have an unknown content");
    insta::assert_snapshot!(memory_with(3, 1, (0, 1, 1)), @"the snapshot is malformed: a section ends too early");
    insta::assert_snapshot!(memory_with(3, 1, (0, 1, 2)), @"the snapshot is malformed: a section ends too early");
}

#[test]
fn a_memory_of_which_too_much_is_new_is_told_by_its_length_alone() {
    let mut writer = Writer::default();
    let new = memory(1, &[1; 16]);
    assert!(!writer.memory(1, &new, |_| Base::Zero, std::slice::from_ref(&(0..16)), 15 * PAGE));
    let (little, whole) = (writer.raw_bytes(), 16 * PAGE as u64);
    assert!(writer.memory(2, &new, |_| Base::Zero, std::slice::from_ref(&(0..16)), 17 * PAGE));
    assert!(little < 32 && writer.raw_bytes() > whole);
    let (_, memory) = parse_memory(&Bytes::new(), &writer.body[9..little as usize], |_| Ok(())).unwrap();
    assert_eq!(memory, Memory { wasm_pages: 1, runs: vec![] });
}

#[test]
fn a_body_that_claims_little_and_unpacks_to_much_is_stopped_at_what_it_claims() {
    let bomb = zstd::bulk::compress(&vec![0; 32 << 20], 1).unwrap();
    assert_eq!(inflate(&bomb, 1000), Err(Refused::Malformed("the body is not a zstd frame of the length it should have")));
}

/// Nine bytes each, and 40 once they are read.
#[test]
fn zero_pages_of_memories_beyond_the_limit_are_refused_before_there_is_a_list_of_them() {
    let mut writer = body();
    let pages = LIMIT as u32 / WASM_PAGE as u32 - 2;
    let mut section = [3_u32.to_le_bytes(), pages.to_le_bytes()].concat();
    for first in (0..pages * PAGES_PER_WASM_PAGE).step_by(2) {
        section.extend([first.to_le_bytes(), 1_u32.to_le_bytes()].concat());
        section.push(CONTENT_ZERO);
    }
    writer.section(SECTION_MEMORY, &section);
    assert!((writer.raw_bytes() as usize) < LIMIT as usize / 100);
    assert_eq!(
        decode(&writer.seal(IDENTITY).unwrap(), IDENTITY, LIMIT),
        Err(Refused::TooLarge { found: LIMIT + WASM_PAGE as u64, limit: LIMIT })
    );
}

fn restore(memory: &mut [u8], run: &Run) {
    let place = run.pages.start as usize * PAGE..run.pages.end as usize * PAGE;
    match &run.content {
        Content::Zero => memory[place].fill(0),
        Content::Bytes(bytes) => memory[place].copy_from_slice(bytes),
        Content::Words(bytes) => {
            let mut rest = &bytes[..];
            for page in memory[place].chunks_mut(PAGE) {
                let (encoded, others) = pages::split(rest).unwrap();
                encoded.words().for_each(|(at, word)| page[at..at + word.len()].copy_from_slice(word));
                rest = others;
            }
            assert!(rest.is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_memory_survives_the_round_trip(
        fill in proptest::collection::vec(0u8..3, 0..48),
        image in proptest::option::of(proptest::collection::vec(0u8..3, 0..32)),
        words in proptest::collection::vec((0..3 * WASM_PAGE, any::<u8>()), 0..50),
        dirty in proptest::collection::btree_set(0u32..48, 0..48),
        host in any::<Vec<u8>>(),
    ) {
        let mut original = memory(3, &fill);
        words.iter().for_each(|(at, byte)| original[*at] = *byte);
        let image = image.map(|fill| memory(2, &fill));
        let mut writer = Writer::default();
        writer.host_state(&host);
        writer.wait(&wait());
        writer.aux(&host);
        let base = |page: u32| match &image {
            None => Base::Unknown,
            Some(image) => image.get(page as usize * PAGE..(page as usize + 1) * PAGE).map_or(Base::Zero, Base::Page),
        };
        let dirty_pages: Vec<Range<u32>> = dirty.iter().map(|page| *page..page + 1).collect();
        prop_assert!(writer.memory(1, &original, base, &dirty_pages, 1 << 20));
        let contents = decode(&writer.seal(IDENTITY).unwrap(), IDENTITY, LIMIT).unwrap();
        prop_assert_eq!(&contents.host_state[..], &host[..]);
        // Where a snapshot without an image says nothing.
        let mut before = image.unwrap_or_else(|| vec![0xee; 3 * WASM_PAGE]);
        before.resize(3 * WASM_PAGE, 0);
        let mut restored = before.clone();
        for run in &contents.memories[0].runs {
            restore(&mut restored, run);
        }
        for page in 0..48u32 {
            let place = page as usize * PAGE..(page as usize + 1) * PAGE;
            let expected = if dirty.contains(&page) { &original } else { &before };
            prop_assert_eq!(&restored[place.clone()], &expected[place]);
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes in any::<Vec<u8>>(), with_magic in any::<bool>()) {
        let bytes = if with_magic { [&sealed()[..76], &bytes].concat() } else { bytes };
        prop_assert!(decode(&bytes, IDENTITY, LIMIT).is_err());
    }

    #[test]
    fn altered_snapshots_are_refused(at in any::<prop::sample::Index>(), flip in 1u8.., cut in any::<prop::sample::Index>()) {
        let good = sealed();
        let mut altered = good.clone();
        let at = at.index(good.len());
        altered[at] ^= flip;
        prop_assert!(decode(&altered, IDENTITY, LIMIT).is_err());
        prop_assert!(decode(&good[..cut.index(good.len())], IDENTITY, LIMIT).is_err());
        // Even when somebody corrects the checksum: an answer, whatever it is.
        let _ = decode(&reseal(altered), IDENTITY, LIMIT);
    }

    #[test]
    fn altered_bodies_are_read_or_refused(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut altered = body().body;
        for (at, byte) in changes {
            let at = at.index(altered.len().min(80));
            altered[at] = byte;
        }
        let _ = parse(altered.into(), LIMIT);
    }

    #[test]
    fn any_body_is_read_or_refused(bytes in any::<Vec<u8>>()) {
        let _ = parse(bytes.into(), LIMIT);
    }
}
