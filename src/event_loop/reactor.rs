//! The reactor: which task waits for which descriptor, to read or to write.
//!
//! Each registered descriptor has lists of waiting tasks, one for each direction. A set of all
//! descriptors whose list is not empty is kept for each direction, and copied into the `fd_set` for
//! every wait. Knows no task, no timer and no log, and is told the time.
//!
//! # Young and tenured
//! `select` costs a fifth of a microsecond for every descriptor in its sets, whatever is ready; the
//! kernel's own queue (epoll, kqueue) costs nothing for a descriptor that it watches, but a system
//! call to have it watched. Most connections live briefly, a few live long and mostly idle. So
//! every descriptor is born **young**: it is in the sets while a task waits for it. One that has
//! taken part in a few selects has paid as much as the queue costs, and is **tenured**: the queue
//! watches it, edge-triggered in both directions, and its waiters are parked. The queue's own
//! descriptor is one more member of the read set; when no young descriptor is left, the loop waits
//! in the queue directly.
//!
//! An edge says that something has changed, so only a task that has seen the state before may be
//! parked: one whose call returned `WouldBlock`, or took less than was offered. A plain
//! `readable()` waits in `select`, and so do reads after the peer has hung up, when one edge may
//! have stood for data and the end, and the first calls that find nothing although an edge came.
//! Listeners are watched level-triggered, so that one `accept` per wait is enough.
//!
//! # What is in which file
//! - [`source`]: what is known of one descriptor, with diagrams of its states
//! - `table`: sources by number
//! - `interests`: who waits for what, in `select` and parked
//! - `young`: which descriptors are in the sets of `select`
//! - [`waiters`]: lists of waiting tasks, and how they are kept from growing
//! - `wait`: one wait, and which tasks it wakes
//! - `tenure`: the kernel's queue, and which descriptors are in it
//! - `order`: in which order ready descriptors are served, if the program has set a seed
//! - `looks`: looks at parked descriptors, for wrong guesses and for descriptors that were closed
//! - `host`: one descriptor for the loop of another program
//! - `backoff`: descriptors that are ready and yet have nothing to give
//! - `survey`: who waits for what, for people who look into the loop
//!
//! **Invariants.** An interest is one-shot: it leaves its place before its waker runs, so unread
//! data cannot spin the loop. The directions never touch each other. Several tasks may wait for
//! one descriptor and direction. A token carries the generation of its registration, so an
//! operation or an event through an old one finds nothing, whoever has the number now. Interests
//! exist only for registered descriptors, and registrations and tenures end before the descriptor
//! is closed.

mod backoff;
mod error;
mod fd_counts;
mod host;
mod interests;
mod kinds;
mod looks;
mod order;
mod source;
#[cfg(feature = "dump")]
mod survey;
mod table;
mod tenure;
#[cfg(test)]
mod tests;
mod wait;
mod waiters;
mod young;

pub use error::RegisterError;
use kinds::Added;
pub use kinds::Poller;
pub(crate) use kinds::{Advice, ClosedFd, Direction, Owner, Token};
pub(crate) use waiters::{Arena, List, WaitKey};

use crate::sys::queue::Queue;
use crate::sys::select::Sets;
use crate::sys::unix::SELECT_LIMIT;
use crate::sys::{Event, Trigger, fork};
use backoff::Rest;
use host::Host;
use looks::Looks;
use source::{Belief, MAX_FALSE, MAX_FALSE_EDGES, MAX_FALSE_LOOKS, Source, Tenure};
#[cfg(feature = "dump")]
use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::panic::Location;
use std::task::Waker;
#[cfg(feature = "dump")]
use survey::Label;
use table::Table;
use tenure::QueueRetry;
use waiters::Purges;
use young::Young;

