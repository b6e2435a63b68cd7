//! Dormouse runs durable background tasks.

pub mod model;
pub mod rewrite;
