//! The API through its router, against a real database.

mod bad_input;
mod deployments;
mod doors;
mod openapi;
mod runs;
mod schedules;
mod support;
mod waitpoints;
