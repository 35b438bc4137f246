//! Keeps waiters that nothing polls any more from filling memory.

use super::List;
use std::os::fd::RawFd;

/// A list with fewer entries without an owner than this is never purged.
const MIN_PURGE: u32 = 64;

/// Waiters that were woken by a purge register again within this number of turns.
const PURGE_TURNS: u32 = 4;

/// When a list is purged: all of it is woken, so that live waiters register again and those of
/// wakers that nothing polls any more are gone.
///
/// A list is purged when its entries without an owner have doubled since the last time, so that n
/// live waiters are woken about log n times in all, and ever-new wakers cannot fill memory. What
/// registers again within a few turns after a purge was live, and the list may then become twice
/// as long before the next. If it takes longer, most of what a purge removed was dead, and the
/// limit falls again.
#[derive(Debug, Default)]
pub(crate) struct Purges {
    /// For lists that have been purged, in the order of descriptor and direction. Nearly always
    /// empty, so a map would be 4 kB of code for next to nothing.
    limits: Vec<Limit>,
}

#[derive(Debug)]
struct Limit {
    fd: RawFd,
    direction: usize,
    n_loose: u32,
    /// The turn in which the list was purged, or its limit was raised.
    turn: u32,
}

impl Purges {
    /// Returns whether `list` is to be purged, in turn number `turn`, now that an entry was added.
    #[inline]
    pub(crate) fn is_due(&mut self, fd: RawFd, direction: usize, list: &List, turn: u32) -> bool {
        list.n_loose >= MIN_PURGE && self.is_long_due(fd, direction, list, turn)
    }

    /// [`is_due`](Purges::is_due) for a long list.
    fn is_long_due(&mut self, fd: RawFd, direction: usize, list: &List, turn: u32) -> bool {
        let key = |limit: &Limit| (limit.fd, limit.direction);
        let found = self.limits.binary_search_by_key(&(fd, direction), key);
        let index = found.unwrap_or_else(|index| {
            let limit = Limit {
                fd,
                direction,
                n_loose: MIN_PURGE,
                turn: turn.wrapping_sub(PURGE_TURNS + 1),
            };
            self.limits.insert(index, limit);
            index
        });
        let limit = &mut self.limits[index];
        if list.n_loose < limit.n_loose {
            return false;
        }
        match turn.wrapping_sub(limit.turn) {
            // What a purge of this turn has woken has hardly been polled: these are new.
            0 => {}
            1..=PURGE_TURNS => {
                limit.n_loose = limit.n_loose.saturating_mul(2);
                limit.turn = turn;
                return false;
            }
            _ => limit.n_loose = (limit.n_loose / 2).max(MIN_PURGE),
        }
        limit.turn = turn;
        true
    }

    /// Forgets a descriptor that is no longer registered.
    pub(crate) fn forget(&mut self, fd: RawFd) {
        if !self.limits.is_empty() {
            self.limits.retain(|limit| limit.fd != fd);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Arena;
    use super::*;
    use std::sync::Arc;
    use std::task::{Wake, Waker};

    struct NoTask;

    impl Wake for NoTask {
        fn wake(self: Arc<Self>) {}
    }

    fn waker() -> Waker {
        Arc::new(NoTask).into()
    }

    /// Registers `n_live` waiters, and again whenever they are woken; returns how often they were.
    fn n_woken(n_live: usize) -> usize {
        let (mut arena, mut purges, mut list) = (Arena::new(), Purges::default(), List::EMPTY);
        let (mut n_woken, mut due) = (0, n_live);
        for turn in 0..1_000 {
            let mut woken = Vec::new();
            for _ in 0..std::mem::take(&mut due) {
                arena.push(&mut list, waker(), false, false);
                if purges.is_due(3, 0, &list, turn) {
                    arena.take_all(&mut list, &mut woken);
                }
            }
            n_woken += woken.len();
            due = woken.len();
        }
        assert_eq!(due, 0, "all wait in the end");
        n_woken
    }

    #[test]
    fn live_waiters_are_woken_a_few_times_and_then_left_alone() {
        for n_live in [63, 64, 65, 1_000, 10_000] {
            assert!(n_woken(n_live) <= 10 * n_live, "{}", n_woken(n_live));
        }
        assert_eq!(n_woken(63), 0);
    }

    /// Registers a new waker `per_turn` times a turn; returns the length of the longest list.
    fn longest(per_turn: u32, n_turns: u32) -> u32 {
        let (mut arena, mut purges, mut list) = (Arena::new(), Purges::default(), List::EMPTY);
        let mut longest = 0;
        for turn in 0..n_turns {
            for _ in 0..per_turn {
                arena.push(&mut list, waker(), false, false);
                longest = longest.max(list.n_loose);
                if purges.is_due(3, 0, &list, turn) {
                    arena.take_all(&mut list, &mut Vec::new());
                }
            }
        }
        longest
    }

    #[test]
    fn ever_new_wakers_do_not_fill_memory() {
        assert_eq!(longest(1, 100_000), MIN_PURGE);
        assert_eq!(longest(1_000_000, 1), MIN_PURGE);
        assert!(longest(100, 10_000) <= 1_024, "{}", longest(100, 10_000));
    }
}
