//! The kernel's queue, and which descriptors are given to it.

use super::source::{Belief, Source, Tenure};
use super::waiters::Arena;
use super::young::Young;
use super::{Direction, Poller, Reactor};
use crate::sys::queue::Queue;
use crate::sys::{Errno, Trigger, fork};
use std::os::fd::RawFd;

/// Number of selects that a descriptor takes part in before it is tenured.
const MAX_SELECTS: u8 = 4;

/// Number of turns until it is tried again to make a queue; doubles up to the maximum.
const MIN_RETRY: u32 = 16;
const MAX_RETRY: u32 = 256;

/// When to try again to make a queue.
#[derive(Debug, Default)]
pub(super) struct QueueRetry {
    /// The delay that is running, and the turn in which it ends.
    pending: Option<(u32, u32)>,
}

impl QueueRetry {
    fn is_due(&self, turn: u32) -> bool {
        // The turn in which it ends is ahead for as long as the distance is small.
        self.pending
            .is_none_or(|(delay, end)| end.wrapping_sub(turn).wrapping_sub(1) >= delay)
    }

    fn postpone(&mut self, turn: u32) {
        let delay = self
            .pending
            .map_or(MIN_RETRY, |(delay, _)| (2 * delay).min(MAX_RETRY));
        self.pending = Some((delay, turn.wrapping_add(delay)));
    }
}

impl Reactor {
    /// Counts the selects that young descriptors take part in, and tenures those that have had
    /// their share.
    pub(super) fn promote(&mut self, pipe: RawFd) {
        // A host that waits for one descriptor pays a system call for every young one.
        let max_selects = if self.host.is_some() { 0 } else { MAX_SELECTS };
        let mut candidates = std::mem::take(&mut self.candidates);
        let reads = self.young[Direction::Read as usize].fds();
        let writes = self.young[Direction::Write as usize].fds();
        for fd in reads.iter().chain(writes.iter()) {
            let Some(source) = self.sources.get_mut(fd) else {
                continue;
            };
            if let Tenure::Young(n_selects) = &mut source.tenure {
                *n_selects = n_selects.saturating_add(1);
                if *n_selects > max_selects {
                    candidates.push(fd);
                }
            }
        }
        for fd in candidates.drain(..) {
            self.tenure(fd, pipe);
        }
        self.candidates = candidates;
    }

    /// Gives `fd` to the queue, unless a task waits for it that must stay in `select`.
    fn tenure(&mut self, fd: RawFd, pipe: RawFd) {
        if self.sources.get(fd).is_some_and(Source::needs_select) {
            return;
        }
        if self.queue.is_none() {
            self.make_queue(pipe);
        }
        let (Some(queue), Some(source)) = (&self.queue, self.sources.get_mut(fd)) else {
            return;
        };
        if source.tenure == Tenure::Tenured {
            return;
        }
        source.tenure = match queue.add(fd, source.generation as u32, source.trigger) {
            Ok(()) => Tenure::Tenured,
            // The kernel is short of memory, or the user may not watch more at present. And of a
            // closed descriptor `select` will tell.
            Err(Errno::ENOMEM | Errno::ENOSPC | Errno::EBADF) => Tenure::Young(0),
            // Regular files, and devices that cannot be watched.
            Err(_) => Tenure::Refused,
        };
        if source.tenure != Tenure::Tenured {
            return;
        }
        let writes = source.ways[Direction::Write as usize].waiting.has_young();
        for (way, young) in source.ways.iter_mut().zip(&mut self.young) {
            if way.waiting.has_young() {
                young.remove(fd);
                self.waiters.park_all(&mut way.waiting);
                self.n_parked += 1;
            }
            if way.is_guess() {
                // If it was wrong, the queue reports the descriptor at once: adding one counts as
                // an edge if it is ready.
                way.belief = Belief::Blocked;
            }
        }
        if writes {
            self.report_room(fd);
        }
    }

    /// Has the queue report room to write, for a task that has just been parked.
    ///
    /// Where that is asked for each time, room that is there already is reported, too. So no edge
    /// can have passed before.
    #[inline]
    pub(super) fn report_room(&mut self, fd: RawFd) {
        if Queue::REPORTS_ROOM_ON_REQUEST {
            self.report_room_once(fd);
        }
    }

    fn report_room_once(&mut self, fd: RawFd) {
        // If the queue is the parent's, the next turn moves all tasks to `select`.
        let (Some(queue), Some(source)) = (self.own_queue(), self.sources.get(fd)) else {
            return;
        };
        if queue.report_room(fd, source.generation as u32).is_ok() {
            return;
        }
        // The kernel is short of memory, or the other end of a pipe has gone, which is an error on
        // OpenBSD. `select` takes the descriptor all the same.
        self.unwatch(fd);
        if let Some(source) = self.sources.get_mut(fd) {
            self.n_parked -= unpark(fd, source, &mut self.young, &mut self.waiters);
        }
    }

