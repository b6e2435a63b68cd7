//! What a rewritten component says of itself, in a custom section that nothing but people and tools read:
//!
//! ```text
//!   name     "dormouse:rewriting"
//!   content  u32  version of the rewriter, little-endian
//!            32 B blake3 of the component as it was uploaded
//!            16 B nonce: random, so that no two rewritings are the same bytes
//! ```

use std::borrow::Cow;

use wasm_encoder::{ComponentSection as _, CustomSection};

const NAME: &str = "dormouse:rewriting";

/// Adds the section at the end of a rewritten component, where it changes no index and no offset.
pub fn stamp(rewritten: &mut Vec<u8>, version: u32, original: &[u8; 32], nonce: [u8; 16]) {
    let content = [&version.to_le_bytes()[..], original, &nonce].concat();
    CustomSection { name: NAME.into(), data: Cow::Owned(content) }.append_to_component(rewritten);
}

#[cfg(test)]
mod tests {
    use wasmparser::{Parser, Payload};

    use super::*;

    #[test]
    fn a_stamped_component_is_valid_and_says_what_it_is() {
        let mut component = wat::parse_str("(component)").unwrap();
        stamp(&mut component, 7, &[8; 32], [9; 16]);
        wasmparser::Validator::new().validate_all(&component).unwrap();
        let custom = Parser::new(0).parse_all(&component).find_map(|payload| match payload.unwrap() {
            Payload::CustomSection(section) => Some((section.name(), section.data())),
            _ => None,
        });
        let (name, content) = custom.expect("there is one");
        assert_eq!((name, content.len()), ("dormouse:rewriting", 52));
        assert_eq!((&content[..4], content[4], content[51]), (&[7, 0, 0, 0][..], 8, 9));
    }
}
