//! Code of others that the loop calls: futures, wakers, destructors, loggers and panic hooks that
//! panic or call back, what is logged about it, and the end of the process.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[macro_use]
#[path = "../util/mod.rs"]
mod util;

mod callers;
mod foreign_code;
mod logging;
mod teardown;
