//! Where threads meet: atomics, locks, thread-locals and threads, as std has them.
//!
//! The three cores that other threads touch take them from here and from nowhere else: wakers and
//! inbox, the task table, the pool. `tests/loom` puts others in their place, which try every
//! order in which things can happen.

pub(crate) use std::sync::atomic::{AtomicU8, Ordering};
pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
pub(crate) use std::{thread, thread_local};
