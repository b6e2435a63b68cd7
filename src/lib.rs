//! Dormouse runs durable background tasks.

pub mod api;
pub mod app;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod engine;
pub mod model;
pub mod postgres;
pub mod reconcile;
pub mod shutdown;
pub mod store;
pub mod telemetry;
