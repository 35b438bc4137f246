//! The examples as programs, and the standard streams, which belong to the whole process.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[macro_use]
#[path = "../util/mod.rs"]
mod util;

mod examples;
mod graceful;
mod loops;
mod per_core;
mod scrape;
mod stdio;
