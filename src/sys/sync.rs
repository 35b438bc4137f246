//! What threads share, as std has it: atomics, locks, thread-local values and threads.
//!
//! The three parts of the crate that several threads use, which are tasks, mailbox and pool, take
//! these from here and from nowhere else. `tests/loom` puts other types in their place, which try
//! every order in which things can happen.

pub(crate) use std::cell::Cell;
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
pub(crate) use std::{thread, thread_local};
