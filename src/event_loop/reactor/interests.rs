//! Interests: which task waits for which registered descriptor, and where its entry is.

use super::source::{MAX_FALSE, Tenure};
use super::waiters::{List, WaitKey};
use super::{Added, Direction, Owner, Reactor, Token};
use crate::sys::Trigger;
use std::collections::BTreeMap;
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
        let way = self.source(token)?.ways.get(direction as usize);
        let parked = way.and_then(|way| self.waiters.find_parked(&way.parked, waker));
        let map = match direction {
            Direction::Read => &self.reads,
            Direction::Write => &self.writes,
            Direction::Except => &self.excepts,
        };
        // Where connections live long, no descriptor is young, and there is nothing to search.
        if parked.is_some() || map.is_empty() {
            return parked;
        }
        self.waiters.find(map.get(&token.fd)?, waker)
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
        let has_young = !self.map(direction).is_empty();
        let source = self.sources.get_mut(token.fd);
        let source = source.filter(|source| source.is_current(token) && !source.is_dead);
        let Some(source) = source else {
            // The task finds out when it is polled.
            return Added {
                key: None,
                unused: None,
                woken: vec![waker],
            };
        };
        // The usual case: a connection that lives long, or the only young one, and no task waits
        // for it. Then there is nothing to find, to replace or to purge.
        let is_first = !has_young && !matches!(owner, Owner::Future(Some(_)));
        let parks = source.parks(direction, needs_select);
        let way = source.ways.get_mut(direction as usize);
        if let Some(way) = way.filter(|way| is_first && way.parked.is_empty()) {
            let is_owned = matches!(owner, Owner::Future(_));
            let key = if parks {
                self.n_parked += 1;
                self.looks.has_guesses |= way.is_guess();
                let key = self.waiters.park(&mut way.parked, waker, is_owned);
                if direction == Direction::Write {
                    self.report_room(token.fd);
                }
                key
            } else {
                self.push(token, direction, needs_select, is_owned, waker).0
            };
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
            let way = self
                .source(token)
                .and_then(|s| s.ways.get(direction as usize));
            let parked = way.map(|way| &way.parked);
            if self.waiters.waits(parked, key, &waker, needs_select) {
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
    fn push(
        &mut self,
        token: Token,
        direction: Direction,
        needs_select: bool,
        is_owned: bool,
        waker: Waker,
    ) -> (WaitKey, bool) {
        let turn = self.turn;
        let number = direction as usize;
        let mut n_false = 0;
        if let Some(source) = self.sources.get_mut(token.fd) {
            let parks = source.parks(direction, needs_select);
            if let (true, Some(way)) = (parks, source.ways.get_mut(number)) {
                self.n_parked += usize::from(way.parked.is_empty());
                self.looks.has_guesses |= way.is_guess();
                let key = self.waiters.park(&mut way.parked, waker, is_owned);
                let is_due = self
                    .purges
                    .is_due(token.fd, number, way.parked.rest(), turn);
                if direction == Direction::Write {
                    self.report_room(token.fd);
                }
                return (key, is_due);
            }
            let way = source.ways.get(number);
            if source.trigger == Trigger::Edge || source.tenure == Tenure::Refused {
                n_false = way.map_or(0, |way| way.n_false);
            }
        }
        if n_false >= MAX_FALSE {
            self.rest(token.fd, direction, n_false - MAX_FALSE);
        }
        let map = match direction {
            Direction::Read => &mut self.reads,
            Direction::Write => &mut self.writes,
            Direction::Except => &mut self.excepts,
        };
        let list = map.entry(token.fd).or_insert(List::EMPTY);
        let key = self.waiters.push(list, waker, is_owned, needs_select);
        (key, self.purges.is_due(token.fd, number, list, turn))
    }

    /// Removes the entry of a future that no longer waits. Returns its waker, unless it was woken.
    pub(crate) fn remove(
        &mut self,
        token: Token,
        direction: Direction,
        key: WaitKey,
    ) -> Option<Waker> {
        let source = self.sources.get_mut(token.fd)?;
        if let Some(way) = source.ways.get_mut(direction as usize) {
            let waker = self.waiters.remove_parked(&mut way.parked, key);
            if waker.is_some() {
                self.n_parked -= usize::from(way.parked.is_empty());
                return waker;
            }
        }
        let map = match direction {
            Direction::Read => &mut self.reads,
            Direction::Write => &mut self.writes,
            Direction::Except => &mut self.excepts,
        };
        let list = map.get_mut(&token.fd)?;
        let waker = self.waiters.remove(list, key);
        if list.is_empty() {
            map.remove(&token.fd);
        }
        waker
    }

    /// Takes all who wait for `fd` in one direction.
    pub(super) fn take_direction(
        &mut self,
        fd: RawFd,
        direction: Direction,
        wakers: &mut Vec<Waker>,
    ) {
        self.take_young(fd, direction, wakers);
        let source = self.sources.get_mut(fd);
        let way = source.and_then(|source| source.ways.get_mut(direction as usize));
        if let Some(way) = way.filter(|way| !way.parked.is_empty()) {
            self.n_parked -= 1;
            self.waiters.take_parked(&mut way.parked, wakers);
        }
    }

    /// Takes all who wait for `fd` in `select`, in one direction.
    pub(super) fn take_young(&mut self, fd: RawFd, direction: Direction, wakers: &mut Vec<Waker>) {
        let map = self.map(direction);
        // Most connections are closed while no task waits for anything but the end.
        if map.is_empty() {
            return;
        }
        if let Some(mut list) = map.remove(&fd) {
            self.waiters.take_all(&mut list, wakers);
        }
    }

    /// Takes all who wait for `fd`.
    pub(super) fn take_all(&mut self, fd: RawFd, wakers: &mut Vec<Waker>) {
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
        let n_young = [self.reads.len(), self.writes.len(), self.excepts.len()];
        (n_young, self.n_parked)
    }

    /// Returns true if no task is waiting for a descriptor in `select`.
    pub(super) fn has_no_young(&self) -> bool {
        self.reads.is_empty() && self.writes.is_empty() && self.excepts.is_empty()
    }

    pub(super) fn map(&mut self, direction: Direction) -> &mut BTreeMap<RawFd, List> {
        match direction {
            Direction::Read => &mut self.reads,
            Direction::Write => &mut self.writes,
            Direction::Except => &mut self.excepts,
        }
    }
}
