//! The reactor: which task waits for which descriptor, to read or to write.
//!
//! Two maps from descriptor to wakers, one for each direction, and a small third for exceptional
//! conditions; the `fd_set`s are rebuilt from them for every wait. Knows no task, no timer, no
//! clock, no log.
//!
//! **Invariants.** An interest is one-shot: it leaves its map before its waker runs, so unread data
//! cannot spin the loop. The directions never touch each other. Several tasks may wait for the same
//! descriptor and direction. A token carries the generation of its registration, so an operation
//! through an old one finds nothing, whoever has the number now. Interests exist only for
//! registered descriptors, and registrations end before the descriptor is closed.

use crate::sys::Errno;
use crate::sys::fd::is_open;
use crate::sys::fd_set;
use crate::sys::select::{Sets, Waited};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::panic::Location;
use std::task::Waker;
use std::time::Duration;

/// What a task waits for on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
    /// Urgent data on a socket, packet mode of a pty.
    Except,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Read => "to read",
            Direction::Write => "to write",
            Direction::Except => "exceptional",
        })
    }
}

/// One registration of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) fd: RawFd,
    generation: u64,
}

/// Why a descriptor could not be registered. Comes inside an [`io::Error`]; see
/// [`AsyncFd::new`](crate::AsyncFd::new).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// The number names no open descriptor (`EBADF`).
    BadFd {
        /// The number.
        fd: RawFd,
    },
    /// Another `AsyncFd` or socket of this thread has this descriptor already (`EEXIST`). Many tasks
    /// may wait through one owner, but there are not two owners.
    AlreadyRegistered {
        /// The descriptor.
        fd: RawFd,
    },
    /// This system's `select` takes no descriptor with so high a number.
    OverSelectLimit {
        /// The descriptor.
        fd: RawFd,
        /// The first number that is too high.
        limit: usize,
    },
    /// The thread is ending, and its loop has already been torn down.
    ThreadEnded,
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot register ")?;
        match self {
            RegisterError::BadFd { fd } => {
                let errno = Errno::EBADF as i32;
                write!(f, "descriptor {fd}: it is not open (EBADF, errno {errno})")
            }
            RegisterError::AlreadyRegistered { fd } => {
                let errno = Errno::EEXIST as i32;
                write!(
                    f,
                    "descriptor {fd}: it is registered already (EEXIST, errno {errno})"
                )
            }
            RegisterError::OverSelectLimit { fd, limit } => {
                write!(f, "descriptor {fd}: select on this system stops at {limit}")
            }
            RegisterError::ThreadEnded => f.write_str("a descriptor: this thread is ending"),
        }
    }
}

impl std::error::Error for RegisterError {}

impl From<RegisterError> for io::Error {
    fn from(error: RegisterError) -> io::Error {
        let kind = match error {
            RegisterError::AlreadyRegistered { .. } => io::ErrorKind::AlreadyExists,
            RegisterError::BadFd { .. } => io::ErrorKind::InvalidInput,
            RegisterError::OverSelectLimit { .. } | RegisterError::ThreadEnded => {
                io::ErrorKind::Unsupported
            }
        };
        io::Error::new(kind, error)
    }
}

/// The wakers that wait for one descriptor and direction; nearly always one.
#[derive(Debug)]
struct Waiters {
    first: Waker,
    more: Vec<Waker>,
}

/// So many tasks may wait in one place before the oldest are woken to ask again. It bounds what a
/// future can leave behind that is polled with a new waker each time.
const MOST_WAITERS: usize = 64;

/// What the reactor knows of a registered descriptor.
#[derive(Debug)]
struct Source {
    generation: u64,
    /// Where the user registered it, for the log.
    place: &'static Location<'static>,
    /// It turned out to be closed; every operation through this registration fails.
    dead: bool,
    /// By direction: the last call would have waited, or took less than was offered. The next
    /// waits for `select` before it asks the system again.
    blocked: [bool; 2],
    /// By direction: how often it has been ready.
    n_ready: [u32; 3],
}

/// What an operation through a token should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Make the call.
    Try,
    /// Wait first: the call would.
    Wait,
    /// Fail with EBADF.
    Dead,
}

/// A descriptor that broke the wait.
#[derive(Debug)]
pub(crate) struct Victim {
    pub(crate) fd: RawFd,
    pub(crate) place: &'static Location<'static>,
    pub(crate) waiters: Vec<Waker>,
}

