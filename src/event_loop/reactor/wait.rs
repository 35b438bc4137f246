//! One wait: the sets are rebuilt, the thread sleeps, and what became ready leaves
//! its place.

use super::source::Tenure;
use super::young::Young;
use super::{Direction, Poller, Reactor};
use crate::sys::fd::is_open;
use crate::sys::queue::Queue;
use crate::sys::select::Waited;
use crate::sys::{Event, Trigger};
use std::os::fd::RawFd;
use std::task::Waker;
use std::time::Duration;

impl Reactor {
    /// Waits until something is ready, for at most `limit`, or less if parked descriptors are to be
    /// looked at before. [`ready`](Reactor::ready) then lists what became ready. Also returns
    /// whether the wake-up pipe was among it.
    pub(crate) fn wait(&mut self, pipe: RawFd, limit: Option<Duration>) -> (Waited, bool) {
        self.turn = self.turn.wrapping_add(1);
        self.pipe = pipe;
        self.ready.clear();
        self.events.clear();
        if self.poller == Poller::Auto && !self.has_no_young() {
            self.promote(pipe);
        }
        let patience = self.patience();
        let is_before = |wait: Option<Duration>, other: Option<Duration>| {
            wait.is_some_and(|wait| other.is_none_or(|other| wait < other))
        };
        let looks_next = is_before(patience, limit);
        let timeout = if looks_next { patience } else { limit };
        let probe = self
            .probe()
            .filter(|&probe| is_before(Some(probe), timeout));
        let (waited, pipe_ready) = self.wait_in_any(pipe, probe.or(timeout));
        let is_quiet = waited == Waited::Ready(0) && !pipe_ready;
        if probe.is_some() && is_quiet {
            self.note_slow();
        } else {
            self.note_wait(looks_next && is_quiet, is_quiet);
        }
        (waited, pipe_ready)
    }

    fn wait_in_any(&mut self, pipe: RawFd, timeout: Option<Duration>) -> (Waited, bool) {
        // The usual case of short programs: no descriptor has lived long enough for a queue.
        let Some(queue) = &self.queue else {
            return self.wait_in_select(pipe, timeout);
        };
        if self.has_no_young() {
            return self.wait_in_queue(pipe, timeout);
        }
        // The pipe is in the queue, whose own descriptor stands for both.
        let queue_fd = queue.fd();
        match self.wait_in_select(queue_fd, timeout) {
            // Only now is the queue asked, and without waiting: it was reported as ready.
            (Waited::Ready(_), true) => self.wait_in_queue(pipe, Some(Duration::ZERO)),
            (Waited::BadFd, is_ready) if !is_open(queue_fd) => {
                self.give_queue_up();
                (Waited::BadFd, is_ready)
            }
            outcome => outcome,
        }
    }

    /// Rebuilds the sets, adds `wake_fd`, and waits. Also returns whether `wake_fd`
    /// is readable.
    fn wait_in_select(&mut self, wake_fd: RawFd, timeout: Option<Duration>) -> (Waited, bool) {
        let [reads, writes, excepts] = self.young.each_ref().map(Young::fds);
        let highest = self.young.iter().filter_map(Young::highest);
        let highest = highest.fold(wake_fd, RawFd::max);
        let sets = &mut self.sets;
        sets.reset(highest);
        sets.read.insert_all(reads);
        sets.read.insert(wake_fd);
        sets.write.insert_all(writes);
        sets.except.insert_all(excepts);
        // They stay in their lists, so that closing one still finds its waiters.
        for rest in &self.resting {
            match rest.direction {
                Direction::Read => sets.read.remove(rest.fd),
                Direction::Write => sets.write.remove(rest.fd),
                Direction::Except => sets.except.remove(rest.fd),
            }
        }
        let waited = sets.wait(timeout);
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
        // The pipe or the queue has no waiters of its own, so it must not be listed with the
        // others.
        let is_ready = sets.read.contains(wake_fd);
        if is_ready {
            ready.retain(|&entry| entry != (wake_fd, Direction::Read));
        }
        // The next scan begins behind the first of this one, so every descriptor comes first in
        // turn.
        self.scan_from = ready.first().map_or(0, |&(fd, _)| fd.saturating_add(1));
        (waited, is_ready)
    }

