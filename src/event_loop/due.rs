//! Timers that are due: counted, measured and put into an order, as the program wants it.

use super::clock::Moment;
use super::metrics::{add, count};
use super::{EventLoop, shuffle, tracking};
use std::task::Waker;

impl EventLoop {
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
