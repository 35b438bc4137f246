//! Wakers that wait on a simulated network, where dumps find them.

use crate::event_loop::boundary;
use crate::event_loop::note::Note;
use crate::event_loop::notes::Hidden;
use std::rc::Rc;
use std::task::Waker;

/// The waker of a task that waits, together with the note about it in the loop.
///
/// Both go at the same time. So a dump counts each waker that is kept here, and no other.
pub(super) struct Waiter {
    waker: Waker,
    note: Note,
}

impl Waiter {
    /// Clones `waker`, which may run foreign code: nothing may be borrowed.
    pub(super) fn new(waker: &Waker, what: &Rc<str>) -> Waiter {
        let mut note = Note::default();
        note.put(waker, Hidden::Simulated(Rc::clone(what)));
        Waiter {
            waker: waker.clone(),
            note,
        }
    }

    /// True if the waker wakes the task of `other`.
    pub(super) fn is_of(&self, other: &Waker) -> bool {
        self.waker.will_wake(other)
    }
}

/// Wakes the tasks. Nothing may be borrowed.
pub(super) fn wake_all(waiters: impl IntoIterator<Item = Waiter>) {
    for Waiter { waker, note } in waiters {
        // The task no longer waits for what the note says.
        drop(note);
        boundary::wake(waker);
    }
}
