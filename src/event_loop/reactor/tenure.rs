//! Which descriptors are given to the kernel's queue, and the queue itself.

use super::source::Tenure;
use super::waiters::Waiters;
use super::{Poller, RENT, Reactor};
use crate::sys::Trigger;
use crate::sys::fork;
use crate::sys::queue::Queue;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::RawFd;

impl Reactor {
    /// Prepares the reactor of a child of `fork` for its first wait.
    pub(crate) fn after_fork(&mut self) {
        self.close_queue();
        self.n_forks = fork::count();
    }

    /// The queue, unless this process was forked after it was made: then it is the parent's.
    ///
    /// Between a fork and the child's next turn, tasks, destructors and the host run as usual, so
    /// whatever they can reach has to ask for the queue here.
    pub(super) fn own_queue(&self) -> Option<&Queue> {
        let queue = self.queue.as_ref();
        queue.filter(|_| self.n_forks == fork::count())
    }

    /// Moves all waiters back into `select` and closes the queue, or leaves it to the parent.
    pub(super) fn close_queue(&mut self) {
        let is_own = self.own_queue().is_some();
        match self.dissolve_queue() {
            // A kqueue is not inherited: its number is closed in the child, or another file's.
            Some(queue) if !is_own => queue.leave_to_parent(),
            queue => drop(queue),
        }
    }

    /// Stops the queue from watching `fd`, unless the queue is the parent's.
    pub(super) fn unwatch(&self, fd: RawFd) {
        if let Some(queue) = self.own_queue() {
            queue.remove(fd);
        }
    }

    /// Somebody has closed the queue's descriptor. Closing it again would hit whoever has the
    /// number now.
    pub(super) fn give_queue_up(&mut self) {
        std::mem::forget(self.dissolve_queue());
    }

    /// Counts the selects that young descriptors take part in, and tenures those that have paid.
    pub(super) fn promote(&mut self, pipe: RawFd) {
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
    pub(super) fn dissolve_queue(&mut self) -> Option<Queue> {
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
}

/// A queue that watches the pipe; `None` if it cannot be had, and all stay in `select`.
fn new_queue(pipe: RawFd) -> Option<Queue> {
    let queue = Queue::new().ok()?;
    queue.add(pipe, 0, Trigger::Level).ok()?;
    Some(queue)
}
