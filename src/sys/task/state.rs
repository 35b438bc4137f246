//! The states of a task, and every step from one to another.
//!
//! Three flags and the number of references share one atomic word, because any thread may hold a
//! waker. `abort` adds ABORTED in each state but the last; the next poll then drops the future.
//!
//! ```text
//!  spawn     .--------.  poll begins  .---------.  ready, or    .----------.  output   .--------.
//! ---------> | QUEUED | ------------> | RUNNING | ------------> | FINISHED | --------> | joined |
//!            '--------'               '---------'  dropped      '----------'  gone     '--------'
//!              ^    ^                   |     | wake                 ^
//!         wake |    |           pending |     v                      | ready
//!            .------.                   |   .------------------.     |
//!            | idle | <-----------------'   | RUNNING + QUEUED | ----'
//!            '------'                       '------------------'
//!                   ^ QUEUED again              | pending
//!                   '---------------------------'
//! ```
//!
//! RUNNING is not part of the word: only the thread of the loop needs it, to give out the body
//! once at a time.

use super::queue::HERE;
use super::{Ordering, TaskRef};
use std::ptr;
use std::task::Waker;

/// In the run queue or in the mailbox, or on the way there.
pub(super) const QUEUED: usize = 1;
/// To be dropped instead of polled.
pub(super) const ABORTED: usize = 2;
/// The future is gone. Wakes do nothing from here on.
pub(super) const FINISHED: usize = 4;
/// What one reference adds to the state word.
pub(super) const REFERENCE: usize = 8;
/// With more references, the counter might overflow before a thread notices.
const MAX_STATE: usize = isize::MAX as usize;

impl TaskRef {
    /// Whether the task has ended, in whatever way.
    pub(crate) fn is_finished(&self) -> bool {
        self.header().state.load(Ordering::Acquire) & FINISHED != 0
    }

    /// Whether the task is in the run queue or in the mailbox, and has not finished.
    pub(super) fn will_be_polled(&self) -> bool {
        self.header().state.load(Ordering::Relaxed) & (QUEUED | FINISHED) == QUEUED
    }

    /// The address of the task, which is that of the data of its wakers.
    pub(crate) fn address(&self) -> *const () {
        self.0.as_ptr().cast()
    }

    /// Whether `waker` is a waker of this task.
    pub(crate) fn is_woken_by(&self, waker: &Waker) -> bool {
        ptr::eq(waker.data(), self.address())
    }

    /// True if the caller is on the thread of the task's loop, and that loop has not ended.
    pub(crate) fn is_here(&self) -> bool {
        self.header().mailbox.is_here()
    }

    /// Asks the loop to drop the task. A task that has ended is left alone.
    pub(crate) fn abort(&self) {
        // The flag before the wake: the poll that the wake brings about must see it.
        if self.header().state.fetch_or(ABORTED, Ordering::AcqRel) & FINISHED == 0 {
            self.wake_by_ref();
        }
    }

    /// Queues the task, unless it is queued or has ended.
    pub(crate) fn wake_by_ref(&self) {
        let state = &self.header().state;
        if !self.is_here() {
            // Release, also if the task is queued already: its poll has to see what this thread
            // wrote before the wake.
            if state.fetch_or(QUEUED, Ordering::AcqRel) & (QUEUED | FINISHED) == 0 {
                self.post();
            }
            return;
        }
        // On the loop's thread a plain look is enough to see that nothing is to be done: the poll
        // comes later on this thread, and only this thread finishes tasks.
        if state.load(Ordering::Relaxed) & (QUEUED | FINISHED) == 0
            && state.fetch_or(QUEUED, Ordering::AcqRel) & QUEUED == 0
        {
            HERE.with(|here| here.queue.push(self.link()));
        }
    }

    /// Queues the task, unless it is queued or has ended, and gives up the reference.
    pub(super) fn wake(self) {
        if !self.is_here() {
            return self.wake_by_ref();
        }
        let state = &self.header().state;
        let mut seen = state.load(Ordering::Relaxed);
        while seen & (QUEUED | FINISHED) == 0 {
            // Both in one step. This is never the last reference, as an unfinished task has one.
            let queued = seen + QUEUED - REFERENCE;
            match state.compare_exchange(seen, queued, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    HERE.with(|here| here.queue.push(self.link()));
                    std::mem::forget(self);
                    return;
                }
                Err(changed) => seen = changed,
            }
        }
    }

    /// Puts the task, for which QUEUED has just been set, into the mailbox of its loop.
    fn post(&self) {
        if self.header().mailbox.push(self.0.cast()) {
            return;
        }
        // The loop has ended, or is just ending. If it has finished the task meanwhile, it took the
        // task for queued, and has given the entry a reference that has to be given up here.
        let before = self.header().state.fetch_and(!QUEUED, Ordering::AcqRel);
        if before & FINISHED != 0 {
            self.release(1);
        }
    }

    /// Takes the task out of the queue to be polled. Returns whether it is to be dropped instead,
    /// or `None` if it has finished.
    pub(super) fn leave_queue(&self) -> Option<bool> {
        // Acquire, as the poll has to see what was written before the wake. The flag is cleared
        // before the poll, so that a wake during the poll queues the task again.
        let before = self.header().state.fetch_sub(QUEUED, Ordering::AcqRel);
        (before & FINISHED == 0).then_some(before & ABORTED != 0)
    }

    /// Marks the task as not queued, which it may be nevertheless.
    pub(super) fn clear_queued(&self) {
        self.header().state.fetch_and(!QUEUED, Ordering::AcqRel);
    }

    /// Marks the task, whose future is gone, as finished.
    pub(super) fn finish(&self) {
        let state = &self.header().state;
        let mut seen = state.load(Ordering::Relaxed);
        loop {
            // An entry in a queue outlives the task from here on, so it gets a reference.
            let n_entries = seen & QUEUED;
            let finished = (seen | FINISHED) + n_entries * REFERENCE;
            // Release, for the threads that look whether the task has ended.
            let order = Ordering::AcqRel;
            match state.compare_exchange(seen, finished, order, Ordering::Relaxed) {
                Ok(_) => return,
                Err(changed) => seen = changed,
            }
        }
    }
}

impl Clone for TaskRef {
    fn clone(&self) -> TaskRef {
        // Relaxed: a new reference is made of an old one, which keeps the memory.
        if self.header().state.fetch_add(REFERENCE, Ordering::Relaxed) > MAX_STATE {
            // Only a program that forgets wakers in a loop gets here.
            std::process::abort();
        }
        TaskRef(self.0)
    }
}
