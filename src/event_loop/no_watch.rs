//! Does not look for a stuck loop: the program has left out the feature `dump`.

use super::EventLoop;
use super::reactor::ClosedFd;
use crate::sys::select::Waited;
use std::time::Duration;

/// Stands for the watch of the feature `dump`, and watches nothing.
pub(crate) struct Watch;

impl Watch {
    pub(crate) fn new() -> Watch {
        Watch
    }

    /// Sets no maximum time to wait.
    #[allow(
        clippy::unused_self,
        reason = "the watch of the feature `dump` needs itself"
    )]
    pub(crate) fn before_wait(&mut self, _n_polls: usize) -> Option<Duration> {
        None
    }
}

impl EventLoop {
    /// Adds the descriptors that explain a failed wait to `closed`.
    #[cold]
    pub(super) fn note_failed_wait(&mut self, waited: Waited, closed: &mut Vec<ClosedFd>) {
        if waited == Waited::BadFd {
            closed.extend(self.reactor.find_closed_fds());
        }
    }
}
