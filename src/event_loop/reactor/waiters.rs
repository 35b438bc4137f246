//! The tasks that wait: an arena of wakers, and lists that run through it.
//!
//! A list holds the tasks that wait for one thing, in the order in which they came; nearly always
//! it is one. Entries have an owner or none:
//!
//! - A future of this crate, such as `readable()`, owns its entry by a [`WaitKey`] and removes it
//!   when it is dropped. Finding it takes a constant number of steps, however long the list is.
//! - A trait method such as `poll_read` has no future that could own anything. Its entry is found
//!   again by the waker (`will_wake`), and what a caller leaves behind stays until the next event.
//!   [`Purges`] keeps that from growing without limit.
//!
//! **Invariants.** No foreign code runs here: wakers are moved, never cloned, woken or dropped. A
//! key names one entry, ever: serial numbers are not used again.

mod purges;
mod waiting;

pub(crate) use purges::Purges;
pub(crate) use waiting::Waiting;

use std::task::Waker;

/// No entry: an index beyond the last one.
const NONE: u32 = u32::MAX;

/// Names one entry of an arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaitKey {
    index: u32,
    serial: u64,
}

/// One waiting task in the arena.
#[derive(Debug)]
struct Entry {
    /// `None` if the entry is free.
    waker: Option<Waker>,
    serial: u64,
    /// The neighbours in the list; in a free entry, `next` is the next free one.
    previous: u32,
    next: u32,
    is_owned: bool,
    /// An edge may already have passed, so only level-triggered `select` can wake it.
    needs_select: bool,
    /// The task is parked, and does not wait in `select`.
    is_parked: bool,
}

/// The tasks that wait for one thing. The entries are in the [`Arena`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct List {
    first: u32,
    last: u32,
    /// Number of entries without an owner.
    n_loose: u32,
    /// Number of entries that need `select`.
    n_select: u32,
}

impl List {
    pub(crate) const EMPTY: List = List {
        first: NONE,
        last: NONE,
        n_loose: 0,
        n_select: 0,
    };

    pub(crate) fn is_empty(&self) -> bool {
        self.first == NONE
    }
}

/// The entries of all lists of one loop.
#[derive(Debug)]
pub(crate) struct Arena {
    entries: Vec<Entry>,
    first_free: u32,
    n_used: usize,
    next_serial: u64,
}

impl Arena {
    pub(crate) fn new() -> Arena {
        Arena {
            entries: Vec::new(),
            first_free: NONE,
            n_used: 0,
            next_serial: 1,
        }
    }

    fn take_serial(&mut self) -> u64 {
        let serial = self.next_serial;
        self.next_serial += 1;
        serial
    }

