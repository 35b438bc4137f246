//! Interests: which task waits for which registered descriptor, and where its entry is.

use super::backoff::rest;
use super::source::{MAX_FALSE, Source, Tenure};
use super::waiters::{WaitKey, Waiting};
use super::young::Young;
use super::{Added, Direction, Owner, Reactor, Token};
use crate::sys::Trigger;
use std::os::fd::RawFd;
use std::task::Waker;

impl Reactor {
    /// Returns how often the descriptor has been ready; `None` if the registration has ended or is
    /// dead.
    pub(crate) fn n_ready(&self, token: Token, direction: Direction) -> Option<u32> {
        let source = self.source(token).filter(|source| !source.is_dead)?;
        Some(source.n_ready[direction as usize])
    }

    /// Finds the entry without an owner that wakes what `waker` wakes.
    fn find(&self, token: Token, direction: Direction, waker: &Waker) -> Option<WaitKey> {
        let waiting = self.source(token)?.waiting(direction)?;
        self.waiters.find_waiting(waiting, waker)
    }

    /// Registers interest: `waker` is woken once, when the descriptor is ready, closed, or no
    /// longer registered. With `needs_select`, an edge may already have passed, so that only
    /// level-triggered `select` can wake it. It replaces the entry that `owner` has already, unless
    /// that wakes what `waker` wakes, in a place where it will be woken.
    pub(crate) fn add(
        &mut self,
        token: Token,
        direction: Direction,
        needs_select: bool,
        owner: Owner,
        waker: Waker,
    ) -> Added {
        let source = self.sources.get(token.fd);
        let source = source.filter(|source| source.is_current(token) && !source.is_dead);
        let Some(source) = source else {
            // The task finds out when it is polled.
            return Added {
                key: None,
                unused: None,
                woken: vec![waker],
            };
        };
        // The usual case: no task waits for it. Then there is nothing to find, to replace or to
        // purge.
        let is_first = !matches!(owner, Owner::Future(Some(_)));
        let waiting = source.waiting(direction);
        if is_first && waiting.is_none_or(Waiting::is_empty) {
            let is_owned = matches!(owner, Owner::Future(_));
            let (key, _) = self.push(token, direction, needs_select, is_owned, waker);
            return Added {
                key: Some(key),
                unused: None,
                woken: Vec::new(),
            };
        }
        self.add_beside(token, direction, needs_select, owner, waker)
    }

    /// [`add`](Reactor::add) for a direction in which other tasks may be waiting, or the task is
    /// already.
    fn add_beside(
        &mut self,
        token: Token,
        direction: Direction,
        needs_select: bool,
        owner: Owner,
        waker: Waker,
    ) -> Added {
        // A trait method has kept no key, so its entry is looked for. With many tasks that share
        // one stream by trait methods this is slow; futures of this crate are found at once.
        let (old, is_owned) = match owner {
            Owner::Future(key) => (key, true),
            Owner::Waker => (self.find(token, direction, &waker), false),
        };
        let mut unused = None;
        if let Some(key) = old {
            let waiting = self.source(token).and_then(|s| s.waiting(direction));
            let is_waiting = waiting
                .is_some_and(|waiting| self.waiters.waits(waiting, key, &waker, needs_select));
            if is_waiting {
                return Added {
                    key: old,
                    unused: Some(waker),
                    woken: Vec::new(),
                };
            }
            unused = self.remove(token, direction, key);
        }
        let (key, is_purged) = self.push(token, direction, needs_select, is_owned, waker);
        // With the new entry among them: to leave it out would cost a search, and a task that is
        // polled once too often does no harm.
        let mut woken = Vec::new();
        if is_purged {
            self.take_direction(token.fd, direction, &mut woken);
        }
        Added {
            key: Some(key),
            unused,
            woken,
        }
    }