/// All registrations and interests of one loop.
#[derive(Debug)]
pub(crate) struct Reactor {
    reads: BTreeMap<RawFd, Waiters>,
    writes: BTreeMap<RawFd, Waiters>,
    excepts: BTreeMap<RawFd, Waiters>,
    /// By descriptor number.
    sources: Vec<Option<Source>>,
    next_generation: u64,
    sets: Sets,
    /// Where the next scan begins: low numbers shall not always be served first.
    scan_from: RawFd,
    /// What was ready in the last wait.
    ready: Vec<(RawFd, Direction)>,
    limit: Option<usize>,
}

impl Reactor {
    pub(crate) fn new() -> Reactor {
        Reactor {
            reads: BTreeMap::new(),
            writes: BTreeMap::new(),
            excepts: BTreeMap::new(),
            sources: Vec::new(),
            next_generation: 1,
            sets: Sets::default(),
            scan_from: 0,
            ready: Vec::new(),
            limit: fd_set::LIMIT,
        }
    }

    /// Registers `fd`. With `evict`, the caller owns the descriptor, so an earlier registration
    /// of the same number is a leftover: it is ended, and its waiters are returned to be woken.
    pub(crate) fn register(
        &mut self,
        fd: RawFd,
        evict: bool,
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
            if !evict {
                return Err(RegisterError::AlreadyRegistered { fd });
            }
            self.take_all(fd, &mut leftover);
        }
        let generation = self.next_generation;
        self.next_generation += 1;
        self.sources[index] = Some(Source {
            generation,
            place,
            dead: false,
            blocked: [false; 2],
            n_ready: [0; 3],
        });
        Ok((Token { fd, generation }, leftover))
    }

    /// Ends a registration. The waiters are returned, to be woken: the kernel will not do it.
    pub(crate) fn deregister(&mut self, token: Token, waiters: &mut Vec<Waker>) {
        if self.source(token).is_none() {
            return;
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
    pub(crate) fn advice(&self, token: Token, direction: Direction) -> Advice {
        match self.source(token) {
            None | Some(Source { dead: true, .. }) => Advice::Dead,
            Some(source) => match source.blocked.get(direction as usize) {
                Some(true) => Advice::Wait,
                _ => Advice::Try,
            },
        }
    }

    /// Notes that the next operation would have to wait.
    pub(crate) fn set_blocked(&mut self, token: Token, direction: Direction) {
        if let Some(source) = self.source_mut(token) {
            if let Some(blocked) = source.blocked.get_mut(direction as usize) {
                *blocked = true;
            }
        }
    }

    /// How often the descriptor has been ready; `None` if the registration has ended or is dead.
    pub(crate) fn n_ready(&self, token: Token, direction: Direction) -> Option<u32> {
        let source = self.source(token).filter(|source| !source.dead)?;
        Some(source.n_ready[direction as usize])
    }

    /// Registers interest: `waker` is woken once, when the descriptor is ready, closed, or no
    /// longer registered. What is displaced or turned away is returned, to be woken.
    pub(crate) fn add(&mut self, token: Token, direction: Direction, waker: Waker) -> Vec<Waker> {
        if self.source(token).is_none_or(|source| source.dead) {
            return vec![waker];
        }
        let waiters = match self.map(direction).entry(token.fd) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Waiters {
                    first: waker,
                    more: Vec::new(),
                });
                return Vec::new();
            }
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
        };
        waiters.more.push(waker);
        if waiters.more.len() < MOST_WAITERS {
            return Vec::new();
        }
        let newest = waiters.more.pop().expect("a waker was just pushed");
        let mut displaced = std::mem::take(&mut waiters.more);
        displaced.push(std::mem::replace(&mut waiters.first, newest));
        displaced
    }

    /// Whether `waker` already waits there.
    pub(crate) fn knows(&self, token: Token, direction: Direction, waker: &Waker) -> bool {
        let map = match direction {
            Direction::Read => &self.reads,
            Direction::Write => &self.writes,
            Direction::Except => &self.excepts,
        };
        map.get(&token.fd).is_some_and(|waiters| {
            waiters.first.will_wake(waker) || waiters.more.iter().any(|w| w.will_wake(waker))
        })
    }

    /// How many descriptors are waited for, by direction.
    pub(crate) fn n_interests(&self) -> [usize; 3] {
        [self.reads.len(), self.writes.len(), self.excepts.len()]
    }

    /// The descriptors that are waited for in `direction`, lowest first.
    pub(crate) fn interests(&self, direction: Direction) -> Vec<RawFd> {
        match direction {
            Direction::Read => self.reads.keys().copied().collect(),
            Direction::Write => self.writes.keys().copied().collect(),
            Direction::Except => self.excepts.keys().copied().collect(),
        }
    }

    /// Rebuilds the sets from the maps, adds `pipe`, and waits. What was ready is in
    /// [`ready`](Reactor::ready) afterwards; the flag says whether the pipe was.
    pub(crate) fn wait(&mut self, pipe: RawFd, wait: Option<Duration>) -> (Waited, bool) {
        let last = |map: &BTreeMap<RawFd, Waiters>| map.last_key_value().map(|(&fd, _)| fd);
        let highest = [last(&self.reads), last(&self.writes), last(&self.excepts)];
        let highest = highest.into_iter().flatten().fold(pipe, RawFd::max);
        let sets = &mut self.sets;
        sets.reset(highest);
        sets.read.insert(pipe);
        self.reads.keys().for_each(|&fd| sets.read.insert(fd));
        self.writes.keys().for_each(|&fd| sets.write.insert(fd));
        self.excepts.keys().for_each(|&fd| sets.except.insert(fd));
        let waited = sets.wait(wait);
        let ready = &mut self.ready;
        ready.clear();
        if let Waited::Ready(1..) = waited {
            let from = self.scan_from;
            sets.read
                .for_each_from(from, |fd| ready.push((fd, Direction::Read)));
            sets.write
                .for_each_from(from, |fd| ready.push((fd, Direction::Write)));
            sets.except
                .for_each_from(from, |fd| ready.push((fd, Direction::Except)));
        }
        let rung = sets.read.contains(pipe);
        if rung {
            ready.retain(|&entry| entry != (pipe, Direction::Read));
        }
        self.scan_from = ready.first().map_or(0, |&(fd, _)| fd.saturating_add(1));
        (waited, rung)
    }

    /// What was ready in the last wait, in the order in which it will be served.
    pub(crate) fn ready(&self) -> &[(RawFd, Direction)] {
        &self.ready
    }

    /// Takes the fired interests out of their maps and moves their wakers to `woken`.
    pub(crate) fn collect(&mut self, woken: &mut Vec<Waker>) {
        for index in 0..self.ready.len() {
            let (fd, direction) = self.ready[index];
            if let Some(Some(source)) = self.sources.get_mut(fd as usize) {
                source.n_ready[direction as usize] =
                    source.n_ready[direction as usize].wrapping_add(1);
                if let Some(blocked) = source.blocked.get_mut(direction as usize) {
                    *blocked = false;
                }
            }
            take(self.map(direction), fd, woken);
        }
        self.ready.clear();
    }

    /// After EBADF: finds the descriptors that are no longer open, marks their registrations dead,
    /// and takes their waiters.
    pub(crate) fn find_victims(&mut self) -> Vec<Victim> {
        let mut fds: Vec<RawFd> = self.reads.keys().copied().collect();
        fds.extend(self.writes.keys().chain(self.excepts.keys()));
        fds.sort_unstable();
        fds.dedup();
        let mut victims = Vec::new();
        for fd in fds.into_iter().filter(|&fd| !is_open(fd)) {
            let mut waiters = Vec::new();
            self.take_all(fd, &mut waiters);
            if let Some(Some(source)) = self.sources.get_mut(fd as usize) {
                source.dead = true;
                victims.push(Victim {
                    fd,
                    place: source.place,
                    waiters,
                });
            }
        }
        victims
    }

    /// Everybody who waits for anything, for the end of the loop.
    pub(crate) fn drain(&mut self) -> Vec<Waker> {
        let mut waiters = Vec::new();
        for direction in [Direction::Read, Direction::Write, Direction::Except] {
            for (_, entry) in std::mem::take(self.map(direction)) {
                waiters.push(entry.first);
                waiters.extend(entry.more);
            }
        }
        waiters
    }

    fn take_all(&mut self, fd: RawFd, waiters: &mut Vec<Waker>) {
        for direction in [Direction::Read, Direction::Write, Direction::Except] {
            take(self.map(direction), fd, waiters);
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

fn take(map: &mut BTreeMap<RawFd, Waiters>, fd: RawFd, waiters: &mut Vec<Waker>) {
    if let Some(entry) = map.remove(&fd) {
        waiters.push(entry.first);
        waiters.extend(entry.more);
    }
}
