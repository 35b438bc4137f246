//! Timers: which waker is woken when.
//!
//! A pure table: it knows no clock, no descriptor and no task.
//!
//! The map holds timers by deadline. The timer that was armed last stays outside the map until
//! another one is armed or the loop needs the next deadline. Most timeouts guard an operation that
//! completes soon; such a timer is removed before it enters the map, without a search.
//!
//! **Invariant.** An entry leaves the table exactly once: when it is removed or when it is due.

use super::clock::Moment;
use std::collections::BTreeMap;
use std::num::NonZero;
use std::task::Waker;
use std::time::Duration;

/// Distinguishes timers with equal deadlines, in the order in which they were armed.
pub(crate) type Serial = NonZero<u64>;

/// Identifies one armed timer. Timers fire in the order of their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerKey {
    /// When the timer is due.
    pub(crate) deadline: Moment,
    /// Unique among all timers of the loop.
    pub(crate) serial: Serial,
}

/// What a sleeping future finds when it is polled again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Armed {
    /// The timer is armed, and will wake the waker that was asked about.
    SameWaker,
    /// The timer is armed with another waker.
    OtherWaker,
    /// The timer was due and has left the table.
    Fired,
}

/// All armed timers of one loop.
#[derive(Debug)]
pub(crate) struct Timers {
    /// The armed timers, earliest first.
    queue: BTreeMap<TimerKey, Waker>,
    /// The timer that was armed last, while it is not in the queue yet.
    newest: Option<(TimerKey, Waker)>,
    /// The serial number of the timer that is armed next.
    next_serial: Serial,
}

impl Timers {
    pub(crate) fn new() -> Timers {
        Timers {
            queue: BTreeMap::new(),
            newest: None,
            next_serial: Serial::MIN,
        }
    }

    /// Arms a timer, and returns the second half of its key.
    pub(crate) fn insert(&mut self, deadline: Moment, waker: Waker) -> Serial {
        // The timer that was armed before this one was not removed at once, so it probably stays.
        self.queue_newest();
        let serial = self.next_serial;
        // At one timer per nanosecond this overflows after 584 years.
        self.next_serial = serial.saturating_add(1);
        self.newest = Some((TimerKey { deadline, serial }, waker));
        serial
    }

    /// Moves the newest timer into the queue, for callers that need all timers in order.
    fn queue_newest(&mut self) {
        if let Some((key, waker)) = self.newest.take() {
            self.queue.insert(key, waker);
        }
    }

    /// Returns whether the timer `key` is armed, and whether `waker` is the one that it will wake.
    pub(crate) fn state(&mut self, key: TimerKey, waker: &Waker) -> Armed {
        self.queue_newest();
        match self.queue.get(&key) {
            Some(known) if known.will_wake(waker) => Armed::SameWaker,
            Some(_) => Armed::OtherWaker,
            None => Armed::Fired,
        }
    }

    /// Replaces the waker of the timer `key`. Returns the replaced waker, or `waker` if there is no
    /// such timer.
    pub(crate) fn set_waker(&mut self, key: TimerKey, waker: Waker) -> Option<Waker> {
        self.queue_newest();
        match self.queue.get_mut(&key) {
            // Returned and not dropped here, because the loop is borrowed now.
            Some(known) => Some(std::mem::replace(known, waker)),
            None => Some(waker),
        }
    }

    /// Disarms the timer `key`, and returns its waker, to be dropped with nothing borrowed.
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<Waker> {
        // Most timers that are removed guard an operation that has just completed.
        match self.newest.take_if(|(newest, _)| *newest == key) {
            Some((_, waker)) => Some(waker),
            None => self.queue.remove(&key),
        }
    }

    /// Takes all wakers out, for the end of the loop.
    pub(crate) fn drain(&mut self) -> Vec<Waker> {
        self.queue_newest();
        std::mem::take(&mut self.queue).into_values().collect()
    }