    /// Waits in the kernel's queue, which watches the pipe as well.
    fn wait_in_queue(&mut self, pipe: RawFd, timeout: Option<Duration>) -> (Waited, bool) {
        let events = &mut self.events;
        let Some(queue) = &mut self.queue else {
            return (Waited::Ready(0), false);
        };
        let mut pipe_ready = false;
        let waited = queue.wait(timeout, |event| {
            // No registration has generation 0.
            if event.fd == pipe && event.generation == 0 {
                pipe_ready = true;
            } else {
                events.push(event);
            }
        });
        if waited == Waited::BadFd {
            self.give_queue_up();
        }
        (waited, pipe_ready)
    }

    /// Lists what was ready in the last wait, in the order in which it will be served.
    pub(crate) fn ready(&self) -> impl Iterator<Item = (RawFd, Direction)> {
        let queued = self.events.iter().flat_map(|event| {
            let read = event.readable.then_some((event.fd, Direction::Read));
            read.into_iter()
                .chain(event.writable.then_some((event.fd, Direction::Write)))
        });
        self.ready.iter().copied().chain(queued)
    }

    /// Returns the descriptors that a host would have to wait for in `direction` instead of the
    /// loop. The queue's own descriptor stands for all that is tenured.
    pub(crate) fn interests(&self, direction: Direction) -> Vec<RawFd> {
        let queue = self.own_queue().filter(|_| direction == Direction::Read);
        let young = self.young_interests(direction);
        young.chain(queue.map(Queue::fd)).collect()
    }

    /// Returns the descriptors that a task waits for in `select`, but for those that are left out.
    pub(super) fn young_interests(&self, direction: Direction) -> impl Iterator<Item = RawFd> {
        let is_resting = move |fd: RawFd| {
            let mut resting = self.resting.iter();
            resting.any(|rest| (rest.fd, rest.direction) == (fd, direction))
        };
        let fds = self.young[direction as usize].fds().iter();
        fds.filter(move |&fd| !is_resting(fd))
    }

    /// Takes the fired interests out of their places and moves their wakers to `woken`.
    pub(crate) fn collect(&mut self, woken: &mut Vec<Waker>) {
        for index in 0..self.ready.len() {
            let (fd, direction) = self.ready[index];
            let Some(source) = self.sources.get_mut(fd) else {
                continue;
            };
            // Noted even if no task waits: the next operation then makes its call at once.
            source.note_ready(direction as usize);
            let waiting = source.waiting_mut(direction);
            if waiting.has_young() {
                self.young[direction as usize].remove(fd);
                self.waiters.take_young(waiting, woken);
            }
        }
        let mut has_stale = false;
        for index in 0..self.events.len() {
            has_stale |= !self.collect_event(self.events[index], woken);
        }
        if has_stale {
            // The descriptor of an event was closed without us, and its open file lives on in a
            // duplicate or in another process. The kernel goes on watching that file, perhaps
            // level-triggered, and there is no number left by which it could be told to stop.
            self.close_queue();
        }
    }

    /// Serves one event of the queue. Returns false if no tenured descriptor belongs to it.
    fn collect_event(&mut self, event: Event, woken: &mut Vec<Waker>) -> bool {
        let Some(source) = self.sources.get_mut(event.fd) else {
            return false;
        };
        if source.generation as u32 != event.generation || source.tenure != Tenure::Tenured {
            return false;
        }
        source.hung_up |= event.hung_up;
        source.is_urgent |= event.urgent;
        for (direction, is_ready) in [event.readable, event.writable].into_iter().enumerate() {
            if !is_ready {
                continue;
            }
            source.note_ready(direction);
            let waiting = &mut source.ways[direction].waiting;
            if waiting.has_parked() {
                self.n_parked -= 1;
                self.waiters.take_parked(waiting, woken);
            } else if source.trigger == Trigger::Level {
                // A listener that no task accepts from would be reported again and again.
                source.tenure = Tenure::Young(0);
                self.unwatch(event.fd);
                return true;
            }
        }
        true
    }
}
