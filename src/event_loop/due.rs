//! How long the loop may wait for the next timer, and timers that are due: counted, measured and
//! put into an order, as the program wants it.

use super::clock::Moment;
use super::metrics::{add, count};
use super::{EventLoop, shuffle, tracking};
use std::task::Waker;
use std::time::Duration;

impl EventLoop {
    /// Step 3: returns the maximum time to wait, which is no more than `limit`.
    pub(super) fn timeout(&mut self, may_block: bool, limit: Option<Duration>) -> Option<Duration> {
        match may_block {
            true => min_option(self.time_left(), limit),
            false => Some(Duration::ZERO),
        }
    }

    /// Returns the time until the loop should wake up for a timer, or to watch a descriptor again
    /// that was left out for a while.
    pub(super) fn time_left(&mut self) -> Option<Duration> {
        if self.timers.is_empty() && !self.reactor.has_resting() {
            // Without reading the clock.
            return None;
        }
        let timer = self.timers.next_wake_up(self.timer_slack.get());
        let now = Moment::now();
        let deadline = min_option(timer, self.reactor.next_rest(now));
        deadline.map(|deadline| deadline.saturating_duration_since(now))
    }

    /// Moves the wakers of all timers that are due at `now` to `woken`.
    pub(super) fn collect_timers(&mut self, now: Moment, woken: &mut Vec<Waker>) {
        let n_before = woken.len();
        if tracking::is_on() || shuffle::is_on() {
            let mut deadlines = Vec::new();
            let note = |deadline| deadlines.push(deadline);
            self.timers.collect_noting(now, woken, note);
            note_deadlines(&deadlines, now, &mut woken[n_before..]);
        } else {
            self.timers.collect(now, woken);
        }
        if woken.len() > n_before {
            count(|c| add(&c.timers_fired, woken.len() - n_before));
            self.timer_slack.note_wake_up(now);
        }
    }
}

/// Measures how late timers are, and gives those with equal deadlines any order, if the program
/// wants that.
#[cold]
fn note_deadlines(deadlines: &[Moment], now: Moment, woken: &mut [Waker]) {
    if tracking::is_on() {
        let late = deadlines.iter();
        late.for_each(|&deadline| tracking::timer_fires(deadline, now));
    }
    if !shuffle::is_on() {
        return;
    }
    let mut rest = woken;
    for equal in deadlines.chunk_by(|a, b| a == b) {
        let (group, others) = rest.split_at_mut(equal.len());
        shuffle::reorder(group, shuffle::below);
        rest = others;
    }
}

fn min_option<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