    /// True if no timer is armed.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.newest.is_none()
    }

    /// Number of armed timers.
    pub(crate) fn len(&self) -> usize {
        self.queue.len() + usize::from(self.newest.is_some())
    }

    /// Goes through all armed timers: when they are due, and whom they wake.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Moment, &Waker)> {
        let newest = self.newest.iter().map(|(key, waker)| (key, waker));
        let all = self.queue.iter().chain(newest);
        all.map(|(key, waker)| (key.deadline, waker))
    }

    /// Returns the earliest deadline.
    pub(crate) fn next_deadline(&mut self) -> Option<Moment> {
        self.queue_newest();
        let (first, _) = self.queue.first_key_value()?;
        Some(first.deadline)
    }

    /// Returns when the loop should wake up: at the latest deadline within `slack` of the earliest
    /// one, so that one wake-up serves all timers in between.
    ///
    /// A wake-up costs far more than a timer, about 40 µs of CPU on a virtual machine. A lone timer
    /// is not delayed, because there is no other to wait for.
    pub(crate) fn next_wake_up(&mut self, slack: Duration) -> Option<Moment> {
        let first = self.next_deadline()?;
        let until = TimerKey {
            deadline: first.saturating_add(slack),
            serial: Serial::MAX,
        };
        // A slack beyond representable time would reach timers that are never due.
        if until.deadline.is_never() {
            return Some(first);
        }
        let (latest, _) = self.queue.range(..=until).next_back()?;
        Some(latest.deadline)
    }

    /// Moves the wakers of all timers that are due at `now` to `due`, earliest first.
    pub(crate) fn collect(&mut self, now: Moment, due: &mut Vec<Waker>) {
        self.collect_noting(now, due, |_| {});
    }

    /// Does what [`collect`](Timers::collect) does, and calls `note` with each deadline.
    pub(crate) fn collect_noting(
        &mut self,
        now: Moment,
        due: &mut Vec<Waker>,
        mut note: impl FnMut(Moment),
    ) {
        self.queue_newest();
        while let Some(first) = self.queue.first_entry() {
            // A deadline of exactly `now` is due: the wait was rounded up to reach it, and another
            // wait for it would be zero.
            if first.key().deadline > now {
                return;
            }
            note(first.key().deadline);
            due.push(first.remove());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noop() -> Waker {
        Waker::noop().clone()
    }

    fn arm(timers: &mut Timers, deadline: Moment) -> TimerKey {
        let serial = timers.insert(deadline, noop());
        TimerKey { deadline, serial }
    }

    fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn timers_with_one_deadline_all_fire_in_the_order_they_were_armed() {
        let now = Moment::now();
        let mut timers = Timers::new();
        let keys: Vec<_> = (0..1_000).map(|_| arm(&mut timers, now)).collect();
        assert!(keys.is_sorted_by_key(|key| key.serial));
        let mut due = Vec::new();
        timers.collect(now, &mut due);
        assert_eq!((due.len(), timers.len()), (1_000, 0));
    }

    #[test]
    fn a_timer_that_is_removed_before_the_next_is_armed_costs_no_search() {
        let now = Moment::now();
        let mut timers = Timers::new();
        let first = arm(&mut timers, now);
        let second = arm(&mut timers, now);
        assert_eq!((timers.queue.len(), timers.len()), (1, 2));
        assert!(timers.remove(second).is_some());
        assert!(timers.remove(second).is_none());
        assert_eq!(timers.len(), 1);
        let third = arm(&mut timers, now);
        assert_eq!((timers.queue.len(), timers.len()), (1, 2));
        for key in [first, third] {
            assert_ne!(timers.state(key, Waker::noop()), Armed::Fired);
            assert!(!timers.is_empty());
            assert!(timers.remove(key).is_some());
            assert_eq!(timers.state(key, Waker::noop()), Armed::Fired);
        }
        assert!(timers.is_empty());
    }

    #[test]
    fn a_timer_knows_its_waker_and_takes_another_until_it_has_fired() {
        struct NoTask;
        impl std::task::Wake for NoTask {
            fn wake(self: std::sync::Arc<Self>) {}
        }
        let [one, other] = [(); 2].map(|()| Waker::from(std::sync::Arc::new(NoTask)));
        let deadline = Moment::now();
        let mut timers = Timers::new();
        let serial = timers.insert(deadline, one.clone());
        let key = TimerKey { deadline, serial };
        assert_eq!(timers.state(key, &one), Armed::SameWaker);
        assert_eq!(timers.state(key, &other), Armed::OtherWaker);
        let displaced = timers.set_waker(key, other.clone()).unwrap();
        assert!(displaced.will_wake(&one));
        assert_eq!(timers.state(key, &other), Armed::SameWaker);
        let mut due = Vec::new();
        timers.collect(deadline, &mut due);
        assert!(due.len() == 1 && due[0].will_wake(&other));
        let refused = timers.set_waker(key, one.clone()).unwrap();
        assert!(refused.will_wake(&one));
    }

    #[test]
    fn a_timer_that_is_due_exactly_now_fires() {
        let now = Moment::now();
        let mut timers = Timers::new();
        let at = arm(&mut timers, now);
        let after = arm(&mut timers, now.saturating_add(Duration::from_nanos(1)));
        timers.collect(now, &mut Vec::new());
        assert_eq!(timers.state(at, Waker::noop()), Armed::Fired);
        assert_ne!(timers.state(after, Waker::noop()), Armed::Fired);
        assert_eq!(
            timers.next_deadline(),
            Some(now.saturating_add(Duration::from_nanos(1)))
        );
    }

    #[test]
    fn timers_within_the_slack_are_served_in_one_wake_up() {
        let now = Moment::now();
        let mut timers = Timers::new();
        let after = |n| now.saturating_add(us(n));
        for n in [1_000, 1_040, 1_100, 1_101, 5_000] {
            arm(&mut timers, after(n));
        }
        assert_eq!(timers.next_wake_up(us(100)), Some(after(1_100)));
        assert_eq!(timers.next_wake_up(Duration::ZERO), Some(after(1_000)));
        assert_eq!(
            timers.next_wake_up(Duration::MAX),
            Some(after(1_000)),
            "no such instant"
        );
        timers.collect(after(1_101), &mut Vec::new());
        assert_eq!(timers.next_wake_up(us(100)), Some(after(5_000)));
    }

    #[test]
    fn deadlines_in_the_past_and_after_centuries_have_their_order() {
        let now = Moment::now();
        let mut timers = Timers::new();
        let century = Duration::from_secs(100 * 365 * 86_400);
        let never = arm(&mut timers, now.saturating_add(10 * century));
        let far = arm(&mut timers, now.saturating_add(century));
        let soon = arm(&mut timers, now.saturating_add(us(1_000)));
        let past = arm(
            &mut timers,
            Moment::from(now.instant().unwrap() - us(1_000_000)),
        );
        assert!(past < soon && soon < far && far < never);
        timers.collect(now, &mut Vec::new());
        assert_eq!(timers.next_deadline(), Some(now.saturating_add(us(1_000))));
        assert_ne!(timers.state(soon, Waker::noop()), Armed::Fired);
        let late = now.saturating_add(us(1_000));
        timers.collect(late, &mut Vec::new());
        assert_eq!(timers.state(soon, Waker::noop()), Armed::Fired);
        for key in [far, never] {
            assert_ne!(timers.state(key, Waker::noop()), Armed::Fired);
        }
    }
}
