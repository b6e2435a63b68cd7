//! Dormouse runs durable background tasks.

pub mod host;
pub mod model;
pub mod rewrite;
pub mod runtime;
