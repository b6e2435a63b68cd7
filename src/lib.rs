//! Dormouse runs durable background tasks.

pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod model;
pub mod postgres;
pub mod shutdown;
pub mod telemetry;
