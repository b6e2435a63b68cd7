//! Bytes are refused or rewritten, whatever they are. The first byte chooses what the rest is: a component as it stands; changes to one
//! that is accepted; the choices of wasm-smith's generator of components; or those of its generator of core modules, put into a task.
#![no_main]

use dormouse_fuzz::{
    component,
    rewrite::{Error, Limits, core, rewrite},
};
use libfuzzer_sys::{
    arbitrary::{Arbitrary, Result, Unstructured},
    fuzz_target,
};
use wasmparser::{Validator, WasmFeatures};

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return };
    let limits = limits(choice & 0x80 != 0);
    let with_tail = choice % 8 > 5;
    let drawn = if with_tail { prolonged(rest) } else { rest.to_vec() };
    let mut choices = Unstructured::new(&drawn);
    let component = match choice % 8 {
        0 => Ok(rest.to_vec()),
        1 => Ok(changed(component::task(), rest)),
        2 => generated(&mut choices),
        3 => component::main(&mut choices, true).map(|main| component::around(&main)),
        4 => component::main(&mut choices, false).map(|main| changed(component::around(&main), choices.take_rest())),
        _ => component::main(&mut choices, false).map(|main| component::around(&main)),
    };
    if let Ok(component) = component {
        check(&component, &limits, choice & 0x70 == 0);
    }
});

/// Bytes that begin with these and go on at random. The generators take the least of everything where their input ends, and the fuzzer's
/// inputs grow slowly; so it chooses how a module begins, and the rest is there from the first minute.
fn prolonged(bytes: &[u8]) -> Vec<u8> {
    let mut tail = [0; 4000];
    blake3::Hasher::new().update(bytes).finalize_xof().fill(&mut tail);
    [bytes, &tail].concat()
}

/// Those of the product, as far as a fuzzer's small inputs can tell, or some that they reach.
fn limits(are_low: bool) -> Limits {
    let default = Limits { max_component_bytes: 1 << 20, ..Limits::default() };
    if !are_low {
        return default;
    }
    Limits {
        max_functions: 30,
        max_locals_per_function: 40,
        max_sites_per_function: 10,
        max_values_per_site: 10,
        max_liveness_words: 64,
        max_growth: 2,
        free_growth: 512,
        ..default
    }
}

fn generated(choices: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut config = wasm_smith::Config::arbitrary(choices)?;
    config.max_instructions = config.max_instructions.min(50);
    Ok(wasm_smith::Component::new(config, choices)?.to_bytes())
}

/// What is valid is rewritten or refused, the same way every time, and what comes out is valid. The rewriter reports an output that is
/// not valid as a fault of its own, which nothing that this version supports may lead to. To do it `twice` takes twice the time.
fn check(component: &[u8], limits: &Limits, twice: bool) {
    match rewrite(component, limits) {
        Ok(rewritten) => {
            assert_eq!(rewritten.report.bytes_after, rewritten.bytes.len());
            validate(&rewritten.bytes).expect("the output is valid");
            if twice {
                let again = rewrite(component, limits).expect("it was rewritten before");
                assert!(again.bytes == rewritten.bytes, "the output differs from time to time");
            }
        }
        Err(Error::Refused(reasons)) => assert!(!reasons.is_empty()),
        Err(Error::Malformed(reason)) => assert!(validate(component).is_err(), "valid, but: {reason}"),
    }
}

fn validate(component: &[u8]) -> wasmparser::Result<()> {
    Validator::new_with_features(core::features() | WasmFeatures::COMPONENT_MODEL).validate_all(component).map(drop)
}

/// A component with some of its bytes replaced, removed, inserted or moved: each four bytes of `changes` are one change.
fn changed(mut bytes: Vec<u8>, changes: &[u8]) -> Vec<u8> {
    for change in changes.as_chunks::<4>().0.iter().take(16) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        match change[2] % 4 {
            0 => bytes[at] = change[3],
            1 if bytes.len() > 9 => drop(bytes.remove(at)),
            2 => {
                let end = bytes.len().min(at + usize::from(change[3]));
                let moved: Vec<u8> = bytes[at..end].to_vec();
                bytes.splice(at..at, moved);
            }
            _ => bytes.insert(at, change[3]),
        }
    }
    bytes
}
