//! The words of the domain: pure types, their texts and their rules. No database, no HTTP, no WebAssembly, no async.

pub mod attempt;
pub mod batch;
pub mod checkpoint;
pub mod child;
pub mod context;
pub mod deployment;
pub mod egress;
pub mod environment;
pub mod error;
pub mod event;
pub mod id;
pub mod key;
pub mod log;
pub mod machine;
pub mod metadata;
pub mod payload;
pub mod price;
pub mod queue;
pub mod rewriting;
pub mod run;
pub mod schedule;
pub mod task;
pub mod token;
pub mod trigger;
pub mod waitable;
pub mod waitpoint;
