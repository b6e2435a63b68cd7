//! Periodic sweeps: no input, idempotent, in batches; one that fails is logged and tried again. What events do at once,
//! these do late, so nothing stays stuck when an event is lost.

pub mod batches;
pub mod children;
pub mod driver;
pub mod gc;
pub mod leases;
pub mod retention;
pub mod schedules;
pub mod timers;
pub mod versions;
pub mod wall_clock;
