//! What [`dump`](crate::dump) and [`metrics`](crate::metrics) return.
//!
//! A dump says of every task what it is called, where it was spawned, how often it was polled and
//! what it waits for. This is one of `examples/chat.rs` with three clients, of which the third has
//! not sent its name yet:
//!
//! ```text
//! main future: waiting, 4 polls
//!     waits for descriptor 5 to read: tcp listener 127.0.0.1:17880
//! task 1 "dump on SIGUSR1" (examples/chat.rs:21:13): running, 2 polls
//! task 3 (examples/chat.rs:31:28): waiting, 4 polls
//!     waits for descriptor 8 to read: tcp 127.0.0.1:60516
//!     has 2 wakers that are held elsewhere
//! task 4 (examples/chat.rs:31:28): waiting, 3 polls
//!     waits for descriptor 9 to read: tcp 127.0.0.1:60528
//!     has 2 wakers that are held elsewhere
//! task 5 (examples/chat.rs:31:28): waiting, 1 polls
//!     waits for descriptor 12 to read: tcp 127.0.0.1:60544
//!     has 2 wakers that are held elsewhere
//! loop: 8 turns, 13 polls, 8 waits
//!     ended by a descriptor 7, by another thread 0, by time or a signal 1
//!     4 tasks, 0 queued; 0 timers
//!     1 descriptors in select, 4 in the kernel's queue
//!     0 blocking threads, 0 busy, 0 jobs queued
//! ```
//!
//! The wakers that are held elsewhere are in the channel of lines to each client, and the handle by
//! which a client is cut off.
//!
//! Dumps need the feature `dump`, which is on by default; [`metrics`](crate::metrics) are always
//! there.
//!
//! Nothing is kept for a dump while the loop runs: it finds the wakers of each task in the tables
//! of the loop. A task costs one instruction per poll for the number of its polls. What needs a
//! clock (ages, the longest poll, busy and idle time, how late timers are) is there after
//! [`Builder::track`](crate::Builder::track).
#![cfg_attr(
    feature = "diagnostics",
    doc = "",
    doc = include_str!("diagnostics/protocol.md")
)]

#[cfg(feature = "diagnostics")]
mod protocol;
#[cfg(feature = "diagnostics")]
mod server;
#[cfg(feature = "diagnostics")]
mod socket_file;

#[cfg(feature = "dump")]
pub use crate::event_loop::dump::{Direction, Dump, TaskDump, TaskState, TaskTimes, WaitsFor};
pub use crate::event_loop::metrics::Metrics;
#[cfg(feature = "dump")]
pub use crate::event_loop::tracking::Tracked;
#[cfg(feature = "diagnostics")]
pub use server::{Server, serve};
