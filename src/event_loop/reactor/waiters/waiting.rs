//! The tasks that wait for a descriptor, of which there is nearly always one.
//!
//! The first is kept in the source itself: that takes a third of the steps of an entry in the
//! arena, and an echo registers once for each request. Its key names no index but [`FIRST`].
//!
//! **Invariant.** Who is first came before all others of the same direction.

use super::{Arena, List, WaitKey};
use std::task::Waker;

/// Stands for the index of the first waiter, who has no entry in the arena.
pub(super) const FIRST: u32 = u32::MAX - 1;

/// The tasks that wait for a descriptor in one direction. Nearly always it is one, which needs no
/// entry in the arena; a task that comes while it waits gets one.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// The task that came when no other one waited.
    first: Option<First>,
    /// The tasks that came while another one waited, and wait in `select`.
    young: List,
    /// The tasks that came while another one waited, and wait for the kernel's queue.
    parked: List,
}

/// A waiting task without an entry.
#[derive(Debug)]
struct First {
    waker: Waker,
    serial: u64,
    /// A future owns it, and removes it when it is dropped.
    is_owned: bool,
    /// An edge may already have passed, so only level-triggered `select` can wake it.
    needs_select: bool,
    /// It waits for the kernel's queue, not in `select`.
    is_parked: bool,
}

impl Waiting {
    pub(crate) const EMPTY: Waiting = Waiting {
        first: None,
        young: List::EMPTY,
        parked: List::EMPTY,
    };

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none() && self.young.is_empty() && self.parked.is_empty()
    }

    /// True if a task waits in `select`.
    pub(crate) fn has_young(&self) -> bool {
        let first = self.first.as_ref().is_some_and(|first| !first.is_parked);
        first || !self.young.is_empty()
    }

    /// True if a task waits for the kernel's queue.
    pub(crate) fn has_parked(&self) -> bool {
        let first = self.first.as_ref().is_some_and(|first| first.is_parked);
        first || !self.parked.is_empty()
    }

    /// True if a task may have missed an edge, so that the descriptor must stay in `select`.
    pub(crate) fn needs_select(&self) -> bool {
        let first = self.first.as_ref().is_some_and(|first| first.needs_select);
        first || self.young.n_select > 0
    }

    /// The waker of the task that has no entry.
    #[cfg(feature = "dump")]
    pub(crate) fn first_waker(&self) -> Option<&Waker> {
        self.first.as_ref().map(|first| &first.waker)
    }

    /// The tasks that have an entry: in `select`, and parked.
    pub(crate) fn lists(&self) -> [&List; 2] {
        [&self.young, &self.parked]
    }

    /// The first waiter, if `key` is its key.
    fn first_of(&self, key: WaitKey) -> Option<&First> {
        let first = self.first.as_ref().filter(|_| key.index == FIRST);
        first.filter(|first| first.serial == key.serial)
    }
}

impl Arena {
    /// Adds a task to those that wait: parked, or in `select`.
    #[inline]
    pub(crate) fn wait(
        &mut self,
        waiting: &mut Waiting,
        waker: Waker,
        is_owned: bool,
        needs_select: bool,
        is_parked: bool,
    ) -> WaitKey {
        // Not also when only the first has left: whoever came while it waited would be overtaken.
        if waiting.is_empty() {
            let serial = self.take_serial();
            waiting.first = Some(First {
                waker,
                serial,
                is_owned,
                needs_select,
                is_parked,
            });
            let index = FIRST;
            return WaitKey { index, serial };
        }
        let list = match is_parked {
            true => &mut waiting.parked,
            false => &mut waiting.young,
        };
        let key = self.push(list, waker, is_owned, needs_select);
        self.entries[key.index as usize].is_parked = is_parked;
        key
    }

    /// Parks all who wait in `select` for a descriptor for which no task was parked.
    pub(crate) fn park_all(&mut self, waiting: &mut Waiting) {
        if let Some(first) = &mut waiting.first {
            first.is_parked = true;
        }
        self.set_parked(&waiting.young, true);
        self.append(&mut waiting.parked, &mut waiting.young);
    }

    /// Has all who are parked wait in `select`, behind those that wait there already.
    pub(crate) fn unpark_all(&mut self, waiting: &mut Waiting) {
        if let Some(first) = &mut waiting.first {
            first.is_parked = false;
        }
        self.set_parked(&waiting.parked, false);
        self.append(&mut waiting.young, &mut waiting.parked);
    }

    /// Moves the wakers of all who wait in `select` to `wakers`, in order.
    #[inline]
    pub(crate) fn take_young(&mut self, waiting: &mut Waiting, wakers: &mut Vec<Waker>) {
        if let Some(first) = waiting.first.take_if(|first| !first.is_parked) {
            wakers.push(first.waker);
        }
        if !waiting.young.is_empty() {
            self.take_all(&mut waiting.young, wakers);
        }
    }

