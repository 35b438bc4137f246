//! The note that a future leaves in the loop while it waits; see `notes`.

use super::notes::{Hidden, Key};
use super::with;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

/// The note of one future.
#[derive(Debug, Default)]
pub(crate) struct Note(Option<Key>);

impl Note {
    /// Notes that the task of `waker` waits for `what`.
    pub(crate) fn put(&mut self, waker: &Waker, what: Hidden) {
        /// Counted for the whole process: a future that is dropped on another thread must not
        /// remove a note of that thread.
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let key = self.0.or_else(|| {
            let key = Key::new(NEXT.fetch_add(1, Ordering::Relaxed));
            self.0 = key;
            key
        });
        if let Some(key) = key {
            with(|l| l.notes.insert(key, waker, what));
        }
    }

    /// Removes the note, because the task no longer waits for what it says.
    pub(crate) fn clear(&mut self) {
        if let Some(key) = self.0.take() {
            with(|l| l.notes.remove(key));
        }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        self.clear();
    }
}
