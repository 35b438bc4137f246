//! Tasks that ran into the limit of open descriptors, and wait until one is closed.
//!
//! Each owns its entry, and removes it when it gives up: a task that no longer waits is not woken,
//! and does not keep others from being woken.

use super::reactor::{Arena, List, WaitKey};
use std::task::Waker;

/// The tasks that wait for a free descriptor.
#[derive(Debug)]
pub(crate) struct FreeFds {
    entries: Arena,
    list: List,
}

impl FreeFds {
    pub(super) fn new() -> FreeFds {
        FreeFds {
            entries: Arena::new(),
            list: List::EMPTY,
        }
    }

    #[cfg(feature = "dump")]
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns whether the entry of `key` is still there and wakes what `waker` wakes.
    pub(crate) fn is_waiting(&self, key: WaitKey, waker: &Waker) -> bool {
        self.entries.holds(key, waker)
    }

    /// The wakers of all tasks that wait.
    #[cfg(feature = "dump")]
    pub(super) fn wakers(&self) -> impl Iterator<Item = &Waker> {
        self.entries.wakers(&self.list)
    }

    /// Has `waker` woken when a descriptor is deregistered.
    pub(crate) fn add(&mut self, waker: Waker) -> WaitKey {
        // With an owner, so that no purge wakes it: its future removes it.
        self.entries.push(&mut self.list, waker, true, false)
    }

    /// Removes an entry. Returns its waker, unless it was woken.
    pub(crate) fn remove(&mut self, key: WaitKey) -> Option<Waker> {
        self.entries.remove(&mut self.list, key)
    }

    /// Moves the wakers of all to `wakers`: a descriptor has become free.
    pub(crate) fn take_all(&mut self, wakers: &mut Vec<Waker>) {
        self.entries.take_all(&mut self.list, wakers);
    }
}
