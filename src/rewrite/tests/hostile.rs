//! Arbitrary bytes end in an error, never in a panic or in memory without bound.

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::*;

#[test]
fn a_component_cut_anywhere_does_no_harm() {
    let bytes = task_with("");
    for end in 0..bytes.len() {
        let _ = rewrite(&bytes[..end], &Limits::default());
    }
}

#[test]
fn a_component_with_changed_bytes_does_no_harm() {
    let original = task_with("");
    let mut random = SmallRng::seed_from_u64(7);
    for _ in 0..3_000 {
        let mut bytes = original.clone();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(8..bytes.len());
            bytes[at] = random.random();
        }
        let _ = rewrite(&bytes, &Limits::default());
    }
}

#[test]
fn a_component_with_pieces_moved_does_no_harm() {
    let original = task_with("");
    let mut random = SmallRng::seed_from_u64(8);
    for _ in 0..1_000 {
        let mut bytes = original.clone();
        let from = random.random_range(8..bytes.len() - 1);
        let length = random.random_range(1..40).min(bytes.len() - from);
        let piece: Vec<u8> = bytes.drain(from..from + length).collect();
        let to = random.random_range(8..=bytes.len());
        bytes.splice(to..to, piece);
        let _ = rewrite(&bytes, &Limits::default());
    }
}

/// A section of a component.
fn section(id: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![id];
    let mut length = content.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(content);
    bytes
}

const HEADER: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];

#[test]
fn types_nested_very_deeply_are_refused() {
    let reasons = reasons(&[&HEADER[..], &nested_types(200_000)].concat());
    assert_eq!(reasons, ["nests types more than 250 levels deep"]);
}

#[test]
fn types_nested_as_deeply_as_is_allowed_do_no_harm() {
    rewritten(&[task_with(""), nested_types(245)].concat());
}

/// A section with one type: an instance type that declares an instance type, and so on.
fn nested_types(levels: usize) -> Vec<u8> {
    let mut types = vec![1];
    for _ in 0..levels {
        types.extend([0x42, 1, 1]);
    }
    types.extend([0x42, 0]);
    section(7, &types)
}

#[test]
fn components_nested_very_deeply_are_refused() {
    let mut bytes = HEADER.to_vec();
    for _ in 0..500 {
        bytes = [&HEADER[..], &section(4, &bytes)].concat();
    }
    let Err(Error::Refused(refusals)) = rewrite(&bytes, &Limits::default()) else { panic!("not refused") };
    assert!(refusals[0].reason.contains("levels deep"));
}
