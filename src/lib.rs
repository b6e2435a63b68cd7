//! Dormouse runs durable background tasks.

pub mod auth;
pub mod config;
pub mod model;
pub mod postgres;
pub mod shutdown;
pub mod telemetry;