    /// Appends an entry to `list`.
    pub(crate) fn push(
        &mut self,
        list: &mut List,
        waker: Waker,
        is_owned: bool,
        needs_select: bool,
    ) -> WaitKey {
        let serial = self.take_serial();
        let entry = Entry {
            waker: Some(waker),
            serial,
            previous: list.last,
            next: NONE,
            is_owned,
            needs_select,
            is_parked: false,
        };
        let index = match self.first_free {
            NONE => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 tasks wait")
            }
            index => {
                let free = &mut self.entries[index as usize];
                self.first_free = free.next;
                *free = entry;
                index
            }
        };
        // At the end, so that the tasks are woken in the order in which they came.
        match list.last {
            NONE => list.first = index,
            last => self.entries[last as usize].next = index,
        }
        list.last = index;
        list.n_loose += u32::from(!is_owned);
        list.n_select += u32::from(needs_select);
        self.n_used += 1;
        WaitKey { index, serial }
    }

    /// Returns the entry of `key`, unless it has left its list.
    fn get(&self, key: WaitKey) -> Option<&Entry> {
        let entry = self.entries.get(key.index as usize)?;
        (entry.serial == key.serial && entry.waker.is_some()).then_some(entry)
    }

    /// Returns whether the entry of `key` is still in its list and wakes what `waker` wakes.
    pub(crate) fn holds(&self, key: WaitKey, waker: &Waker) -> bool {
        let known = self.get(key).and_then(|entry| entry.waker.as_ref());
        known.is_some_and(|known| known.will_wake(waker))
    }

    /// Returns whether the entry of `key` can be woken by an event that `select` reports, if that
    /// is needed.
    fn is_well_placed(&self, key: WaitKey, needs_select: bool) -> bool {
        // One that waits in `select` already need not be moved for a wait that could be parked.
        self.get(key)
            .is_some_and(|entry| entry.needs_select || !needs_select || !entry.is_parked)
    }

    /// Finds the entry without an owner in `list` that wakes what `waker` wakes.
    pub(crate) fn find(&self, list: &List, waker: &Waker) -> Option<WaitKey> {
        // Most lists have only entries with owners, or are empty.
        let mut index = if list.n_loose == 0 { NONE } else { list.first };
        while index != NONE {
            let entry = &self.entries[index as usize];
            let known = entry.waker.as_ref().filter(|_| !entry.is_owned);
            if known.is_some_and(|known| known.will_wake(waker)) {
                let serial = entry.serial;
                return Some(WaitKey { index, serial });
            }
            index = entry.next;
        }
        None
    }

    /// Removes the entry of `key` from `list`, which must be the list that it is in.
    pub(crate) fn remove(&mut self, list: &mut List, key: WaitKey) -> Option<Waker> {
        // Woken and removed meanwhile, perhaps with the place in use again: the serial tells.
        let entry = self.get(key)?;
        let (previous, next) = (entry.previous, entry.next);
        list.n_loose -= u32::from(!entry.is_owned);
        list.n_select -= u32::from(entry.needs_select);
        match previous {
            NONE => list.first = next,
            previous => self.entries[previous as usize].next = next,
        }
        match next {
            NONE => list.last = previous,
            next => self.entries[next as usize].previous = previous,
        }
        // Returned and not dropped here: a drop of a waker is foreign code, and the loop is
        // borrowed.
        let waker = self.free(key.index);
        self.shrink();
        waker
    }

    /// Moves all wakers of `list` to `wakers`, in order, and leaves it empty.
    pub(crate) fn take_all(&mut self, list: &mut List, wakers: &mut Vec<Waker>) {
        let mut index = list.first;
        while index != NONE {
            // Read first, because the link of a free entry leads through the free ones.
            let next = self.entries[index as usize].next;
            wakers.extend(self.free(index));
            index = next;
        }
        *list = List::EMPTY;
        self.shrink();
    }

    /// Appends all entries of `from` to `to`, and leaves `from` empty.
    fn append(&mut self, to: &mut List, from: &mut List) {
        if from.is_empty() {
            return;
        }
        match to.last {
            NONE => to.first = from.first,
            // The entries stay where they are, so the keys of their futures stay valid.
            last => {
                self.entries[last as usize].next = from.first;
                self.entries[from.first as usize].previous = last;
            }
        }
        to.last = from.last;
        to.n_loose += from.n_loose;
        to.n_select += from.n_select;
        *from = List::EMPTY;
    }

    /// Returns the wakers of `list`, in order.
    #[cfg(feature = "dump")]
    pub(crate) fn wakers(&self, list: &List) -> impl Iterator<Item = &Waker> {
        let entry = |index: u32| self.entries.get(index as usize);
        let entries = std::iter::successors(entry(list.first), move |e| entry(e.next));
        entries.filter_map(|entry| entry.waker.as_ref())
    }

    /// Notes where the entries of `list` are from now on.
    fn set_parked(&mut self, list: &List, is_parked: bool) {
        let mut index = list.first;
        while index != NONE {
            let entry = &mut self.entries[index as usize];
            entry.is_parked = is_parked;
            index = entry.next;
        }
    }

    fn free(&mut self, index: u32) -> Option<Waker> {
        let entry = &mut self.entries[index as usize];
        entry.next = self.first_free;
        self.first_free = index;
        self.n_used -= 1;
        entry.waker.take()
    }

    /// Gives memory back once nothing waits any more. Below a page or two it is kept, so that a
    /// loop in its steady state allocates nothing.
    fn shrink(&mut self) {
        if self.n_used == 0 && self.entries.capacity() > 256 {
            self.entries = Vec::new();
            self.first_free = NONE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn waker() -> Waker {
        Arc::new(Count(AtomicUsize::new(0))).into()
    }

    /// The wakers of `list`, by the positions in `all`.
    fn order(arena: &mut Arena, list: &mut List, all: &[Waker]) -> Vec<usize> {
        let mut taken = Vec::new();
        arena.take_all(list, &mut taken);
        let position = |waker: &Waker| all.iter().position(|known| known.will_wake(waker));
        taken.iter().map(|waker| position(waker).unwrap()).collect()
    }

    #[test]
    fn entries_leave_from_anywhere_and_the_rest_keeps_its_order() {
        let all: Vec<_> = (0..5).map(|_| waker()).collect();
        for gone in 0..5 {
            let (mut arena, mut list) = (Arena::new(), List::EMPTY);
            let push = |arena: &mut Arena, list: &mut List, waker: &Waker| {
                arena.push(list, waker.clone(), true, false)
            };
            let keys: Vec<_> = all.iter().map(|w| push(&mut arena, &mut list, w)).collect();
            assert!(arena.remove(&mut list, keys[gone]).is_some());
            assert!(arena.remove(&mut list, keys[gone]).is_none(), "only once");
            let mut wanted: Vec<_> = (0..5).filter(|&n| n != gone).collect();
            // A free entry is used again, and the old key does not name the new entry.
            push(&mut arena, &mut list, &all[gone]);
            wanted.push(gone);
            assert!(!arena.holds(keys[gone], &all[gone]));
            assert_eq!(order(&mut arena, &mut list, &all), wanted);
            assert!(list.is_empty() && arena.n_used == 0);
        }
    }

    #[test]
    fn lists_are_joined_in_order_and_keep_their_counts() {
        let all: Vec<_> = (0..4).map(|_| waker()).collect();
        let (mut arena, mut first, mut second) = (Arena::new(), List::EMPTY, List::EMPTY);
        arena.push(&mut first, all[0].clone(), false, false);
        arena.push(&mut second, all[1].clone(), true, true);
        arena.push(&mut first, all[2].clone(), false, false);
        let last = arena.push(&mut second, all[3].clone(), false, false);
        arena.append(&mut first, &mut second);
        assert!(second.is_empty() && first.n_select == 1);
        assert_eq!(first.n_loose, 3);
        assert_eq!(arena.find(&first, &all[3]), Some(last));
        assert_eq!(arena.find(&first, &all[1]), None, "it has an owner");
        assert_eq!(order(&mut arena, &mut first, &all), [0, 2, 1, 3]);
    }

    #[test]
    fn memory_is_given_back_once_nothing_waits() {
        let (mut arena, mut list) = (Arena::new(), List::EMPTY);
        for _ in 0..10_000 {
            arena.push(&mut list, waker(), true, false);
        }
        arena.take_all(&mut list, &mut Vec::new());
        assert_eq!(arena.entries.capacity(), 0);
    }
}