/// All registrations and interests of one loop.
#[derive(Debug)]
pub(crate) struct Reactor {
    /// The descriptors for which a task waits in `select`, by direction.
    young: [Young; 3],
    /// The entries of the lists in the sources.
    waiters: Arena,
    purges: Purges,
    /// What is known of each registered descriptor.
    sources: Table,
    /// What descriptors stand for, by number and with the generation of the registration, where
    /// the kernel cannot tell. Only for dumps; nearly always empty.
    #[cfg(feature = "dump")]
    labels: BTreeMap<RawFd, Label>,
    next_generation: u64,
    poller: Poller,
    /// The kernel's queue, once a descriptor is tenured. It watches the wake-up pipe as well.
    queue: Option<Queue>,
    /// What the loop of another program waits for, once it has asked for one descriptor.
    host: Option<Host>,
    /// Number of such descriptors made so far, by which the host tells them apart.
    n_hosts: u64,
    /// When to try again to make a queue, after it could not be had.
    queue_retry: QueueRetry,
    /// Number of directions of tenured descriptors that a task waits for.
    n_parked: usize,
    /// When to look at the parked descriptors.
    looks: Looks,
    /// Descriptors that are left out of the sets for a moment.
    resting: Vec<Rest>,
    /// The sets of `select`, kept from turn to turn so that none allocates.
    sets: Sets,
    /// Where the next scan of the sets begins: low numbers should not always be served first.
    scan_from: RawFd,
    /// What `select` reported in the last wait, and what the queue reported.
    ready: Vec<(RawFd, Direction)>,
    events: Vec<Event>,
    /// Scratch memory of `promote`, kept from turn to turn.
    candidates: Vec<RawFd>,
    /// Number of waits so far. Wraps around.
    turn: u32,
    /// The wake-up pipe of the last wait.
    pipe: RawFd,
    /// The first descriptor number that `select` cannot take.
    limit: Option<usize>,
    /// Number of forks that had been counted when the queue was made.
    n_forks: usize,
}

