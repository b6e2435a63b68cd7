//! Dormouse runs durable background tasks.

pub mod clock;
pub mod engine;
pub mod model;
pub mod reconcile;
pub mod store;
