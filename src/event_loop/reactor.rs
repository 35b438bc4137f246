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

pub use error::RegisterError;
pub use kinds::Poller;
pub(crate) use kinds::{Advice, ClosedFd, Direction, Token};

use crate::sys::fd::is_open;
use crate::sys::fork;
use crate::sys::queue::Queue;
use crate::sys::select::{Sets, Waited};
use crate::sys::unix::SELECT_LIMIT;
use crate::sys::{Event, Trigger};
use source::{Source, Tenure, Waiters};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::RawFd;
use std::panic::Location;
use std::task::Waker;
use std::time::Duration;

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

    /// Prepares the reactor of a child of `fork` for its first wait.
    pub(crate) fn after_fork(&mut self) {
        self.close_queue();
        self.n_forks = fork::count();
    }

    /// The queue, unless this process was forked after it was made: then it is the parent's.
    ///
    /// Between a fork and the child's next turn, tasks, destructors and the host run as usual, so
    /// whatever they can reach has to ask for the queue here.
    fn own_queue(&self) -> Option<&Queue> {
        let queue = self.queue.as_ref();
        queue.filter(|_| self.n_forks == fork::count())
    }

    /// Moves all waiters back into `select` and closes the queue, or leaves it to the parent.
    fn close_queue(&mut self) {
        let is_own = self.own_queue().is_some();
        match self.dissolve_queue() {
            // A kqueue is not inherited: its number is closed in the child, or another file's.
            Some(queue) if !is_own => queue.leave_to_parent(),
            queue => drop(queue),
        }
    }

    /// Stops the queue from watching `fd`, unless the queue is the parent's.
    fn unwatch(&self, fd: RawFd) {
        if let Some(queue) = self.own_queue() {
            queue.remove(fd);
        }
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

    /// Waits until something is ready, for at most `wait`. What was is then in
    /// [`ready`](Reactor::ready); the flag says whether the pipe was.
    pub(crate) fn wait(&mut self, pipe: RawFd, wait: Option<Duration>) -> (Waited, bool) {
        self.ready.clear();
        self.events.clear();
        if self.poller == Poller::Auto {
            self.promote(pipe);
        }
        let nobody_young =
            self.reads.is_empty() && self.writes.is_empty() && self.excepts.is_empty();
        match &self.queue {
            Some(_) if nobody_young => self.wait_in_queue(pipe, wait),
            queue => {
                // The pipe is in the queue, if there is one.
                let bell = queue.as_ref().map_or(pipe, Queue::fd);
                let (waited, rung) = self.wait_in_select(bell, wait);
                match (waited, rung, &self.queue) {
                    (Waited::Ready(_), true, Some(_)) => {
                        self.wait_in_queue(pipe, Some(Duration::ZERO))
                    }
                    (Waited::BadFd, _, Some(_)) if !is_open(bell) => {
                        self.give_queue_up();
                        (waited, rung)
                    }
                    _ => (waited, rung),
                }
            }
        }
    }

    /// Rebuilds the sets from the maps, adds `bell`, and waits.
    fn wait_in_select(&mut self, bell: RawFd, wait: Option<Duration>) -> (Waited, bool) {
        let last = |map: &BTreeMap<RawFd, Waiters>| map.last_key_value().map(|(&fd, _)| fd);
        let highest = [last(&self.reads), last(&self.writes), last(&self.excepts)];
        let highest = highest.into_iter().flatten().fold(bell, RawFd::max);
        let sets = &mut self.sets;
        sets.reset(highest);
        sets.read.insert(bell);
        self.reads.keys().for_each(|&fd| sets.read.insert(fd));
        self.writes.keys().for_each(|&fd| sets.write.insert(fd));
        self.excepts.keys().for_each(|&fd| sets.except.insert(fd));
        let waited = sets.wait(wait);
        let ready = &mut self.ready;
        if let Waited::Ready(1..) = waited {
            let from = self.scan_from;
            sets.read
                .for_each_from(from, |fd| ready.push((fd, Direction::Read)));
            sets.write
                .for_each_from(from, |fd| ready.push((fd, Direction::Write)));
            sets.except
                .for_each_from(from, |fd| ready.push((fd, Direction::Except)));
        }
        let rung = sets.read.contains(bell);
        if rung {
            ready.retain(|&entry| entry != (bell, Direction::Read));
        }
        self.scan_from = ready.first().map_or(0, |&(fd, _)| fd.saturating_add(1));
        (waited, rung)
    }

    /// Waits in the kernel's queue, which watches the pipe as well.
    fn wait_in_queue(&mut self, pipe: RawFd, wait: Option<Duration>) -> (Waited, bool) {
        let events = &mut self.events;
        let Some(queue) = &mut self.queue else {
            return (Waited::Ready(0), false);
        };
        let mut rung = false;
        let waited = queue.wait(wait, |event| {
            // No registration has generation 0.
            if event.fd == pipe && event.generation == 0 {
                rung = true;
            } else {
                events.push(event);
            }
        });
        if waited == Waited::BadFd {
            self.give_queue_up();
        }
        (waited, rung)
    }

    /// Somebody has closed the queue's descriptor. Closing it again would hit whoever has the
    /// number now.
    fn give_queue_up(&mut self) {
        std::mem::forget(self.dissolve_queue());
    }

    /// Counts the selects that young descriptors take part in, and tenures those that have paid.
    fn promote(&mut self, pipe: RawFd) {
        let mut candidates = std::mem::take(&mut self.candidates);
        for (&fd, waiters) in self.reads.iter().chain(&self.writes) {
            let Some(Some(source)) = self.sources.get_mut(fd as usize) else {
                continue;
            };
            if let Tenure::Young(age) = &mut source.tenure {
                *age = age.saturating_add(1);
                if *age > RENT && !waiters.level {
                    candidates.push(fd);
                }
            }
        }
        for fd in candidates.drain(..) {
            self.tenure(fd, pipe);
        }
        self.candidates = candidates;
    }

    /// Gives `fd` to the queue, unless somebody waits for it who must stay in `select`.
    fn tenure(&mut self, fd: RawFd, pipe: RawFd) {
        let level = |map: &BTreeMap<RawFd, Waiters>| map.get(&fd).is_some_and(|w| w.level);
        if level(&self.reads) || level(&self.writes) {
            return;
        }
        if self.queue.is_none() {
            self.queue = new_queue(pipe);
            if self.queue.is_none() {
                self.poller = Poller::Select;
            }
        }
        let (Some(queue), Some(Some(source))) = (&self.queue, self.sources.get_mut(fd as usize))
        else {
            return;
        };
        if source.tenure == Tenure::Tenured {
            return;
        }
        // Regular files are refused, and anything at all when the kernel is short of memory.
        source.tenure = match queue.add(fd, source.generation as u32, source.trigger) {
            Ok(()) => Tenure::Tenured,
            Err(_) => Tenure::Refused,
        };
        if source.tenure == Tenure::Tenured {
            source.parked = [self.reads.remove(&fd), self.writes.remove(&fd)];
        }
    }

    /// Takes everybody back into `select`, and returns the queue, to be closed or forgotten.
    fn dissolve_queue(&mut self) -> Option<Queue> {
        for (index, source) in self.sources.iter_mut().enumerate() {
            let Some(source) = source.as_mut().filter(|s| s.tenure == Tenure::Tenured) else {
                continue;
            };
            source.tenure = Tenure::Young(0);
            let fd = index as RawFd;
            let [reads, writes] = std::mem::take(&mut source.parked);
            for (map, waiters) in [(&mut self.reads, reads), (&mut self.writes, writes)] {
                if let Some(waiters) = waiters {
                    match map.entry(fd) {
                        Entry::Vacant(entry) => drop(entry.insert(waiters)),
                        Entry::Occupied(entry) => entry.into_mut().append(waiters),
                    }
                }
            }
        }
        self.queue.take()
    }

    /// What was ready in the last wait, in the order in which it will be served.
    pub(crate) fn ready(&self) -> impl Iterator<Item = (RawFd, Direction)> {
        let queued = self.events.iter().flat_map(|event| {
            let read = event.readable.then_some((event.fd, Direction::Read));
            read.into_iter()
                .chain(event.writable.then_some((event.fd, Direction::Write)))
        });
        self.ready.iter().copied().chain(queued)
    }

    /// Takes the fired interests out of their places and moves their wakers to `woken`.
    pub(crate) fn collect(&mut self, woken: &mut Vec<Waker>) {
        for index in 0..self.ready.len() {
            let (fd, direction) = self.ready[index];
            if let Some(Some(source)) = self.sources.get_mut(fd as usize) {
                source.note_ready(direction as usize);
            }
            take(self.map(direction), fd, woken);
        }
        for index in 0..self.events.len() {
            self.collect_event(self.events[index], woken);
        }
    }

    fn collect_event(&mut self, event: Event, woken: &mut Vec<Waker>) {
        let Some(Some(source)) = self.sources.get_mut(event.fd as usize) else {
            return;
        };
        if source.generation as u32 != event.generation || source.tenure != Tenure::Tenured {
            return;
        }
        source.hung_up |= event.hung_up;
        for (direction, ready) in [event.readable, event.writable].into_iter().enumerate() {
            if !ready {
                continue;
            }
            source.note_ready(direction);
            match source.parked[direction].take() {
                Some(waiters) => waiters.move_to(woken),
                None if source.trigger == Trigger::Edge => {}
                None => {
                    // A listener that nobody accepts from would be reported for ever.
                    source.tenure = Tenure::Young(0);
                    self.unwatch(event.fd);
                    return;
                }
            }
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

/// A queue that watches the pipe; `None` if it cannot be had, and all stay in `select`.
fn new_queue(pipe: RawFd) -> Option<Queue> {
    let queue = Queue::new().ok()?;
    queue.add(pipe, 0, Trigger::Level).ok()?;
    Some(queue)
}
