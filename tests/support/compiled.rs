//! Rewritten guests that stay compiled from one run of the tests, or of the benchmarks, to the next: a language's engine takes minutes.
//!
//! What is kept is found by the bytes that the rewriter makes of the guest today, so a change of either compiles anew; a change of
//! the engine or of the processor is the component cache's own business.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use dormouse::{
    model::rewriting::Rewriting,
    rewrite::{self, Limits},
};

/// A rewritten guest, and where what is compiled of it is kept.
pub struct Kept {
    pub rewriting: Rewriting,
    pub bytes: Bytes,
    pub cache: PathBuf,
}

impl Kept {
    /// The guest of that name, whose bytes are `original`.
    ///
    /// # Errors
    /// If the rewriter refuses the guest.
    pub fn of(name: &str, original: &[u8]) -> Result<Kept, rewrite::Error> {
        let component = blake3::hash(original);
        let made = rewrite::rewrite(original, &Limits::default())?.bytes;
        let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/compiled-guests");
        let folder = all.join(format!("{name}-{}", &blake3::hash(&made).to_hex()[..16]));
        let bytes = std::fs::read(folder.join(REWRITTEN)).unwrap_or_else(|_| {
            forget(&all, name);
            let mut stamped = made;
            rewrite::stamp(&mut stamped, rewrite::VERSION, component.as_bytes(), rand::random());
            write(&folder, &stamped);
            stamped
        });
        let digest = blake3::hash(&bytes).to_hex().to_string();
        let rewriting = Rewriting { component: component.to_hex().to_string(), rewriter: rewrite::VERSION, digest };
        Ok(Kept { rewriting, bytes: bytes.into(), cache: folder.join("cache") })
    }
}

/// Stamped, so no two are the same: what is compiled belongs to these bytes.
const REWRITTEN: &str = "rewritten.wasm";

/// Removes what was kept of the guest as it was before.
fn forget(all: &Path, name: &str) {
    for entry in std::fs::read_dir(all).into_iter().flatten() {
        let folder = entry.unwrap().path();
        let earlier = folder.file_name().and_then(|folder| folder.to_str()?.rsplit_once('-'));
        if earlier.is_some_and(|(guest, _)| guest == name) {
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
}

/// Whole or not at all: a run of the tests may be broken off.
fn write(folder: &Path, rewritten: &[u8]) {
    std::fs::create_dir_all(folder).unwrap();
    let mut file = tempfile::NamedTempFile::new_in(folder).unwrap();
    std::io::Write::write_all(&mut file, rewritten).unwrap();
    file.persist(folder.join(REWRITTEN)).unwrap();
}
