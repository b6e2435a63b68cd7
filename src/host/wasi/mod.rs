//! WASI 0.2 as a guest sees it.

pub mod clock;
pub mod stdio;
