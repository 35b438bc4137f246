//! The reactor: which task waits for which descriptor, to read or to write.
//!
//! Two maps from descriptor to wakers, one for each direction, and a small third for exceptional
//! conditions; the `fd_set`s are rebuilt from them for every wait. Knows no task, no timer, no
//! clock, no log.
//!
//! # Young and tenured
//! `select` costs a fifth of a microsecond for every descriptor in its sets, whatever is ready; the
//! kernel's own queue (epoll, kqueue) costs nothing for a descriptor that it watches, but a system
//! call to have it watched. Most connections live briefly, a few live long and mostly idle. So
//! every descriptor is born **young**: its interests are in the maps. One that has taken part in
//! [`RENT`] selects has paid as much in rent as the queue costs, and is **tenured**: the queue
//! watches it, edge-triggered in both directions, and its waiters are parked with it. The queue's
//! own descriptor is one more member of the read set; when nobody young is left, the loop waits in
//! the queue directly.
//!
//! An edge says that something has changed, so only those may be parked who have seen the state
//! before: whose call returned `WouldBlock`, or took less than was offered. A plain `readable()`
//! goes into the maps, and so do reads after the peer has hung up, when one edge may have stood for
//! data and the end, and whoever was told that the descriptor is ready and then found that it is
//! not. Listeners are watched level-triggered, so that one `accept` per wait is enough.
//!
//! **Invariants.** An interest is one-shot: it leaves its place before its waker runs, so unread
//! data cannot spin the loop. The directions never touch each other. Several tasks may wait for the
//! same descriptor and direction. A token carries the generation of its registration, so an
//! operation or an event through an old one finds nothing, whoever has the number now. Interests
//! exist only for registered descriptors, and registrations and tenures end before the descriptor
//! is closed.

mod closed_fds;
mod error;
mod kinds;
mod source;
mod tenure;
mod wait;
mod waiters;

pub use error::RegisterError;
pub use kinds::Poller;
pub(crate) use kinds::{Advice, ClosedFd, Direction, Token};

use crate::sys::fork;
use crate::sys::queue::Queue;
use crate::sys::select::Sets;
use crate::sys::unix::SELECT_LIMIT;
use crate::sys::{Event, Trigger};
use source::{Source, Tenure};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::RawFd;
use std::panic::Location;
use std::task::Waker;
use waiters::Waiters;

/// After so many selects a descriptor is tenured.
const RENT: u8 = 4;

/// All registrations and interests of one loop.
#[derive(Debug)]
pub(crate) struct Reactor {
    reads: BTreeMap<RawFd, Waiters>,
    writes: BTreeMap<RawFd, Waiters>,
    excepts: BTreeMap<RawFd, Waiters>,
    /// By descriptor number.
    sources: Vec<Option<Source>>,
    next_generation: u64,
    poller: Poller,
    queue: Option<Queue>,
    sets: Sets,
    /// Where the next scan begins: low numbers shall not always be served first.
    scan_from: RawFd,
    /// What `select` said in the last wait, and what the queue said.
    ready: Vec<(RawFd, Direction)>,
    events: Vec<Event>,
    /// Kept from tick to tick, so that none allocates.
    candidates: Vec<RawFd>,
    audited: usize,
    limit: Option<usize>,
    /// How many forks had been counted when the queue was made.
    n_forks: usize,
}

impl Reactor {
    pub(crate) fn new() -> Reactor {
        Reactor {
            reads: BTreeMap::new(),
            writes: BTreeMap::new(),
            excepts: BTreeMap::new(),
            sources: Vec::new(),
            next_generation: 1,
            poller: Poller::Auto,
            queue: None,
            sets: Sets::default(),
            scan_from: 0,
            ready: Vec::new(),
            events: Vec::new(),
            candidates: Vec::new(),
            audited: 0,
            limit: SELECT_LIMIT,
            n_forks: fork::count(),
        }
    }

    /// Sets how the loop waits from now on.
    pub(crate) fn set_poller(&mut self, poller: Poller) {
        self.poller = poller;
        if poller == Poller::Select {
            self.close_queue();
        }
    }

