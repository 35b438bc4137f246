//! Child processes and forks. Tests that change what belongs to the whole process, such as the
//! handler of SIGCHLD, run again in a process of their own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[macro_use]
#[path = "../util/mod.rs"]
mod util;

mod children;
mod children_alone;
mod children_and_handlers;
mod cloexec;
mod fork;
mod fork_beside_threads;
mod fork_handles;
