//! The behaviour of the crate, seen from outside. What a test's name claims, it proves. Tests of
//! what belongs to the whole process are in the other folders.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[macro_use]
#[path = "../util/mod.rs"]
mod util;

#[cfg(all(feature = "fs", feature = "process", feature = "udp"))]
mod api;
mod blocking;
mod blocking_fds;
mod connect;
mod copy_errors;
mod counts;
#[cfg(feature = "dump")]
mod deadlock;
mod delays;
mod determinism;
#[cfg(feature = "diagnostics")]
mod diagnostics;
mod drop_all;
#[cfg(all(feature = "dump", feature = "fs", feature = "unix"))]
mod dump_text;
#[cfg(feature = "unix")]
mod empty_buffers;
mod event;
mod fairness;
mod fd;
#[cfg(all(feature = "fs", feature = "unix"))]
mod file;
#[cfg(feature = "fs")]
mod fs;
mod handle;
mod hostile;
#[cfg(feature = "hyper")]
mod hyper;
mod interest_fd;
mod io;
mod join_set;
#[cfg(target_os = "linux")]
mod listen_queue;
mod local;
#[cfg(feature = "macros")]
mod macros;
#[cfg(all(feature = "dump", feature = "sim"))]
mod network;
#[cfg(all(feature = "dump", feature = "process"))]
mod observe;
mod order;
mod panics;
mod pending;
mod read_to_end;
#[cfg(all(feature = "fs", feature = "process", feature = "unix"))]
mod read_uninit;
#[cfg(all(feature = "udp", feature = "unix"))]
mod ready;
#[cfg(feature = "unix")]
mod seqpacket;
mod shutdown;
mod state;
#[cfg(feature = "dump")]
mod stuck;
mod tasks;
mod tcp;
mod tcp_faults;
mod tcp_socket;
mod timers;
#[cfg(feature = "tokio-io")]
mod tokio_io;
mod turn;
#[cfg(feature = "udp")]
mod udp;
#[cfg(feature = "unix")]
mod unix;
#[cfg(feature = "unix")]
mod unix_datagram;
#[cfg(feature = "unix")]
mod unix_fds;
mod wake;
