//! Timers: which waker is woken when.
//!
//! A pure table: it knows no clock, no descriptor and no task.
//!
//! A heap of deadlines in which each entry has up to four below it, which is half as deep as one
//! with two. The wakers stay in slots of their own, so that moving an entry moves 24 bytes, and a
//! slot knows where its entry is, so that a timer is disarmed without a search.
//!
//! The timer that was armed last stays outside the heap until another one is armed or the loop
//! needs the next deadline. Most timeouts guard an operation that completes soon; such a timer is
//! removed before it enters the heap.
//!
//! **Invariant.** An entry leaves the table exactly once: when it is removed or when it is due.

#[cfg(test)]
mod tests;

use super::clock::Moment;
use std::num::NonZero;
use std::task::Waker;
use std::time::Duration;

/// Number of entries directly below each entry of the heap.
const FAN_OUT: usize = 4;

/// Number of entries that are looked at to find the last timer within the slack.
const MAX_LOOKED_AT: usize = 64;

/// Below this many entries, the memory of the table is kept.
const MIN_SHRINK: usize = 256;

/// Identifies one armed timer. Unique among all timers of the loop, ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimerKey {
    /// Grows with each timer that is armed.
    serial: NonZero<u64>,
    /// Index of the slot with the waker.
    slot: u32,
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

/// An entry of the heap.
#[derive(Debug, Clone, Copy)]
struct Entry {
    deadline: Moment,
    serial: NonZero<u64>,
    slot: u32,
}

impl Entry {
    /// Timers fire by deadline, and in the order in which they were armed if that is equal.
    fn is_before(&self, other: &Entry) -> bool {
        let is_equal = self.deadline == other.deadline;
        self.deadline < other.deadline || (is_equal && self.serial < other.serial)
    }
}

/// The waker of an armed timer. A free slot has none.
#[derive(Debug)]
struct Slot {
    waker: Option<Waker>,
    /// Index of the entry in the heap. In a free slot, the next free one.
    position: u32,
}

/// All armed timers of one loop.
#[derive(Debug)]
pub(crate) struct Timers {
    /// No entry is due before the one above it, at a quarter of its index.
    heap: Vec<Entry>,
    /// The timer that was armed last, while it is not in the heap yet.
    newest: Option<Entry>,
    slots: Vec<Slot>,
    /// Index of the first free slot, or that behind the last slot.
    first_free: u32,
    next_serial: NonZero<u64>,
}

fn index(n: usize) -> u32 {
    u32::try_from(n).expect("fewer than 2^32 timers are armed")
}

impl Timers {
    pub(crate) fn new() -> Timers {
        Timers {
            heap: Vec::new(),
            newest: None,
            slots: Vec::new(),
            first_free: 0,
            next_serial: NonZero::<u64>::MIN,
        }
    }

    /// Arms a timer, and returns its key.
    pub(crate) fn insert(&mut self, deadline: Moment, waker: Waker) -> TimerKey {
        // The timer that was armed before this one was not removed at once, so it probably stays.
        self.queue_newest();
        let serial = self.next_serial;
        // At one timer per nanosecond this overflows after 584 years.
        self.next_serial = serial.saturating_add(1);
        let slot = self.first_free;
        let waker = Some(waker);
        match self.slots.get_mut(slot as usize) {
            Some(free) => {
                self.first_free = free.position;
                free.waker = waker;
            }
            None => {
                self.slots.push(Slot { waker, position: 0 });
                self.first_free = index(self.slots.len());
            }
        }
        self.newest = Some(Entry {
            deadline,
            serial,
            slot,
        });
        TimerKey { serial, slot }
    }

    /// Moves the newest timer into the heap, for callers that need all timers in order.
    #[inline]
    fn queue_newest(&mut self) {
        if let Some(entry) = self.newest.take() {
            self.heap.push(entry);
            self.move_up(self.heap.len() - 1, entry);
        }
    }

    /// Puts `entry` at `position`, or above it if it is due before what is there.
    fn move_up(&mut self, mut position: usize, entry: Entry) {
        while position > 0 {
            let above = (position - 1) / FAN_OUT;
            if self.heap[above].is_before(&entry) {
                break;
            }
            self.put(position, self.heap[above]);
            position = above;
        }
        self.put(position, entry);
    }

    /// Puts `entry` at `position`, or below it if what is there is due before it.
    fn move_down(&mut self, mut position: usize, entry: Entry) {
        loop {
            let first = position * FAN_OUT + 1;
            let below = self.heap.get(first..).unwrap_or_default();
            let mut below = below.iter().take(FAN_OUT).enumerate();
            let Some(mut earliest) = below.next() else {
                break;
            };
            for other in below {
                if other.1.is_before(earliest.1) {
                    earliest = other;
                }
            }
            let (index, &earliest) = earliest;
            if entry.is_before(&earliest) {
                break;
            }
            self.put(position, earliest);
            position = first + index;
        }
        self.put(position, entry);
    }

    fn put(&mut self, position: usize, entry: Entry) {
        self.heap[position] = entry;
        self.slots[entry.slot as usize].position = position as u32;
    }

    /// Returns where the entry of `key` is, if the timer is armed.
    fn find(&self, key: TimerKey) -> Option<usize> {
        let position = self.slots.get(key.slot as usize)?.position as usize;
        // A free slot leads anywhere, and one that is used again to another timer.
        let entry = self.heap.get(position)?;
        (entry.serial == key.serial).then_some(position)
    }

