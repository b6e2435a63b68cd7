//! The API through its router, against a real database.

mod api_keys;
mod bad_input;
mod bad_options;
mod batches;
mod bulk_actions;
mod concurrency_limits;
mod deployments;
mod doors;
mod notes;
mod openapi;
mod packets;
mod queues;
mod rates;
mod realtime;
mod replays;
mod runs;
mod schedules;
mod streams;
mod support;
mod traces;
mod variables;
mod waitpoints;
