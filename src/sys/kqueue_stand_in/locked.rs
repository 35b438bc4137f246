//! What several threads may look at: a kqueue may be used by any of them.

use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub(super) struct Locked<T>(Mutex<T>);

impl<T> Locked<T> {
    pub(super) fn new(value: T) -> Locked<T> {
        Locked(Mutex::new(value))
    }

    /// Locks, ignoring poisoning: no foreign code runs under these locks.
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
