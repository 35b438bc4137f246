//! Files, and the threads that work on them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[macro_use]
#[path = "../util/mod.rs"]
mod util;

mod file_order;
mod memory;
mod pool;
