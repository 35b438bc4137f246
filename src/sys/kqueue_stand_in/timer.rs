//! EVFILT_TIMER, made of a timerfd: one timer for each queue, always with EV_ONESHOT.

use super::super::Errno;
use super::super::create::is_above_stdio;
use super::kevent::{EvFlags, EventFilter, FilterFlag, KEvent};
use super::locked::Locked;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::OnceLock;

#[derive(Debug, Default)]
pub(super) struct Timer {
    /// Made when it is first needed, as only the queues of hosts have timers.
    timer: OnceLock<TimerFd>,
    /// What the next event reports, once the timer is set.
    pending: Locked<Option<KEvent>>,
}

impl Timer {
    /// The descriptor of the timer, or -1 if there is none.
    pub(super) fn fd(&self) -> RawFd {
        self.timer
            .get()
            .map_or(-1, |timer| timer.as_fd().as_raw_fd())
    }

    /// Returns the timer, which `outer` watches.
    fn timer(&self, outer: &Epoll) -> nix::Result<&TimerFd> {
        if let Some(timer) = self.timer.get() {
            return Ok(timer);
        }
        let mut low = Vec::new();
        let timer = loop {
            let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
            if is_above_stdio(timer.as_fd().as_raw_fd()) {
                break timer;
            }
            low.push(timer);
        };
        let event = EpollEvent::new(EpollFlags::EPOLLIN, EventFilter::EVFILT_TIMER as u64);
        outer.add(&timer, event)?;
        Ok(self.timer.get_or_init(|| timer))
    }

    /// EV_ADD, always with EV_ONESHOT, or EV_DELETE.
    pub(super) fn change(&self, change: &KEvent, outer: &Epoll) -> nix::Result<()> {
        let timer = self.timer(outer)?;
        if change.flags().intersects(EvFlags::EV_DELETE) {
            self.pending.lock().take().ok_or(Errno::ENOENT)?;
            return timer.unset();
        }
        assert!(change.flags().intersects(EvFlags::EV_ONESHOT));
        // The BSDs differ in what zero means.
        assert!(change.data() > 0);
        let after = TimeSpec::milliseconds(change.data() as i64);
        timer.set(Expiration::OneShot(after), TimerSetTimeFlags::empty())?;
        let (ident, filter) = (change.ident(), EventFilter::EVFILT_TIMER);
        let (flags, unit) = (EvFlags::EV_ONESHOT, FilterFlag::empty());
        let event = KEvent::new(ident, filter, flags, unit, 1, change.udata());
        *self.pending.lock() = Some(event);
        Ok(())
    }

    /// Moves the event of the timer to `room`, and returns the number of events.
    pub(super) fn take_events(&self, room: &mut [KEvent]) -> nix::Result<usize> {
        let Some(place) = room.first_mut() else {
            return Ok(0);
        };
        let Some(event) = self.pending.lock().take() else {
            return Ok(0);
        };
        *place = event;
        self.timer.get().map_or(Ok(()), TimerFd::unset)?;
        Ok(1)
    }
}
