//! One descriptor for the loop of another program, in place of the lists of `interests`.
//!
//! It is a queue of its own, level-triggered, whose members are what the lists would name: the
//! wake-up pipe or the kernel's queue, the young descriptors, and a timer for the next deadline. It
//! only tells the host when to turn the loop; the turn itself asks the kernel as always.
//!
//! **Invariant.** Whatever would end a wait of the loop makes the descriptor readable, from one
//! call of [`Reactor::update_host`] to the next change by this thread. A member is taken out before
//! it is closed: under its number the kernel could not be told to forget it afterwards.

use super::{Direction, Poller, Reactor};
use crate::event_loop::clock::Moment;
use crate::sys::host_queue::{HostQueue, Ways};
use crate::sys::queue::Queue;
use crate::sys::{Errno, fork};
use std::collections::BTreeMap;
use std::mem;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

/// The descriptor, and what is behind it.
#[derive(Debug)]
pub(super) struct Host {
    /// The host has a share, so that the number stays ours for as long as the host may use it.
    queue: Arc<HostQueue>,
    /// The members by number, with the generation of their registration; 0 for the pipe and the
    /// kernel's queue.
    members: BTreeMap<RawFd, (u64, Ways)>,
    alarm: Alarm,
    /// Number of forks that had been counted when this was made.
    n_forks: usize,
}

/// What the timer is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alarm {
    Off,
    /// It has fired: the host is to turn the loop at once.
    Now,
    At(Moment),
}

impl Host {
    fn new() -> nix::Result<Host> {
        Ok(Host {
            queue: Arc::new(HostQueue::new()?),
            members: BTreeMap::new(),
            alarm: Alarm::Off,
            n_forks: fork::count(),
        })
    }

    /// Makes `wanted` the members. Returns false if one of them is ready without being asked.
    fn set_members(&mut self, wanted: BTreeMap<RawFd, (u64, Ways)>) -> nix::Result<bool> {
        for fd in self.members.keys() {
            if !wanted.contains_key(fd) {
                self.queue.forget(*fd);
            }
        }
        let known = mem::take(&mut self.members);
        let mut is_complete = true;
        for (fd, member) in wanted {
            if known.get(&fd) != Some(&member) {
                match self.queue.watch(fd, member.1, member.0 == 0) {
                    Ok(()) => {}
                    // A regular file is always ready. A descriptor that other code has closed is
                    // found by the next turn.
                    Err(Errno::EPERM | Errno::EBADF) => {
                        is_complete = false;
                        continue;
                    }
                    Err(errno) => return Err(errno),
                }
            }
            self.members.insert(fd, member);
        }
        Ok(is_complete)
    }

    fn set_alarm(&mut self, alarm: Alarm) -> nix::Result<()> {
        // One that has fired is set again: hosts that are told of changes only need a new one.
        if self.alarm == alarm && alarm != Alarm::Now {
            return Ok(());
        }
        let after = match alarm {
            Alarm::Off => None,
            Alarm::Now => Some(Duration::ZERO),
            Alarm::At(deadline) => Some(deadline.saturating_duration_since(Moment::now())),
        };
        self.queue.set_timer(after)?;
        self.alarm = alarm;
        Ok(())
    }
}

impl Reactor {
    /// Returns the descriptor for a host, and its generation, after telling it what to wait for:
    /// the members, and `deadline`. With `turn_now` it is readable at once.
    ///
    /// The error is ENOSYS where there is no such thing, where it cannot tell what a task waits
    /// for, or where the program does not want it.
    pub(crate) fn update_host(
        &mut self,
        pipe: Option<RawFd>,
        deadline: Option<Moment>,
        turn_now: bool,
    ) -> nix::Result<(Arc<HostQueue>, u64)> {
        if self.poller == Poller::Select {
            return Err(Errno::ENOSYS);
        }
        let is_own = |host: &mut Host| host.n_forks == fork::count();
        let mut host = match self.host.take_if(is_own) {
            Some(host) => host,
            None => {
                // A parent's: giving up this process's share changes nothing for the parent.
                self.host = None;
                self.n_hosts += 1;
                Host::new()?
            }
        };
        // Before its first turn, a forked child has nothing of its own that it could wait for.
        let is_child = self.n_forks != fork::count();
        let wanted = match is_child {
            true => BTreeMap::new(),
            false => self.host_members(pipe),
        };
        let outcome = host.set_members(wanted).and_then(|is_complete| {
            if host.queue.settle() {
                host.alarm = Alarm::Off;
            }
            let deadline = deadline.filter(|deadline| !deadline.is_never());
            host.set_alarm(match deadline {
                _ if turn_now || is_child || !is_complete => Alarm::Now,
                Some(deadline) => Alarm::At(deadline),
                None => Alarm::Off,
            })
        });
        // If it fails, what is watched is no longer known, and the host goes on by the lists.
        // Should it ask again, it gets another one.
        outcome?;
        let queue = Arc::clone(&host.queue);
        self.host = Some(host);
        Ok((queue, self.n_hosts))
    }

    /// Returns what a host has to wait for, by descriptor.
    fn host_members(&self, pipe: Option<RawFd>) -> BTreeMap<RawFd, (u64, Ways)> {
        let mut members: BTreeMap<RawFd, (u64, Ways)> = BTreeMap::new();
        let queue = self.own_queue().map(Queue::fd);
        // The kernel's queue watches the pipe as well.
        if let Some(fd) = queue.or(pipe) {
            members.insert(fd, (0, [true, false, false]));
        }
        for direction in Direction::ALL {
            for fd in self.young_interests(direction) {
                let generation = self.sources.get(fd).map_or(0, |source| source.generation);
                let (_, ways) = members.entry(fd).or_insert((generation, [false; 3]));
                ways[direction as usize] = true;
            }
        }
        members
    }

    /// Takes `fd` out of what a host waits for, because it is about to be closed.
    pub(super) fn leave_host(&mut self, fd: RawFd) {
        let host = self.host.as_mut();
        if let Some(host) = host.filter(|host| host.n_forks == fork::count()) {
            if host.members.remove(&fd).is_some() {
                host.queue.forget(fd);
            }
        }
    }

    /// Gives up what a host waits for, after other code has closed descriptors of ours. The next
    /// one has another generation.
    pub(crate) fn renew_host(&mut self) {
        match self.host.take() {
            // Closing numbers that may be another file's by now would hit a stranger.
            Some(host) if !host.queue.is_ours() => mem::forget(host),
            host => drop(host),
        }
    }
}
