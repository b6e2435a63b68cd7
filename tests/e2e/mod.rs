//! The product as a user has it: the binary, HTTP, and SIGKILL.

mod bad_input;
mod crash;
mod hostile;
mod snapshots;
mod upgrade;