    /// Returns whether the timer `key` is armed.
    fn is_armed(&self, key: TimerKey) -> bool {
        self.is_newest(key) || self.find(key).is_some()
    }

    fn is_newest(&self, key: TimerKey) -> bool {
        let newest = self.newest.as_ref();
        newest.is_some_and(|newest| newest.serial == key.serial)
    }

    /// Takes the entry at `position` out, and returns its waker.
    fn take(&mut self, position: usize) -> Option<Waker> {
        let entry = self.heap.swap_remove(position);
        // What was last is there now, and may belong further up or down.
        if let Some(&moved) = self.heap.get(position) {
            let above = position.saturating_sub(1) / FAN_OUT;
            match position > 0 && moved.is_before(&self.heap[above]) {
                true => self.move_up(position, moved),
                false => self.move_down(position, moved),
            }
        }
        let waker = self.free(entry.slot);
        self.shrink();
        waker
    }

    fn free(&mut self, slot: u32) -> Option<Waker> {
        let free = &mut self.slots[slot as usize];
        free.position = self.first_free;
        self.first_free = slot;
        free.waker.take()
    }

    /// Gives memory back once no timer is armed any more. A little is kept, so that a loop in its
    /// steady state allocates nothing.
    fn shrink(&mut self) {
        if self.is_empty() && self.slots.capacity() > MIN_SHRINK {
            self.heap = Vec::new();
            self.slots = Vec::new();
            self.first_free = 0;
        }
    }

    /// Returns whether the timer `key` is armed, and whether `waker` is the one that it will wake.
    pub(crate) fn state(&self, key: TimerKey, waker: &Waker) -> Armed {
        if !self.is_armed(key) {
            return Armed::Fired;
        }
        match &self.slots[key.slot as usize].waker {
            Some(known) if known.will_wake(waker) => Armed::SameWaker,
            _ => Armed::OtherWaker,
        }
    }

    /// Replaces the waker of the timer `key`. Returns the replaced waker, or `waker` if there is no
    /// such timer.
    pub(crate) fn set_waker(&mut self, key: TimerKey, waker: Waker) -> Option<Waker> {
        if !self.is_armed(key) {
            return Some(waker);
        }
        // Returned and not dropped here, because the loop is borrowed now.
        self.slots[key.slot as usize].waker.replace(waker)
    }

    /// Disarms the timer `key`, and returns its waker, to be dropped with nothing borrowed.
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<Waker> {
        // Most timers that are removed guard an operation that has just completed.
        if self.is_newest(key) {
            self.newest = None;
            return self.free(key.slot);
        }
        let position = self.find(key)?;
        self.take(position)
    }

    /// Takes all wakers out, for the end of the loop.
    pub(crate) fn drain(&mut self) -> Vec<Waker> {
        self.heap.clear();
        self.newest = None;
        self.first_free = 0;
        let slots = std::mem::take(&mut self.slots);
        slots.into_iter().filter_map(|slot| slot.waker).collect()
    }

    /// True if no timer is armed.
    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty() && self.newest.is_none()
    }

    /// Number of armed timers.
    pub(crate) fn len(&self) -> usize {
        self.heap.len() + usize::from(self.newest.is_some())
    }

    /// Goes through all armed timers: when they are due, and whom they wake.
    #[cfg(feature = "dump")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Moment, &Waker)> {
        self.heap.iter().chain(&self.newest).filter_map(|entry| {
            let waker = self.slots[entry.slot as usize].waker.as_ref();
            Some((entry.deadline, waker?))
        })
    }

    /// Returns the earliest deadline.
    pub(crate) fn next_deadline(&mut self) -> Option<Moment> {
        self.queue_newest();
        self.heap.first().map(|first| first.deadline)
    }

    /// Returns when the loop should wake up: at the latest deadline within `slack` of the earliest
    /// one, so that one wake-up serves all timers in between.
    ///
    /// A wake-up costs far more than a timer, about 40 µs of CPU on a virtual machine. A lone timer
    /// is not delayed, because there is no other to wait for.
    pub(crate) fn next_wake_up(&mut self, slack: Duration) -> Option<Moment> {
        let first = self.next_deadline()?;
        let until = first.saturating_add(slack);
        // A slack beyond representable time would reach timers that are never due.
        if until.is_never() {
            return Some(first);
        }
        let mut n_left = MAX_LOOKED_AT;
        let latest = self.latest_below(0, first, until, &mut n_left);
        // Among that many timers one is close to the end of the slack.
        Some(if n_left == 0 { until } else { latest })
    }

    /// Returns the latest deadline up to `until` among the entries below `position`, or `latest` if
    /// that is later. Looks at no more than `n_left` entries.
    fn latest_below(
        &self,
        position: usize,
        mut latest: Moment,
        until: Moment,
        n_left: &mut usize,
    ) -> Moment {
        let first = position * FAN_OUT + 1;
        for below in first..first + FAN_OUT {
            // What is below an entry beyond the slack is beyond it, too.
            let entry = self.heap.get(below).filter(|e| e.deadline <= until);
            if let (Some(entry), 1..) = (entry, *n_left) {
                *n_left -= 1;
                latest = self.latest_below(below, latest.max(entry.deadline), until, n_left);
            }
        }
        latest
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
        while let Some(deadline) = self.next_deadline() {
            // A deadline of exactly `now` is due: the wait was rounded up to reach it, and another
            // wait for it would be zero.
            if deadline > now {
                return;
            }
            note(deadline);
            due.extend(self.take(0));
        }
    }
}
