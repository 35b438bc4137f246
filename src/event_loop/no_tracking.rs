//! Measures a poll for the log, and nothing else: the program has left out the feature `dump`.

use super::clock::Moment;
use std::time::{Duration, Instant};

/// False: `Builder::track` is absent as well.
pub(crate) fn is_on() -> bool {
    false
}

/// Has nothing to forget about a task that has ended.
pub(super) fn task_ended(_id: u64) {}

/// Returns when the poll that begins now begins.
#[cold]
pub(super) fn poll_begins() -> Instant {
    Instant::now()
}

/// Returns how long a poll took that began at `begin`.
#[cold]
pub(super) fn poll_ended(_id: u64, begin: Instant) -> Duration {
    begin.elapsed()
}

/// Does not note that the loop may sleep from now on.
pub(super) fn wait_begins() -> Option<Instant> {
    None
}

/// Does not note the end of a wait.
pub(super) fn wait_ended(_begin: Option<Instant>) {}

/// Does not note how late a timer fires.
pub(super) fn timer_fires(_deadline: Moment, _now: Moment) {}
