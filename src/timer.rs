//! Timers: who is woken when.
//!
//! A pure table: knows no clock, no descriptor, no runtime.
//!
//! **Invariant.** An entry leaves the table exactly once: removed or due.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Instant;

/// One armed timer. The serial number keeps two timers with one deadline apart, in the order in
/// which they were armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerKey {
    deadline: Instant,
    serial: u64,
}

/// What a sleeping future finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Armed {
    /// It is armed, and this waker will be woken.
    Known,
    /// It is armed with another waker.
    Unknown,
    /// It was due, and has left the table.
    Fired,
}

/// All armed timers of one loop.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeMap<TimerKey, Waker>,
    next_serial: u64,
}

impl Timers {
    pub(crate) fn insert(&mut self, deadline: Instant, waker: Waker) -> TimerKey {
        let key = TimerKey {
            deadline,
            serial: self.next_serial,
        };
        self.next_serial += 1;
        self.queue.insert(key, waker);
        key
    }

    pub(crate) fn state(&self, key: TimerKey, waker: &Waker) -> Armed {
        match self.queue.get(&key) {
            Some(known) if known.will_wake(waker) => Armed::Known,
            Some(_) => Armed::Unknown,
            None => Armed::Fired,
        }
    }

    /// Changes who is woken; returns who was to be until now.
    pub(crate) fn set_waker(&mut self, key: TimerKey, waker: Waker) -> Option<Waker> {
        match self.queue.get_mut(&key) {
            Some(known) => Some(std::mem::replace(known, waker)),
            None => Some(waker),
        }
    }

    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<Waker> {
        self.queue.remove(&key)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|(key, _)| key.deadline)
    }

    /// Moves the wakers of all timers that are due at `now` to `due`, earliest first.
    pub(crate) fn collect(&mut self, now: Instant, due: &mut Vec<Waker>) {
        while let Some(first) = self.queue.first_entry() {
            if first.key().deadline > now {
                return;
            }
            due.push(first.remove());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn f3_timers_with_one_deadline_all_fire_in_the_order_they_were_armed() {
        let mut timers = Timers::default();
        let now = Instant::now();
        let keys: Vec<_> = (0..1_000)
            .map(|_| timers.insert(now, Waker::noop().clone()))
            .collect();
        assert!(keys.is_sorted());
        let mut due = Vec::new();
        timers.collect(now, &mut due);
        assert_eq!((due.len(), timers.len()), (1_000, 0));
    }

    #[test]
    fn a10_a_timer_that_is_due_exactly_now_fires() {
        let mut timers = Timers::default();
        let now = Instant::now();
        let at = timers.insert(now, Waker::noop().clone());
        let after = timers.insert(now + Duration::from_nanos(1), Waker::noop().clone());
        timers.collect(now, &mut Vec::new());
        assert_eq!(timers.state(at, Waker::noop()), Armed::Fired);
        assert_ne!(timers.state(after, Waker::noop()), Armed::Fired);
        assert_eq!(timers.next_deadline(), Some(now + Duration::from_nanos(1)));
    }
}
