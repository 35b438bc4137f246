//! EVFILT_PROC with NOTE_EXIT, made of pidfds.

use super::super::{Errno, pidfd};
use super::inner_epoll;
use super::kevent::{EvFlags, EventFilter, FilterFlag, KEvent};
use super::locked::Locked;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

/// All processes whose exit a queue reports, and the epoll that watches them.
#[derive(Debug, Default)]
pub(super) struct Processes {
    /// Made when it is first needed, as most queues watch no process.
    epoll: OnceLock<Epoll>,
    /// By process number: the pidfd, and the `udata` to report.
    watched: Locked<BTreeMap<usize, (OwnedFd, isize)>>,
}

impl Processes {
    /// The descriptor of its epoll, or -1 if it has none.
    pub(super) fn fd(&self) -> RawFd {
        self.epoll.get().map_or(-1, |epoll| epoll.0.as_raw_fd())
    }

    /// Returns the epoll, which `outer` watches.
    fn epoll(&self, outer: &Epoll) -> nix::Result<&Epoll> {
        if let Some(epoll) = self.epoll.get() {
            return Ok(epoll);
        }
        let epoll = inner_epoll()?;
        EventFilter::EVFILT_PROC.join(&epoll, outer)?;
        Ok(self.epoll.get_or_init(|| epoll))
    }

    /// EV_ADD, always with EV_ONESHOT, or EV_DELETE.
    pub(super) fn change(&self, change: &KEvent, outer: &Epoll) -> nix::Result<()> {
        let epoll = self.epoll(outer)?;
        let mut watched = self.watched.lock();
        let pid = change.ident();
        if change.flags().intersects(EvFlags::EV_DELETE) {
            let (pidfd, _) = watched.remove(&pid).ok_or(Errno::ENOENT)?;
            return epoll.delete(&pidfd);
        }
        assert!(change.flags().intersects(EvFlags::EV_ONESHOT));
        let pidfd = pidfd::open(pid as u32)?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, pid as u64);
        epoll.add(&pidfd, event)?;
        watched.insert(pid, (pidfd, change.udata()));
        Ok(())
    }

    /// Moves pending events to `room`, and returns their number.
    pub(super) fn take_events(&self, room: &mut [KEvent]) -> nix::Result<usize> {
        let Some(epoll) = self.epoll.get().filter(|_| !room.is_empty()) else {
            return Ok(0);
        };
        let mut found = vec![EpollEvent::empty(); room.len()];
        let n_found = epoll.wait(&mut found, EpollTimeout::ZERO)?;
        for (event, place) in found[..n_found].iter().zip(room) {
            let pid = event.data() as usize;
            let watched = self.watched.lock().remove(&pid);
            let (pidfd, udata) = watched.expect("the epoll watches what is in the table");
            epoll.delete(&pidfd)?;
            let (filter, flags) = (EventFilter::EVFILT_PROC, EvFlags::EV_EOF);
            *place = KEvent::new(pid, filter, flags, FilterFlag::NOTE_EXIT, 0, udata);
        }
        Ok(n_found)
    }
}
