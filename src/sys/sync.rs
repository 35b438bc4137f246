//! What threads share, as std has it: atomics, locks, thread-local values and threads.
//!
//! What several threads use at the same time, which are tasks, mailbox, pool and the gate between
//! signal handlers and listeners, takes these from here and from nowhere else. `tests/loom` puts
//! other types in their place, which try every order in which things can happen.

pub(crate) use std::cell::Cell;
#[cfg(feature = "signal")]
pub(crate) use std::sync::atomic::AtomicI32;
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
pub(crate) use std::{thread, thread_local};
