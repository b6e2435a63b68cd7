//! The API through its router, against a real database.

mod bad_input;
mod batches;
mod deployments;
mod doors;
mod openapi;
mod runs;
mod support;
mod waitpoints;