    /// Makes a queue that watches the pipe. If it cannot be had, all stay in `select` for a while.
    fn make_queue(&mut self, pipe: RawFd) {
        if !self.queue_retry.is_due(self.turn) {
            return;
        }
        let queue = Queue::new().and_then(|queue| {
            queue.add(pipe, 0, Trigger::Level)?;
            Ok(queue)
        });
        match queue {
            Ok(queue) => {
                self.queue = Some(queue);
                self.queue_retry = QueueRetry::default();
            }
            // This system has none, and never will.
            Err(Errno::ENOSYS) => self.poller = Poller::Select,
            Err(_) => self.queue_retry.postpone(self.turn),
        }
    }

    /// Returns the queue, unless this process was forked after it was made: then it is the
    /// parent's.
    ///
    /// Between a fork and the child's next turn, tasks, destructors and the host run as usual, so
    /// whatever they can reach has to ask for the queue here.
    pub(super) fn own_queue(&self) -> Option<&Queue> {
        let queue = self.queue.as_ref();
        queue.filter(|_| self.n_forks == fork::count())
    }

    /// Stops the queue from watching `fd`, unless the queue is the parent's.
    pub(super) fn unwatch(&self, fd: RawFd) {
        if let Some(queue) = self.own_queue() {
            queue.remove(fd);
        }
    }

    /// Prepares the reactor of a child of `fork` for its first wait, before the wake-up pipe is
    /// renewed.
    pub(crate) fn after_fork(&mut self) {
        self.close_queue();
        self.n_forks = fork::count();
    }

    /// Gives the queue up if other code has closed it, or put something else behind its number.
    pub(crate) fn check_queue(&mut self) {
        let pipe = self.pipe;
        if self
            .queue
            .as_ref()
            .is_some_and(|queue| !queue.is_ours(pipe))
        {
            self.give_queue_up();
        }
    }

    /// Moves all waiters back into `select` and closes the queue, or leaves it to the parent.
    pub(super) fn close_queue(&mut self) {
        let is_own = self.own_queue().is_some();
        match self.dissolve_queue() {
            // A kqueue is not inherited: its number is closed in the child, or another file's.
            Some(queue) if !is_own => queue.leave_to_parent(self.pipe),
            // Closing the number of a queue that is gone would hit whoever has it now.
            Some(queue) if !queue.is_ours(self.pipe) => std::mem::forget(queue),
            queue => drop(queue),
        }
    }

    /// Forgets a queue whose descriptor was closed by other code. Closing it again would hit
    /// whoever has the number now.
    pub(super) fn give_queue_up(&mut self) {
        std::mem::forget(self.dissolve_queue());
    }

    /// Moves all waiters back into `select`, and returns the queue, to be closed or forgotten.
    fn dissolve_queue(&mut self) -> Option<Queue> {
        let (young, waiters) = (&mut self.young, &mut self.waiters);
        self.sources.for_each_mut(|fd, source| {
            if source.tenure == Tenure::Tenured {
                unpark(fd, source, young, waiters);
            }
        });
        self.n_parked = 0;
        if let Some(queue) = self.queue.as_ref().map(Queue::fd) {
            self.leave_host(queue);
        }
        self.queue.take()
    }
}

/// Makes the descriptor of `source` a young one, and has its waiters wait in `select`. Returns in
/// how many directions a task waits for it.
fn unpark(fd: RawFd, source: &mut Source, young: &mut [Young; 3], waiters: &mut Arena) -> usize {
    source.tenure = Tenure::Young(0);
    let mut n_parked = 0;
    for (young, way) in young.iter_mut().zip(&mut source.ways) {
        if way.waiting.has_parked() {
            young.insert(fd);
            waiters.unpark_all(&mut way.waiting);
            n_parked += 1;
        }
    }
    n_parked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_could_not_be_had_is_tried_again_after_a_while_and_at_bounded_intervals() {
        let begin = u32::MAX - 100;
        let (mut retry, mut tries) = (QueueRetry::default(), Vec::new());
        for n in 0..3_000 {
            let turn = begin.wrapping_add(n);
            if retry.is_due(turn) {
                tries.push(n);
                retry.postpone(turn);
            }
        }
        assert_eq!(tries[..6], [0, 16, 48, 112, 240, 496]);
        assert!(tries.windows(2).all(|pair| pair[1] - pair[0] <= MAX_RETRY));
    }
}
