//! Who waits for what, for dumps and metrics. Nothing here is part of a turn.

use super::source::Tenure;
use super::waiters::Parked;
use super::{Direction, Reactor};
use std::borrow::Cow;
use std::os::fd::RawFd;
use std::task::Waker;

/// Numbers of registered descriptors.
#[derive(Debug, Default)]
pub(crate) struct FdCounts {
    pub(crate) n_young: usize,
    pub(crate) n_tenured: usize,
}

impl Reactor {
    /// Says what the registered descriptor `fd` stands for, where the kernel knows only a pipe.
    pub(crate) fn set_label(&mut self, fd: RawFd, label: impl Into<Cow<'static, str>>) {
        if let Some(source) = self.sources.get(fd) {
            self.labels.insert(fd, (source.generation, label.into()));
        }
    }

    /// Returns what `fd` stands for, if that was said.
    pub(crate) fn label(&self, fd: RawFd) -> Option<&str> {
        let (generation, label) = self.labels.get(&fd)?;
        // A leftover registration is replaced without being deregistered.
        let is_current = self.sources.get(fd)?.generation == *generation;
        is_current.then_some(label)
    }

    /// Calls `f` with each waker that waits for a descriptor. `f` must not run foreign code.
    pub(crate) fn each_waiter(&self, mut f: impl FnMut(RawFd, Direction, &Waker)) {
        let maps = [&self.reads, &self.writes, &self.excepts];
        for (fd, source) in self.sources.iter() {
            for (direction, map) in Direction::ALL.into_iter().zip(maps) {
                let parked = source.ways.get(direction as usize).map(|way| &way.parked);
                let first = parked.and_then(Parked::first_waker);
                let lists = map.get(&fd).into_iter().chain(parked.map(Parked::rest));
                let others = lists.flat_map(|list| self.waiters.wakers(list));
                let wakers = first.into_iter().chain(others);
                wakers.for_each(|waker| f(fd, direction, waker));
            }
        }
    }

    /// Counts the registered descriptors.
    pub(crate) fn n_fds(&self) -> FdCounts {
        let mut counts = FdCounts::default();
        for (_, source) in self.sources.iter() {
            match source.tenure {
                Tenure::Tenured => counts.n_tenured += 1,
                Tenure::Young(_) | Tenure::Refused => counts.n_young += 1,
            }
        }
        counts
    }
}
