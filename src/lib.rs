//! Dormouse runs durable background tasks that are WebAssembly components, and freezes them for real while they wait.
//!
//! # The life of a run
//!
//! 1. `POST /api/v1/tasks/{task}/trigger`: [`api`] checks the key and the payload, [`engine::trigger`] writes a run row in
//!    one transaction and notifies. Nothing is acknowledged before it is durable.
//! 2. [`store::listen`] wakes [`worker`]. It takes permits first, then [`engine::lease`] claims as many runs: epoch + 1, a
//!    lease that expires. A lost lease means: drop the instance, write nothing.
//! 3. `worker::run_one` loads the component ([`runtime`]), starts an instance or restores one from its checkpoint, and runs it
//!    while one loop renews all leases of the process.
//! 4. The guest calls a wait. [`host`] asks the worker's `Caller`, which answers at once if it can, stays warm for a grace
//!    time, and otherwise says *suspend*: the guest's stack unwinds (see [`rewrite`]), [`runtime`] captures memories, globals
//!    and handles, and [`engine::suspend`] records the checkpoint and gives the lease up. A large snapshot is stored in
//!    [`blobs`] before; a small one is in the checkpoint's row. If the wait was resolved meanwhile, the same transaction queues
//!    the run again.
//! 5. [`reconcile`]'s timers, a token's completion or the end of another run resolve the wait: that transaction queues the run, too
//!    ([`store::edges`]). → 2.
//! 6. The guest returns: [`engine::finish`] writes the result once, or schedules another attempt.
//! 7. Every change is notified with its transaction. [`realtime`] hears it, reads what somebody follows once, and hands it to all whose
//!    requests [`api`] holds; what a run says in a stream ([`engine::stream`]) goes the same way, and what is sent to it
//!    ([`engine::input`]) ends its waits.
//! 8. What it did, and when, is derived from its rows when somebody asks ([`model::trace`]), and, if a collector is named, sent there once
//!    it is over ([`export`]).
//!
//! # Rules of direction
//!
//! ```text
//! model ← store ← engine ← { worker, reconcile, api }        model ← host ← runtime ← worker
//! model ← store ← realtime ← api        model ← store ← export
//! model ← auth     blobs, config, wall_clock: leaves            store ← clock, for tests
//! app sees all; main sees app and cli
//! ```
//! `runtime` and `host` know nothing of rows: what a guest wishes leaves them through [`host::Caller`]. SQL stands only in
//! `store`, `wasmtime` only in `runtime` and `host`, `axum` only in `api`. `tests/architecture.rs` holds the tree to it.
//!
//! # What one may rely on
//!
//! - One verb of [`engine`] is one transaction; every write for a leased run names the lease's epoch.
//! - A blob is durable before the row that names it is written.
//! - A snapshot is restored with the very rewritten component that it was taken with: [`engine::rewriting`] keeps that for as
//!   long as a checkpoint names it, whatever version of the rewriter new runs use.
//! - There is one time, the database's: rows are compared with its `clock_now()`, and processes go by it, too ([`wall_clock`]).
//! - NOTIFY only says "look": rows are the truth, polling is the net.
//! - Every state that is not final has an owner that moves it on: a lease, a timer row, or a sweep.

pub mod api;
pub mod app;
pub mod auth;
pub mod blobs;
pub mod cli;
pub mod clock;
pub mod config;
pub mod engine;
pub mod export;
pub mod group;
pub mod host;
pub mod model;
pub mod postgres;
pub mod realtime;
pub mod reconcile;
pub mod rewrite;
pub mod runtime;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod wall_clock;
pub mod worker;
