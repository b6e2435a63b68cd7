//! Dormouse runs durable background tasks.

pub mod model;
