//! Signals: streams of them, handlers of other code, interrupted system calls, and SIGPIPE. Most
//! tests run again in a process of their own, because handlers belong to the process.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[macro_use]
#[path = "../util/mod.rs"]
mod util;

mod handlers;
mod interrupts;
mod sigpipe;
mod streams;
