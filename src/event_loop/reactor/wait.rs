//! Waiting for the registered descriptors, and what became of them.

use super::Poller;
use super::source::Tenure;
use super::waiters::Waiters;
use super::{Direction, Reactor, take};
use crate::sys::fd::is_open;
use crate::sys::queue::Queue;
use crate::sys::select::Waited;
use crate::sys::{Event, Trigger};
use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::task::Waker;
use std::time::Duration;

impl Reactor {
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
}
