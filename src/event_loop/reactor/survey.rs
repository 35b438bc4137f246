//! Who waits for what, for dumps. Nothing here is part of a turn.

use super::{Direction, Reactor};
use crate::event_loop::signallers::Signallers;
#[cfg(feature = "signal")]
use std::borrow::Cow;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::task::Waker;

/// What a registered descriptor stands for.
#[derive(Debug)]
pub(super) struct Label {
    /// Number of the registration, so that a label of an earlier owner is not shown.
    generation: u64,
    meaning: Meaning,
}

#[derive(Debug)]
enum Meaning {
    #[cfg(feature = "signal")]
    Text(Cow<'static, str>),
    /// The descriptor of an event.
    Event(Arc<Signallers>),
}

impl Reactor {
    /// Says what the registered descriptor `fd` stands for, where the kernel knows only a pipe.
    #[cfg(feature = "signal")]
    pub(crate) fn set_label(&mut self, fd: RawFd, label: impl Into<Cow<'static, str>>) {
        self.insert_label(fd, Meaning::Text(label.into()));
    }

    /// Says that the registered descriptor `fd` is that of an event, which these can signal.
    pub(crate) fn set_event(&mut self, fd: RawFd, signallers: Arc<Signallers>) {
        self.insert_label(fd, Meaning::Event(signallers));
    }

    fn insert_label(&mut self, fd: RawFd, meaning: Meaning) {
        if let Some(source) = self.sources.get(fd) {
            let generation = source.generation;
            self.labels.insert(
                fd,
                Label {
                    generation,
                    meaning,
                },
            );
        }
    }

    /// Returns what `fd` stands for, if that was said.
    pub(crate) fn label(&self, fd: RawFd) -> Option<&str> {
        match self.meaning(fd)? {
            #[cfg(feature = "signal")]
            Meaning::Text(label) => Some(label),
            Meaning::Event(_) => None,
        }
    }

    /// Returns what can signal the event whose descriptor is `fd`, if it is one.
    pub(crate) fn signallers(&self, fd: RawFd) -> Option<&Signallers> {
        match self.meaning(fd)? {
            Meaning::Event(signallers) => Some(signallers),
            #[cfg(feature = "signal")]
            Meaning::Text(_) => None,
        }
    }

    fn meaning(&self, fd: RawFd) -> Option<&Meaning> {
        let label = self.labels.get(&fd)?;
        // A leftover registration is replaced without being deregistered.
        let is_current = self.sources.get(fd)?.generation == label.generation;
        is_current.then_some(&label.meaning)
    }

    /// Returns true if all that tasks wait for in this table are events that only a task of this
    /// thread could signal; also if they wait for nothing.
    pub(crate) fn waits_for_dead_events_only(&self) -> bool {
        let (young, n_parked) = self.n_interests();
        let n_awaited = young.iter().sum::<usize>() + n_parked;
        // Without a walk through all descriptors, which a server would have to pay for in vain.
        if n_awaited > self.labels.len() {
            return false;
        }
        let mut are_dead = true;
        if n_awaited > 0 {
            self.each_waiter(|fd, _, _| {
                are_dead &= self.signallers(fd).is_some_and(Signallers::are_gone);
            });
        }
        are_dead
    }

    /// Calls `f` with each waker that waits for a descriptor. `f` must not run foreign code.
    pub(crate) fn each_waiter(&self, mut f: impl FnMut(RawFd, Direction, &Waker)) {
        for (fd, source) in self.sources.iter() {
            for direction in Direction::ALL {
                let Some(waiting) = source.waiting(direction) else {
                    continue;
                };
                let lists = waiting.lists().into_iter();
                let others = lists.flat_map(|list| self.waiters.wakers(list));
                let wakers = waiting.first_waker().into_iter().chain(others);
                wakers.for_each(|waker| f(fd, direction, waker));
            }
        }
    }
}
