//! The tasks that wait for a tenured descriptor, of which there is nearly always one.
//!
//! The first is kept in the source itself: that takes a third of the steps of an entry in the
//! arena, and an echo registers once for each request. Its key names no index but [`FIRST`].
//!
//! **Invariant.** Who is first came before all others of the same list.

use super::{Arena, List, WaitKey};
use std::task::Waker;

/// Stands for the index of the first waiter, who has no entry in the arena.
pub(super) const FIRST: u32 = u32::MAX - 1;

/// The tasks that wait for a tenured descriptor in one direction. Nearly always it is one, which
/// needs no entry in the arena; a task that comes while it waits gets one.
#[derive(Debug)]
pub(crate) struct Parked {
    /// The task that came when no other one waited.
    first: Option<First>,
    /// The tasks that came while another one waited.
    rest: List,
}

/// A waiting task without an entry.
#[derive(Debug)]
pub(super) struct First {
    pub(super) waker: Waker,
    pub(super) serial: u64,
    /// A future owns it, and removes it when it is dropped.
    pub(super) is_owned: bool,
}

impl Parked {
    pub(crate) const EMPTY: Parked = Parked {
        first: None,
        rest: List::EMPTY,
    };

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }

    /// The waker of the task that has no entry.
    pub(crate) fn first_waker(&self) -> Option<&Waker> {
        self.first.as_ref().map(|first| &first.waker)
    }

    /// The tasks that have an entry.
    pub(crate) fn rest(&self) -> &List {
        &self.rest
    }

    fn has_first(&self, key: WaitKey) -> bool {
        let first = self.first.as_ref().filter(|_| key.index == FIRST);
        first.is_some_and(|first| first.serial == key.serial)
    }
}

impl Arena {
    /// Adds a task to those that wait for a tenured descriptor.
    pub(crate) fn park(&mut self, parked: &mut Parked, waker: Waker, is_owned: bool) -> WaitKey {
        // Not also when only the first has left: whoever came while it waited would be overtaken.
        if parked.is_empty() {
            let serial = self.take_serial();
            parked.first = Some(First {
                waker,
                serial,
                is_owned,
            });
            let index = FIRST;
            return WaitKey { index, serial };
        }
        let key = self.push(&mut parked.rest, waker, is_owned, false);
        self.entries[key.index as usize].is_parked = true;
        key
    }

    /// Parks all tasks of `list`, of a descriptor for which none was parked.
    pub(crate) fn park_all(&mut self, list: List) -> Parked {
        self.set_parked(&list, true);
        Parked {
            first: None,
            rest: list,
        }
    }

    /// Appends all who are in `parked` to `list`, which is in a map of young descriptors.
    pub(crate) fn unpark_all(&mut self, parked: &mut Parked, list: &mut List) {
        // First the one without an entry, which came before all others.
        if let Some(first) = parked.first.take() {
            self.push_entry(list, first, false);
        }
        self.set_parked(&parked.rest, false);
        self.append(list, &mut parked.rest);
    }

    /// Moves the wakers of all who are in `parked` to `wakers`, in order.
    pub(crate) fn take_parked(&mut self, parked: &mut Parked, wakers: &mut Vec<Waker>) {
        wakers.extend(parked.first.take().map(|first| first.waker));
        if !parked.rest.is_empty() {
            self.take_all(&mut parked.rest, wakers);
        }
    }

    /// Removes `key` from `parked`. Returns `None` if it is not there.
    pub(crate) fn remove_parked(&mut self, parked: &mut Parked, key: WaitKey) -> Option<Waker> {
        if parked.has_first(key) {
            return parked.first.take().map(|first| first.waker);
        }
        let is_there = self.get(key).is_some_and(|entry| entry.is_parked);
        is_there.then(|| self.remove(&mut parked.rest, key))?
    }