    /// Pretends that `select` takes no descriptor from `limit` on.
    #[cfg(test)]
    pub(crate) fn set_limit(&mut self, limit: Option<usize>) {
        self.limit = limit;
    }

    /// Registers `fd`. With `owned`, the caller owns the descriptor, so an earlier registration of
    /// the same number is a leftover: it is ended, and its waiters are returned to be woken.
    /// Without a `trigger`, the descriptor is never given to the kernel's queue.
    pub(crate) fn register(
        &mut self,
        fd: RawFd,
        owned: bool,
        trigger: Option<Trigger>,
        place: &'static Location<'static>,
    ) -> Result<(Token, Vec<Waker>), RegisterError> {
        let Ok(index) = usize::try_from(fd) else {
            return Err(RegisterError::BadFd { fd });
        };
        if let Some(limit) = self.limit.filter(|&limit| index >= limit) {
            return Err(RegisterError::OverSelectLimit { fd, limit });
        }
        if index >= self.sources.len() {
            self.sources.resize_with(index + 1, || None);
        }
        let mut leftover = Vec::new();
        if self.sources[index].is_some() {
            if !owned {
                return Err(RegisterError::AlreadyRegistered { fd });
            }
            // The queue has forgotten it by itself when it was closed.
            self.take_all(fd, &mut leftover);
        }
        let generation = self.next_generation;
        self.next_generation += 1;
        self.sources[index] = Some(Source::new(generation, place, trigger));
        Ok((Token { fd, generation }, leftover))
    }

    /// Ends a registration. The waiters are returned, to be woken: the kernel will not do it.
    pub(crate) fn deregister(&mut self, token: Token, waiters: &mut Vec<Waker>) {
        let Some(source) = self.source(token) else {
            return;
        };
        if source.tenure == Tenure::Tenured {
            self.unwatch(token.fd);
        }
        self.take_all(token.fd, waiters);
        self.sources[token.fd as usize] = None;
        while self.sources.last().is_some_and(Option::is_none) {
            self.sources.pop();
        }
        if self.sources.capacity() > 4 * self.sources.len().max(64) {
            self.sources.shrink_to_fit();
        }
    }

    /// Whether an operation should be tried.
    pub(crate) fn advice(&mut self, token: Token, direction: Direction) -> Advice {
        let Some(source) = self.source_mut(token).filter(|source| !source.dead) else {
            return Advice::Dead;
        };
        let direction = direction as usize;
        match (source.blocked.get(direction), source.tenure) {
            (Some(true), _) => Advice::Wait,
            (_, Tenure::Tenured) => {
                let hinted = source.hinted.get_mut(direction);
                match hinted.is_some_and(std::mem::take) {
                    true => Advice::TryHinted,
                    false => Advice::TryTwice,
                }
            }
            _ => Advice::Try,
        }
    }

    /// Notes that the next operation would have to wait: for certain, or probably, because the last
    /// one took less than was offered.
    pub(crate) fn set_blocked(&mut self, token: Token, direction: Direction, certain: bool) {
        let Some(source) = self.source_mut(token) else {
            return;
        };
        let end_may_follow = direction == Direction::Read && source.hung_up;
        if let Some(blocked) = source.blocked.get_mut(direction as usize) {
            *blocked = certain || !end_may_follow;
        }
    }

    /// How often the descriptor has been ready; `None` if the registration has ended or is dead.
    pub(crate) fn n_ready(&self, token: Token, direction: Direction) -> Option<u32> {
        let source = self.source(token).filter(|source| !source.dead)?;
        Some(source.n_ready[direction as usize])
    }

