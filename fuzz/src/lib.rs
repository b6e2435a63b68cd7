//! What the fuzz targets share: the pure rooms of the product, compiled by themselves.
//!
//! The product is one crate, and with it come wasmtime and sqlx: many minutes of building with sanitizers, for code that neither target
//! ever runs. The rooms named here need none of it. `model` and `rewrite` are pure and the format of snapshots is a leaf, to which
//! `tests/architecture.rs` holds the first two; so their files are taken as they stand, by path, and find each other under the names that
//! they have in the product. Crates of their own would do the same at the price of a product that is cut where fuzzing wants it; a
//! feature that leaves the engine out would put a condition into half of its files. Should one of these rooms come to need another, this
//! crate does not compile, which says so early enough.

#[allow(dead_code, reason = "only ids and waits are used here")]
#[path = "../../src/model/mod.rs"]
pub mod model;
#[path = "../../src/rewrite/mod.rs"]
pub mod rewrite;
/// Of which nothing but the format of snapshots is pure.
#[path = "../../src/runtime"]
pub mod runtime {
    pub mod checkpoint {
        pub mod format;
    }
}

pub mod allocated;
pub mod body;
pub mod component;
