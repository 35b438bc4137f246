//! The tasks that wait for one descriptor and direction.

use std::task::Waker;

/// So many tasks may wait in one place before the others are woken to ask again. It bounds what a
/// future can leave behind that is polled with a new waker each time.
const MOST_WAITERS: usize = 64;

/// The wakers that wait for one descriptor and direction; nearly always one.
#[derive(Debug)]
pub(super) struct Waiters {
    first: Waker,
    more: Vec<Waker>,
    /// One of them has seen no `WouldBlock`, so only `select` can serve it: the kernel's queue
    /// speaks of changes.
    pub(super) level: bool,
}

impl Waiters {
    pub(super) fn new(waker: Waker, level: bool) -> Waiters {
        Waiters {
            first: waker,
            more: Vec::new(),
            level,
        }
    }

    /// Adds one, and returns those that are displaced.
    pub(super) fn push(&mut self, waker: Waker, level: bool) -> Vec<Waker> {
        self.level |= level;
        if self.more.len() + 1 < MOST_WAITERS {
            self.more.push(waker);
            return Vec::new();
        }
        let mut displaced = std::mem::take(&mut self.more);
        displaced.push(std::mem::replace(&mut self.first, waker));
        displaced
    }

    /// Adds all of `others`; they were there before, so nobody is displaced.
    pub(super) fn append(&mut self, others: Waiters) {
        self.level |= others.level;
        self.more.push(others.first);
        self.more.extend(others.more);
    }

    pub(super) fn contain(&self, waker: &Waker) -> bool {
        self.first.will_wake(waker) || self.more.iter().any(|known| known.will_wake(waker))
    }

    pub(super) fn move_to(self, wakers: &mut Vec<Waker>) {
        wakers.push(self.first);
        if !self.more.is_empty() {
            wakers.extend(self.more);
        }
    }
}