    /// Registers interest: `waker` is woken once, when the descriptor is ready, closed, or no
    /// longer registered. `level` says that the caller has seen no `WouldBlock`. What is displaced
    /// or turned away is returned, to be woken.
    pub(crate) fn add(
        &mut self,
        token: Token,
        direction: Direction,
        level: bool,
        waker: Waker,
    ) -> Vec<Waker> {
        let Some(source) = self.source_mut(token).filter(|source| !source.dead) else {
            return vec![waker];
        };
        let end_may_follow = direction == Direction::Read && source.hung_up;
        let park = source.tenure == Tenure::Tenured && !level && !end_may_follow;
        if let (true, Some(parked)) = (park, source.parked.get_mut(direction as usize)) {
            return match parked {
                Some(waiters) => waiters.push(waker, level),
                None => {
                    *parked = Some(Waiters::new(waker, level));
                    Vec::new()
                }
            };
        }
        match self.map(direction).entry(token.fd) {
            Entry::Occupied(entry) => entry.into_mut().push(waker, level),
            Entry::Vacant(entry) => {
                entry.insert(Waiters::new(waker, level));
                Vec::new()
            }
        }
    }

    /// Whether `waker` already waits there.
    pub(crate) fn knows(&self, token: Token, direction: Direction, waker: &Waker) -> bool {
        let map = match direction {
            Direction::Read => &self.reads,
            Direction::Write => &self.writes,
            Direction::Except => &self.excepts,
        };
        let parked = self
            .source(token)
            .and_then(|s| s.parked.get(direction as usize)?.as_ref());
        parked.is_some_and(|waiters| waiters.contain(waker))
            || map
                .get(&token.fd)
                .is_some_and(|waiters| waiters.contain(waker))
    }

    /// How many descriptors are waited for in `select`, by direction, and how many in the queue.
    pub(crate) fn n_interests(&self) -> ([usize; 3], usize) {
        let parked = self.sources.iter().flatten().filter(|s| s.has_parked());
        let n_young = [self.reads.len(), self.writes.len(), self.excepts.len()];
        (n_young, parked.count())
    }

    /// Whether nobody waits for any descriptor.
    pub(crate) fn is_idle(&self) -> bool {
        let n_young = self.reads.len() + self.writes.len() + self.excepts.len();
        n_young == 0 && !self.sources.iter().flatten().any(Source::has_parked)
    }

    /// The descriptors that somebody else would have to wait for in `direction`, in our stead. All
    /// that is tenured is stood for by the queue's own.
    pub(crate) fn interests(&self, direction: Direction) -> Vec<RawFd> {
        match direction {
            Direction::Read => self
                .reads
                .keys()
                .copied()
                .chain(self.own_queue().map(Queue::fd))
                .collect(),
            Direction::Write => self.writes.keys().copied().collect(),
            Direction::Except => self.excepts.keys().copied().collect(),
        }
    }

    /// Everybody who waits for anything, for the end of the loop.
    pub(crate) fn drain(&mut self) -> Vec<Waker> {
        let mut waiters = Vec::new();
        (0..self.sources.len()).for_each(|fd| self.take_all(fd as RawFd, &mut waiters));
        waiters
    }

    fn take_all(&mut self, fd: RawFd, waiters: &mut Vec<Waker>) {
        for direction in [Direction::Read, Direction::Write, Direction::Except] {
            take(self.map(direction), fd, waiters);
        }
        if let Some(Some(source)) = self.sources.get_mut(fd as usize) {
            let parked = std::mem::take(&mut source.parked);
            parked
                .into_iter()
                .flatten()
                .for_each(|entry| entry.move_to(waiters));
        }
    }

    fn map(&mut self, direction: Direction) -> &mut BTreeMap<RawFd, Waiters> {
        match direction {
            Direction::Read => &mut self.reads,
            Direction::Write => &mut self.writes,
            Direction::Except => &mut self.excepts,
        }
    }

    fn source(&self, token: Token) -> Option<&Source> {
        let source = self.sources.get(token.fd as usize)?.as_ref();
        source.filter(|source| source.generation == token.generation)
    }

    fn source_mut(&mut self, token: Token) -> Option<&mut Source> {
        let source = self.sources.get_mut(token.fd as usize)?.as_mut();
        source.filter(|source| source.generation == token.generation)
    }
}

impl Drop for Reactor {
    /// A thread may end in a child whose loop has not turned since the fork.
    fn drop(&mut self) {
        self.close_queue();
    }
}

fn take(map: &mut BTreeMap<RawFd, Waiters>, fd: RawFd, waiters: &mut Vec<Waker>) {
    if let Some(entry) = map.remove(&fd) {
        entry.move_to(waiters);
    }
}
