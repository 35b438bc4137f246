//! Who can still signal an [`Event`](crate::Event), for dumps and the report of a stuck loop.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Counts the notifiers of one event.
#[derive(Debug, Default)]
pub(crate) struct Signallers {
    n_notifiers: AtomicUsize,
    /// True once the number of the descriptor to write to was given out. Other code may keep it for
    /// as long as the event lives.
    is_lent: AtomicBool,
}

impl Signallers {
    /// Counts a new notifier.
    pub(crate) fn add(&self) {
        self.n_notifiers.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a notifier that is dropped. What it has signalled before is visible to a thread that
    /// sees it gone.
    pub(crate) fn remove(&self) {
        self.n_notifiers.fetch_sub(1, Ordering::Release);
    }

    /// Number of notifiers that are left.
    #[cfg(feature = "dump")]
    pub(crate) fn n_notifiers(&self) -> usize {
        self.n_notifiers.load(Ordering::Acquire)
    }

    /// Notes that the descriptor to write to is given out.
    pub(crate) fn lend(&self) {
        self.is_lent.store(true, Ordering::Release);
    }

    /// True if other code may know the descriptor to write to.
    #[cfg(feature = "dump")]
    pub(crate) fn is_lent(&self) -> bool {
        self.is_lent.load(Ordering::Acquire)
    }

    /// True if only a task of the event's own thread, which can reach the event itself, could
    /// signal it.
    #[cfg(feature = "dump")]
    pub(crate) fn are_gone(&self) -> bool {
        self.n_notifiers() == 0 && !self.is_lent()
    }
}