    /// Finds the task without an owner in `parked` that wakes what `waker` wakes.
    pub(crate) fn find_parked(&self, parked: &Parked, waker: &Waker) -> Option<WaitKey> {
        // An entry with an owner is not found by its waker: the task may wait twice, by a future
        // and by a trait method, and each has to be woken.
        if let Some(first) = &parked.first {
            if !first.is_owned && first.waker.will_wake(waker) {
                let (index, serial) = (FIRST, first.serial);
                return Some(WaitKey { index, serial });
            }
        }
        self.find(&parked.rest, waker)
    }

    /// Returns whether `key` waits in `parked` or in a list, wakes what `waker` wakes, and can be
    /// woken by an event that `select` reports, if that is needed.
    pub(crate) fn waits(
        &self,
        parked: Option<&Parked>,
        key: WaitKey,
        waker: &Waker,
        needs_select: bool,
    ) -> bool {
        if key.index != FIRST {
            return self.holds(key, waker) && self.is_well_placed(key, needs_select);
        }
        let first = parked.filter(|parked| parked.has_first(key));
        let first = first.and_then(|parked| parked.first.as_ref());
        first.is_some_and(|first| !needs_select && first.waker.will_wake(waker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::task::Wake;

    struct NoTask;

    impl Wake for NoTask {
        fn wake(self: Arc<Self>) {}
    }

    fn wakers() -> [Waker; 3] {
        [(); 3].map(|()| Arc::new(NoTask).into())
    }

    fn are_equal(taken: &[Waker], wanted: &[&Waker]) -> bool {
        let mut pairs = taken.iter().zip(wanted);
        taken.len() == wanted.len() && pairs.all(|(taken, wanted)| taken.will_wake(wanted))
    }

    #[test]
    fn parked_waiters_leave_from_anywhere_and_are_taken_in_order() {
        let all = wakers();
        for gone in 0..3 {
            let (mut arena, mut parked) = (Arena::new(), Parked::EMPTY);
            let keys = all
                .each_ref()
                .map(|w| arena.park(&mut parked, w.clone(), true));
            assert!(arena.remove_parked(&mut parked, keys[gone]).is_some());
            assert!(arena.remove_parked(&mut parked, keys[gone]).is_none());
            // Whoever comes now is the last, although the place of the first may be free.
            let last = arena.park(&mut parked, all[gone].clone(), true);
            assert!(arena.waits(Some(&parked), last, &all[gone], false));
            assert!(!arena.waits(Some(&parked), keys[gone], &all[gone], false));
            let mut wanted: Vec<_> = (0..3).filter(|&n| n != gone).map(|n| &all[n]).collect();
            wanted.push(&all[gone]);
            let mut taken = Vec::new();
            arena.take_parked(&mut parked, &mut taken);
            assert!(are_equal(&taken, &wanted) && parked.is_empty());
        }
    }

    #[test]
    fn a_key_names_its_waiter_also_after_the_queue_was_given_up() {
        let all = wakers();
        for gone in 0..3 {
            let (mut arena, mut parked) = (Arena::new(), Parked::EMPTY);
            let mut list = List::EMPTY;
            let keys = [
                arena.push(&mut list, all[0].clone(), true, true),
                arena.park(&mut parked, all[1].clone(), true),
                arena.park(&mut parked, all[2].clone(), true),
            ];
            arena.unpark_all(&mut parked, &mut list);
            assert!(parked.is_empty());
            assert!(arena.remove_parked(&mut parked, keys[gone]).is_none());
            let removed = arena.remove(&mut list, keys[gone]);
            assert!(removed.is_some_and(|waker| waker.will_wake(&all[gone])));
            assert!(arena.remove(&mut list, keys[gone]).is_none());
            let wanted: Vec<_> = (0..3).filter(|&n| n != gone).map(|n| &all[n]).collect();
            let mut taken = Vec::new();
            arena.take_all(&mut list, &mut taken);
            assert!(are_equal(&taken, &wanted) && list.is_empty());
        }
    }
}
