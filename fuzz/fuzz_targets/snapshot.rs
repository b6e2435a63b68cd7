//! A snapshot is refused or read, whatever it is, within the memory that its limit allows; and what was read can be written again and
//! is then the same. The first byte chooses what the rest is: the snapshot's own bytes; or, correctly sealed, a frame that may be
//! damaged, a body as it stands, one that is right but for some bytes, or sections in any order.
#![no_main]

use dormouse_fuzz::{
    allocated,
    body::{self, IDENTITY, PAGES_PER_WASM_PAGE, sealed},
    runtime::checkpoint::format::{
        Content, Contents, Memory, PAGE, Writer, decode,
        pages::{Base, is_zero, split},
    },
};
use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};

/// Bytes that a body, and the memories in it, may have.
const LIMIT: usize = 1 << 20;
/// What decoding may take however small the limit is: a list of a thousand memories.
const FREE: usize = 256 << 10;

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return };
    let mut choices = Unstructured::new(rest);
    let snapshot = match choice % 8 {
        0 => rest.to_vec(),
        1 => sealed(rest, u64::from(*choice) << 6),
        2 => of_body(rest),
        3 => of_body(&choices.arbitrary().map(|sections: Vec<_>| body::of_sections(&sections, LIMIT)).unwrap_or_default()),
        4 => of_body(&changed(&mut choices).unwrap_or_default()),
        _ => of_body(&choices.arbitrary().map(|whole| body::whole(&whole, LIMIT)).unwrap_or_default()),
    };
    let (decoded, allocated) = allocated::peak(|| decode(&snapshot, IDENTITY, LIMIT as u64));
    assert!(allocated <= LIMIT + LIMIT / 8 + FREE, "{allocated} bytes were allocated");
    if let Ok(contents) = decoded {
        let again = decode(&written(&contents), IDENTITY, LIMIT as u64 * 2).expect("what was written can be read");
        assert_eq!((&again.host_state, &again.wait, &again.aux), (&contents.host_state, &contents.wait, &contents.aux));
        assert_eq!(again.memories.len(), contents.memories.len());
        for (again, memory) in again.memories.iter().zip(&contents.memories) {
            assert_eq!(again.wasm_pages, memory.wasm_pages);
            assert!(pages(again) == pages(memory));
        }
    }
});

fn of_body(body: &[u8]) -> Vec<u8> {
    sealed(&zstd::bulk::compress(body, 1).expect("there is memory for it"), body.len() as u64)
}

/// A body that was right until some of its bytes were changed.
fn changed(choices: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut body = body::whole(&choices.arbitrary()?, LIMIT);
    while !choices.is_empty() {
        let at = usize::from(choices.arbitrary::<u16>()?) % body.len();
        body[at] = choices.arbitrary()?;
    }
    Ok(body)
}

/// The contents as the writer puts them, from memories that are made of them.
fn written(contents: &Contents) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.host_state(&contents.host_state);
    writer.wait(&contents.wait);
    writer.aux(&contents.aux);
    for (index, memory) in (1..).zip(&contents.memories) {
        let mut bytes = vec![0; (memory.wasm_pages * PAGES_PER_WASM_PAGE) as usize * PAGE];
        for (page, content) in pages(memory) {
            bytes[page as usize * PAGE..][..PAGE].copy_from_slice(&content);
        }
        let all = 0..memory.wasm_pages * PAGES_PER_WASM_PAGE;
        writer.memory(index, &bytes, |_| Base::Zero, std::slice::from_ref(&all), usize::MAX);
    }
    writer.seal(IDENTITY).expect("there is memory for it")
}

/// Each page that is not all zero, if the image is: its number and its bytes.
fn pages(memory: &Memory) -> Vec<(u32, Vec<u8>)> {
    let mut pages = vec![];
    for run in &memory.runs {
        let mut words = match &run.content {
            Content::Words(bytes) => &bytes[..],
            _ => &[],
        };
        for (place, number) in run.pages.clone().enumerate() {
            let mut page = vec![0; PAGE];
            match &run.content {
                Content::Zero => {}
                Content::Bytes(bytes) => page.copy_from_slice(&bytes[place * PAGE..][..PAGE]),
                Content::Words(_) => {
                    let (encoded, rest) = split(words).expect("the decoder has split them");
                    encoded.words().for_each(|(at, word)| page[at..at + word.len()].copy_from_slice(word));
                    words = rest;
                }
            }
            if !is_zero(&page) {
                pages.push((number, page));
            }
        }
    }
    pages
}
