//! Waiting for descriptors of every kind and number, at the limits of the system, and when other
//! code closes or replaces them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[macro_use]
#[path = "../util/mod.rs"]
mod util;

mod black_hole;
mod kinds_of_fds;
mod limits;
mod lost_fds;
mod many_fds;
mod tenure;
mod waiting;