impl Reactor {
    pub(crate) fn new() -> Reactor {
        Reactor {
            young: Default::default(),
            waiters: Arena::new(),
            purges: Purges::default(),
            sources: Table::default(),
            #[cfg(feature = "dump")]
            labels: BTreeMap::new(),
            next_generation: 1,
            poller: Poller::Auto,
            queue: None,
            host: None,
            n_hosts: 0,
            queue_retry: QueueRetry::default(),
            n_parked: 0,
            looks: Looks::default(),
            resting: Vec::new(),
            sets: Sets::default(),
            scan_from: 0,
            ready: Vec::new(),
            events: Vec::new(),
            candidates: Vec::new(),
            turn: 0,
            pipe: -1,
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
    /// the number is a leftover: it is ended, and its waiters are returned to be woken. Without a
    /// `trigger`, the descriptor is never given to the kernel's queue.
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
        let mut leftover = Vec::new();
        if self.sources.get(fd).is_some() {
            if !owned {
                return Err(RegisterError::AlreadyRegistered { fd });
            }
            // The queue has forgotten the old descriptor by itself when it was closed, unless the
            // open file lives on in a duplicate. Then its next event is noticed as stale.
            self.take_all(fd, &mut leftover);
            self.purges.forget(fd);
            self.resting.retain(|rest| rest.fd != fd);
        }
        let generation = self.next_generation;
        self.next_generation += 1;
        self.sources
            .insert(fd, Source::new(generation, place, trigger));
        Ok((Token { fd, generation }, leftover))
    }

    /// Ends a registration. The waiters are returned, to be woken: the kernel will not do it.
    pub(crate) fn deregister(&mut self, token: Token, wakers: &mut Vec<Waker>) {
        let Some(source) = self.source(token) else {
            return;
        };
        if source.tenure == Tenure::Tenured {
            self.unwatch(token.fd);
        }
        self.leave_host(token.fd);
        self.take_all(token.fd, wakers);
        self.purges.forget(token.fd);
        // Nearly always empty.
        if !self.resting.is_empty() {
            self.resting.retain(|rest| rest.fd != token.fd);
        }
        self.sources.remove(token.fd);
        #[cfg(feature = "dump")]
        if !self.labels.is_empty() {
            self.labels.remove(&token.fd);
        }
    }

    /// Returns what an operation should do.
    #[inline]
    pub(crate) fn advice(&mut self, token: Token, direction: Direction) -> Advice {
        let Some(source) = self.source_mut(token).filter(|source| !source.is_dead) else {
            return Advice::Dead;
        };
        let is_tenured = source.tenure == Tenure::Tenured;
        let Some(way) = source.ways.get_mut(direction as usize) else {
            return Advice::Try;
        };
        if way.belief != Belief::Unknown {
            return Advice::Wait;
        }
        let was_short = std::mem::take(&mut way.was_short);
        if std::mem::take(&mut way.is_hinted) {
            match way.n_false {
                0 => Advice::TryHinted,
                _ => Advice::TryDoubted,
            }
        } else if is_tenured && !was_short {
            Advice::TryTwice
        } else {
            // `select` goes by the state. And after a call that took less than was offered, one
            // `WouldBlock` is what was to be expected: what has come since has made an edge.
            Advice::Try
        }
    }

    /// Notes that the next call would probably block, because the last call took less than was
    /// offered, or was the first to say `WouldBlock`. Returns whether the next call waits
    /// therefore.
    pub(crate) fn guess_blocked(&mut self, token: Token, direction: Direction) -> bool {
        let Some(source) = self.source_mut(token) else {
            return false;
        };
        // Behind the data of a peer that has hung up there is the end, without a further edge.
        let end_may_follow = direction == Direction::Read && source.hung_up;
        if source.is_urgent || end_may_follow {
            return false;
        }
        let is_edge = source.tenure == Tenure::Tenured && source.trigger == Trigger::Edge;
        let Some(way) = source.ways.get_mut(direction as usize) else {
            return false;
        };
        match is_edge {
            true => way.guess(),
            false => way.belief = Belief::Blocked,
        }
        way.belief != Belief::Unknown
    }

    /// Notes that the next call has to wait until the descriptor is ready.
    pub(crate) fn set_blocked(&mut self, token: Token, direction: Direction) {
        let way = self.source_mut(token);
        if let Some(way) = way.and_then(|source| source.ways.get_mut(direction as usize)) {
            way.belief = Belief::Blocked;
        }
    }

    /// Notes that the call said `WouldBlock`; `was_ready` if the descriptor had become ready before
    /// it. Returns whether the task has to wait in `select`.
    pub(crate) fn note_would_block(
        &mut self,
        token: Token,
        direction: Direction,
        was_ready: bool,
    ) -> bool {
        let Some(source) = self.source_mut(token) else {
            return false;
        };
        // What watches a listener is level-triggered, and reports it again for as long as there is
        // a connection. That another process was faster is no reason to hold back.
        let is_level = source.trigger == Trigger::Level;
        let is_tenured = source.tenure == Tenure::Tenured;
        let Some(way) = source.ways.get_mut(direction as usize) else {
            return true;
        };
        way.belief = Belief::Blocked;
        if !was_ready {
            // The call before this one had something to take.
            way.n_false = 0;
            return false;
        }
        if is_level && is_tenured {
            return false;
        }
        way.n_false = way.n_false.saturating_add(1);
        if is_tenured && (MAX_FALSE..MAX_FALSE_LOOKS).contains(&way.n_false) {
            // From here on the task waits for the next edge. Should one have been missed, a few
            // looks may find it.
            way.belief = Belief::Guessed;
        }
        // The first times an edge may have passed already, and only `select` can tell. Much later,
        // edges come without end, as a datagram socket tells of room after each refused write; then
        // a pause in `select` keeps the loop from spinning.
        way.n_false < MAX_FALSE || way.n_false > MAX_FALSE_EDGES
    }

    /// Notes that a call has succeeded after the descriptor was ready in vain several times.
    pub(crate) fn note_success(&mut self, token: Token, direction: Direction) {
        let way = self.source_mut(token);
        if let Some(way) = way.and_then(|source| source.ways.get_mut(direction as usize)) {
            way.n_false = 0;
        }
    }

    fn source(&self, token: Token) -> Option<&Source> {
        let source = self.sources.get(token.fd)?;
        (source.generation == token.generation).then_some(source)
    }

    #[inline]
    fn source_mut(&mut self, token: Token) -> Option<&mut Source> {
        let source = self.sources.get_mut(token.fd)?;
        (source.generation == token.generation).then_some(source)
    }
}

impl Drop for Reactor {
    /// A thread may end in a child whose loop has not turned since the fork.
    fn drop(&mut self) {
        self.close_queue();
    }
}