    /// Adds an entry. Returns also whether the list has doubled, and all of it is to be woken.
    #[inline(always)]
    fn push(
        &mut self,
        token: Token,
        direction: Direction,
        needs_select: bool,
        is_owned: bool,
        waker: Waker,
    ) -> (WaitKey, bool) {
        let number = direction as usize;
        let source = self.sources.get_mut(token.fd);
        let source = source.expect("interests exist only for registered descriptors");
        let is_parked = source.parks(direction, needs_select);
        if is_parked {
            let way = &source.ways[number];
            self.n_parked += usize::from(!way.waiting.has_parked());
            self.looks.has_guesses |= way.is_guess();
        } else {
            self.young[number].insert(token.fd);
            let may_rest = source.trigger == Trigger::Edge || source.tenure == Tenure::Refused;
            let way = source.ways.get(number).filter(|_| may_rest);
            if let Some(way) = way.filter(|way| way.n_false >= MAX_FALSE) {
                rest(
                    &mut self.resting,
                    token.fd,
                    direction,
                    way.n_false - MAX_FALSE,
                );
            }
        }
        let waiting = source.waiting_mut(direction);
        let key = self
            .waiters
            .wait(waiting, waker, is_owned, needs_select, is_parked);
        let list = waiting.lists()[usize::from(is_parked)];
        let is_due = self.purges.is_due(token.fd, number, list, self.turn);
        if is_parked && direction == Direction::Write {
            self.report_room(token.fd);
        }
        (key, is_due)
    }

    /// Removes the entry of a future that no longer waits. Returns its waker, unless it was woken.
    pub(crate) fn remove(
        &mut self,
        token: Token,
        direction: Direction,
        key: WaitKey,
    ) -> Option<Waker> {
        let source = self.sources.get_mut(token.fd)?;
        let waiting = source.waiting_mut(direction);
        let before = (waiting.has_young(), waiting.has_parked());
        let waker = self.waiters.leave(waiting, key);
        if before.0 && !waiting.has_young() {
            self.young[direction as usize].remove(token.fd);
        }
        self.n_parked -= usize::from(before.1 && !waiting.has_parked());
        waker
    }

    /// Takes all who wait for `fd` in one direction.
    pub(super) fn take_direction(
        &mut self,
        fd: RawFd,
        direction: Direction,
        wakers: &mut Vec<Waker>,
    ) {
        let source = self.sources.get_mut(fd);
        let Some(source) = source.filter(|source| source.waiting(direction).is_some()) else {
            return;
        };
        let waiting = source.waiting_mut(direction);
        if waiting.has_young() {
            self.young[direction as usize].remove(fd);
            self.waiters.take_young(waiting, wakers);
        }
        if waiting.has_parked() {
            self.n_parked -= 1;
            self.waiters.take_parked(waiting, wakers);
        }
    }

    /// Takes all who wait for `fd`.
    pub(super) fn take_all(&mut self, fd: RawFd, wakers: &mut Vec<Waker>) {
        // Most connections are closed while no task waits for anything.
        if !self.sources.get(fd).is_some_and(Source::is_awaited) {
            return;
        }
        for direction in Direction::ALL {
            self.take_direction(fd, direction, wakers);
        }
    }

    /// Takes all who wait for anything, for the end of the loop.
    pub(crate) fn drain(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let fds: Vec<_> = self.sources.iter().map(|(fd, _)| fd).collect();
        fds.into_iter()
            .for_each(|fd| self.take_all(fd, &mut wakers));
        wakers
    }

    /// Returns how many descriptors are waited for in `select`, by direction, and how many
    /// directions of descriptors in the queue.
    pub(crate) fn n_interests(&self) -> ([usize; 3], usize) {
        (self.young.each_ref().map(Young::len), self.n_parked)
    }

    /// Returns true if no task is waiting for a descriptor.
    pub(crate) fn is_idle(&self) -> bool {
        self.has_no_young() && self.n_parked == 0
    }

    /// Returns true if no task is waiting for a descriptor in `select`.
    pub(super) fn has_no_young(&self) -> bool {
        self.young.iter().all(Young::is_empty)
    }
}
