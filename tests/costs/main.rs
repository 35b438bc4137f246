//! What the loop costs: system calls, wake-ups, threads and memory of a whole process.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[macro_use]
#[path = "../util/mod.rs"]
mod util;

mod idle;
mod million;
mod syscalls;
mod threads;