    /// Moves the wakers of all who are parked to `wakers`, in order.
    #[inline]
    pub(crate) fn take_parked(&mut self, waiting: &mut Waiting, wakers: &mut Vec<Waker>) {
        if let Some(first) = waiting.first.take_if(|first| first.is_parked) {
            wakers.push(first.waker);
        }
        if !waiting.parked.is_empty() {
            self.take_all(&mut waiting.parked, wakers);
        }
    }

    /// Removes `key` from `waiting`. Returns `None` if it is not there.
    pub(crate) fn leave(&mut self, waiting: &mut Waiting, key: WaitKey) -> Option<Waker> {
        if waiting.first_of(key).is_some() {
            return waiting.first.take().map(|first| first.waker);
        }
        let list = match self.get(key)?.is_parked {
            true => &mut waiting.parked,
            false => &mut waiting.young,
        };
        self.remove(list, key)
    }

    /// Finds the task without an owner in `waiting` that wakes what `waker` wakes.
    pub(crate) fn find_waiting(&self, waiting: &Waiting, waker: &Waker) -> Option<WaitKey> {
        // An entry with an owner is not found by its waker: the task may wait twice, by a future
        // and by a trait method, and each has to be woken.
        if let Some(first) = &waiting.first {
            if !first.is_owned && first.waker.will_wake(waker) {
                let (index, serial) = (FIRST, first.serial);
                return Some(WaitKey { index, serial });
            }
        }
        let parked = self.find(&waiting.parked, waker);
        parked.or_else(|| self.find(&waiting.young, waker))
    }

    /// Returns whether `key` is in `waiting`, wakes what `waker` wakes, and can be woken by an
    /// event that `select` reports, if that is needed.
    pub(crate) fn waits(
        &self,
        waiting: &Waiting,
        key: WaitKey,
        waker: &Waker,
        needs_select: bool,
    ) -> bool {
        if key.index != FIRST {
            return self.holds(key, waker) && self.is_well_placed(key, needs_select);
        }
        // One that waits in `select` already need not be moved for a wait that could be parked.
        let first = waiting.first_of(key);
        let first = first.filter(|first| !needs_select || !first.is_parked);
        first.is_some_and(|first| first.waker.will_wake(waker))
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
    fn waiters_leave_from_anywhere_and_are_taken_in_order() {
        let all = wakers();
        for (gone, is_parked) in [0, 1, 2].into_iter().flat_map(|n| [(n, false), (n, true)]) {
            let (mut arena, mut waiting) = (Arena::new(), Waiting::EMPTY);
            let keys = all
                .each_ref()
                .map(|w| arena.wait(&mut waiting, w.clone(), true, false, is_parked));
            assert!(arena.leave(&mut waiting, keys[gone]).is_some());
            assert!(arena.leave(&mut waiting, keys[gone]).is_none());
            // Whoever comes now is the last, although the place of the first may be free.
            let last = arena.wait(&mut waiting, all[gone].clone(), true, false, is_parked);
            assert!(arena.waits(&waiting, last, &all[gone], false));
            assert_ne!(arena.waits(&waiting, last, &all[gone], true), is_parked);
            assert!(!arena.waits(&waiting, keys[gone], &all[gone], false));
            let mut wanted: Vec<_> = (0..3).filter(|&n| n != gone).map(|n| &all[n]).collect();
            wanted.push(&all[gone]);
            let (mut taken, mut others) = (Vec::new(), Vec::new());
            arena.take_parked(&mut waiting, &mut taken);
            arena.take_young(&mut waiting, &mut others);
            if !is_parked {
                std::mem::swap(&mut taken, &mut others);
            }
            assert!(are_equal(&taken, &wanted) && others.is_empty() && waiting.is_empty());
        }
    }

    #[test]
    fn a_key_names_its_waiter_also_after_the_queue_was_given_up() {
        let all = wakers();
        for (gone, first_is_parked) in [0, 1, 2].into_iter().flat_map(|n| [(n, false), (n, true)]) {
            let (mut arena, mut waiting) = (Arena::new(), Waiting::EMPTY);
            let is_parked = [first_is_parked, true, true];
            let keys = [0, 1, 2].map(|n| {
                let needs_select = !is_parked[n];
                arena.wait(
                    &mut waiting,
                    all[n].clone(),
                    true,
                    needs_select,
                    is_parked[n],
                )
            });
            assert_eq!(waiting.needs_select(), !first_is_parked);
            assert!(waiting.has_parked() && waiting.has_young() != first_is_parked);
            arena.unpark_all(&mut waiting);
            assert!(waiting.has_young() && !waiting.has_parked());
            let removed = arena.leave(&mut waiting, keys[gone]);
            assert!(removed.is_some_and(|waker| waker.will_wake(&all[gone])));
            assert!(arena.leave(&mut waiting, keys[gone]).is_none());
            let wanted: Vec<_> = (0..3).filter(|&n| n != gone).map(|n| &all[n]).collect();
            let mut taken = Vec::new();
            arena.take_young(&mut waiting, &mut taken);
            assert!(are_equal(&taken, &wanted) && waiting.is_empty());
        }
    }
}
