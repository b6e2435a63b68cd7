//! Makes a component suspendable: component bytes in, component bytes out. Pure: no engine, no I/O.

pub mod core;
mod limits;
mod refusal;

pub use limits::Limits;
pub use refusal::Refusal;
