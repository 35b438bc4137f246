//! What tasks wait for that no table of the loop shows: blocking jobs and child processes.
//!
//! Their wakers are elsewhere, in a slot that a thread of the pool fills or in the table of this
//! thread's children. So the futures concerned leave a note while they wait, for dumps. That costs
//! an entry in a map, which is little beside a thread or a process.
//!
//! **Invariant.** A note is gone when the future that has left it is dropped or ready.

use super::pool::Kind;
use std::collections::BTreeMap;
use std::num::NonZero;
#[cfg(feature = "sim")]
use std::rc::Rc;
use std::task::Waker;

/// What a task waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// A job of the blocking pool.
    Job(Kind),
    /// The exit of the child process with this number.
    #[cfg(feature = "process")]
    Child(u32),
    /// What is described here, on a simulated network.
    #[cfg(feature = "sim")]
    Simulated(Rc<str>),
}

/// Names one note of the process.
pub(crate) type Key = NonZero<usize>;

/// All notes of one loop.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// The addresses that wakers of the tasks have, and what the tasks wait for.
    entries: BTreeMap<Key, (*const (), Hidden)>,
}

impl Notes {
    /// Adds or replaces a note about the task that `waker` wakes.
    pub(crate) fn insert(&mut self, key: Key, waker: &Waker, what: Hidden) {
        self.entries.insert(key, (waker.data(), what));
    }

    /// Removes a note, if it is there.
    pub(crate) fn remove(&mut self, key: Key) {
        self.entries.remove(&key);
    }

    /// Goes through all notes, with the data pointers of the wakers.
    #[cfg(feature = "dump")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (*const (), &Hidden)> {
        self.entries.values().map(|(data, what)| (*data, what))
    }
}
