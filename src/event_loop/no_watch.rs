//! Does not look for a stuck loop: the program has left out the feature `dump`.

use std::time::Duration;

/// Watches nothing.
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
