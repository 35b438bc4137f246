//! For tests only: a kqueue on Linux, made of epolls, on which `kqueue.rs` and
//! `exit_queue/proc_filter.rs` run unchanged.
//!
//! Compiled with `--cfg fahrenheit_kqueue` and never else. Names and signatures are those of
//! `nix::sys::event`, which Linux does not have. There is one epoll for each filter, and an outer
//! one that watches these two and whose descriptor `select` takes. So where a BSD makes one system
//! call, a wait is one `epoll_pwait2`, one `epoll_wait` for each filter that has events, and one
//! `fstat` for each event; and a queue takes three descriptors. Processes are watched by pidfds, in
//! one epoll more, and a timer is a timerfd.
//!
//! It keeps to what the BSDs promise and epoll does not:
//! - The two filters of a descriptor are registered, reported and deleted separately.
//! - Deleting a filter that is not registered is ENOENT, a change for a closed number is EBADF.
//! - A knote (the kernel's record of one registered filter) ends when its descriptor is closed,
//!   even if the open file lives on in a duplicate or in another process. A new descriptor with
//!   that number is not registered.
//! - `fork` does not hand a queue down: its descriptor is closed in the child.
//! - EV_EOF says that the other side has gone or has shut its direction down.
//!
//! Three differences remain. A queue is readable only while something is ready; a BSD's stays
//! readable until it is asked again. A number that is closed and then given to the same open file
//! again counts as never closed, because nothing here learns of a `close`. And every file on a disk
//! counts as read to its end, so that it is watched and never reported.

mod in_children;
mod kevent;
mod locked;
mod processes;
#[cfg(test)]
mod tests;
mod timer;

pub(crate) use kevent::{EvFlags, EventFilter, FilterFlag, KEvent};

use super::Errno;
use super::create::above_stdio;
use in_children::Place;
use locked::Locked;
use nix::libc::{self, c_int};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::stat::fstat;
use processes::Processes;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use timer::Timer;

impl EventFilter {
    /// Has `outer` report this filter whenever its `epoll` has events.
    fn join(self, epoll: &Epoll, outer: &Epoll) -> nix::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, self as u64);
        outer.add(&epoll.0, event)
    }
}

/// One registered filter of one descriptor.
#[derive(Debug)]
struct Knote {
    /// Device and inode of the open file. Sockets and pipes have an inode each.
    file: (u64, u64),
    /// Unique among the knotes of its filter; tells its events from those of an ended knote.
    serial: u32,
    udata: isize,
    events: EpollFlags,
    /// EV_ONESHOT: the first event ends it.
    is_oneshot: bool,
    /// A file that no epoll takes.
    is_on_disk: bool,
}

impl Knote {
    fn epoll_event(&self, fd: RawFd) -> EpollEvent {
        EpollEvent::new(self.events, u64::from(self.serial) << 32 | fd as u64)
    }
}

/// All knotes of one filter, by descriptor, and the epoll that watches them.
#[derive(Debug)]
struct Filter {
    kind: EventFilter,
    epoll: Epoll,
    knotes: BTreeMap<RawFd, Knote>,
    next_serial: u32,
    /// Kept, so that a wait allocates nothing.
    found: Vec<EpollEvent>,
}

impl Filter {
    fn new(kind: EventFilter) -> nix::Result<Filter> {
        Ok(Filter {
            kind,
            epoll: inner_epoll()?,
            knotes: BTreeMap::new(),
            next_serial: 0,
            found: Vec::new(),
        })
    }

    fn add(&mut self, fd: RawFd, flags: EvFlags, udata: isize) -> nix::Result<()> {
        let mut events = match self.kind {
            EventFilter::EVFILT_READ => EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP,
            _ => EpollFlags::EPOLLOUT,
        };
        events.set(EpollFlags::EPOLLET, flags.intersects(EvFlags::EV_CLEAR));
        let mut knote = Knote {
            file: file_of(fd)?,
            serial: self.next_serial,
            udata,
            events,
            is_oneshot: flags.intersects(EvFlags::EV_ONESHOT),
            is_on_disk: false,
        };
        self.next_serial = self.next_serial.wrapping_add(1);
        let mut event = knote.epoll_event(fd);
        match self.epoll.add(borrow(fd), event) {
            // EV_ADD changes a knote that exists.
            Err(Errno::EEXIST) => self.epoll.modify(borrow(fd), &mut event)?,
            Err(Errno::EPERM) => knote.is_on_disk = true,
            outcome => outcome?,
        }
        self.knotes.insert(fd, knote);
        Ok(())
    }

    fn delete(&mut self, fd: RawFd) -> nix::Result<()> {
        let file = file_of(fd)?;
        match self.knotes.remove(&fd) {
            // It ended when its descriptor was closed.
            Some(knote) if knote.file != file => Err(Errno::ENOENT),
            Some(knote) if knote.is_on_disk => Ok(()),
            Some(_) => self.epoll.delete(borrow(fd)),
            None => Err(Errno::ENOENT),
        }
    }

    /// Fails unless `fd` is registered, and `outer` is still the descriptor of this queue. Nothing
    /// is ever disabled, so that is all.
    fn enable(&self, fd: RawFd, outer: &Epoll) -> nix::Result<()> {
        let knote = self.knotes.get(&fd).ok_or(Errno::ENOENT)?;
        if file_of(fd)? != knote.file {
            return Err(Errno::ENOENT);
        }
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN, self.kind as u64);
        outer.modify(&self.epoll.0, &mut event)
    }

    /// Moves pending events to `room`. Returns their number, and whether the epoll reports files
    /// whose knote has ended.
    fn take_events(&mut self, room: &mut [KEvent]) -> nix::Result<(usize, bool)> {
        self.found.resize(room.len(), EpollEvent::empty());
        let n_found = self.epoll.wait(&mut self.found, EpollTimeout::ZERO)?;
        let (mut n_events, mut has_ended) = (0, false);
        for event in &self.found[..n_found] {
            let (fd, serial) = (event.data() as u32 as RawFd, (event.data() >> 32) as u32);
            let knote = self.knotes.get(&fd).filter(|knote| knote.serial == serial);
            let Some(knote) = knote else {
                has_ended = true;
                continue;
            };
            if file_of(fd) != Ok(knote.file) {
                self.knotes.remove(&fd);
                has_ended = true;
                continue;
            }
            let gone = match self.kind {
                EventFilter::EVFILT_READ => EpollFlags::EPOLLHUP | EpollFlags::EPOLLRDHUP,
                _ => EpollFlags::EPOLLHUP,
            };
            let at_end = event.events().intersects(gone);
            let flags = [EvFlags::empty(), EvFlags::EV_EOF][usize::from(at_end)];
            room[n_events] = KEvent::new(fd as usize, self.kind, flags, FilterFlag, 0, knote.udata);
            n_events += 1;
            if knote.is_oneshot {
                self.knotes.remove(&fd);
                self.epoll.delete(borrow(fd))?;
            }
        }
        Ok((n_events, has_ended))
    }

    /// Makes an epoll without what has ended: an open file that has lost the number under which it
    /// was added cannot be deleted from an epoll, which would report it for ever.
    fn renew(&mut self, outer: &Epoll) -> nix::Result<()> {
        let epoll = inner_epoll()?;
        self.knotes.retain(|&fd, knote| {
            let lives_on = file_of(fd) == Ok(knote.file);
            lives_on && (knote.is_on_disk || epoll.add(borrow(fd), knote.epoll_event(fd)).is_ok())
        });
        self.kind.join(&epoll, outer)?;
        self.epoll = epoll;
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct Kqueue {
    outer: Epoll,
    filters: Locked<[Filter; 2]>,
    processes: Processes,
    timer: Timer,
    /// None once the outer number was found to be no longer the queue's.
    place: Locked<Option<&'static Place>>,
}

impl Kqueue {
    pub(crate) fn new() -> nix::Result<Kqueue> {
        in_children::close_queues();
        let outer = new_epoll()?;
        let filters = [
            Filter::new(EventFilter::EVFILT_READ)?,
            Filter::new(EventFilter::EVFILT_WRITE)?,
        ];
        for filter in &filters {
            filter.kind.join(&filter.epoll, &outer)?;
        }
        let place = Place::take(outer.0.as_raw_fd()).ok_or(Errno::EMFILE)?;
        let queue = Kqueue {
            outer,
            filters: Locked::new(filters),
            processes: Processes::default(),
            timer: Timer::default(),
            place: Locked::new(Some(place)),
        };
        queue.note_inner();
        Ok(queue)
    }

    fn note_inner(&self) {
        if let Some(place) = *self.place.lock() {
            let [reads, writes] = &*self.filters.lock();
            let [reads, writes] = [reads, writes].map(|filter| filter.epoll.0.as_raw_fd());
            place.note_inner([reads, writes, self.processes.fd(), self.timer.fd()]);
        }
    }

    /// Lets go of the place in the table, after which a child closes nothing of this queue.
    fn leave_table(&self) {
        if let Some(place) = self.place.lock().take() {
            place.give_back();
        }
    }

    /// Applies `changes`; then, if there is room for `events`, waits for them for at most `limit`.
    pub(crate) fn kevent(
        &self,
        changes: &[KEvent],
        events: &mut [KEvent],
        limit: Option<libc::timespec>,
    ) -> nix::Result<usize> {
        if !changes.is_empty() && !super::fd::is_open(self.outer.0.as_raw_fd()) {
            self.leave_table();
            return Err(Errno::EBADF);
        }
        for change in changes {
            let outcome = match change.kind() {
                EventFilter::EVFILT_PROC => self.processes.change(change, &self.outer),
                EventFilter::EVFILT_TIMER => self.timer.change(change, &self.outer),
                _ => self.change(change),
            };
            self.note_inner();
            outcome?;
        }
        if events.is_empty() {
            return Ok(0);
        }
        let ready = self.wait(limit)?;
        let (mut n_events, mut any_ended) = (0, false);
        for filter in &mut *self.filters.lock() {
            if !ready[filter.kind as usize] {
                continue;
            }
            // Half for the first filter, so that it never crowds the second one out.
            let room = match filter.kind {
                EventFilter::EVFILT_READ => events.len().div_ceil(2),
                _ => events.len() - n_events,
            };
            if room == 0 {
                continue;
            }
            let (n, has_ended) = filter.take_events(&mut events[n_events..n_events + room])?;
            n_events += n;
            if has_ended {
                // If it fails for a lack of descriptors, the next call tries again.
                let _ = filter.renew(&self.outer);
                any_ended = true;
            }
        }
        if any_ended {
            self.note_inner();
        }
        if ready[EventFilter::EVFILT_PROC as usize] {
            n_events += self.processes.take_events(&mut events[n_events..])?;
        }
        if ready[EventFilter::EVFILT_TIMER as usize] {
            n_events += self.timer.take_events(&mut events[n_events..])?;
        }
        Ok(n_events)
    }

    /// Applies a change to one of the two filters of descriptors.
    fn change(&self, change: &KEvent) -> nix::Result<()> {
        let fd = RawFd::try_from(change.ident()).map_err(|_| Errno::EBADF)?;
        let filter = &mut self.filters.lock()[change.kind() as usize];
        match change.flags() {
            flags if flags.intersects(EvFlags::EV_DELETE) => filter.delete(fd),
            flags if flags.intersects(EvFlags::EV_ENABLE) => filter.enable(fd, &self.outer),
            flags => filter.add(fd, flags, change.udata()),
        }
    }

    /// Waits until a filter has events, and returns which of the four do. Not by `epoll_wait`,
    /// which would round to milliseconds.
    fn wait(&self, limit: Option<libc::timespec>) -> nix::Result<[bool; 4]> {
        let mut ready = [EpollEvent::empty(); 4];
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the kernel writes at most four events, for which `ready` has room in the layout
        // of `struct epoll_event`; `limit` is null or points to a timespec of 64-bit fields, as the
        // test build is for 64-bit Linux; the signal mask is null, so its size is not looked at.
        let outcome = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.outer.0.as_raw_fd(),
                ready.as_mut_ptr(),
                ready.len() as c_int,
                limit,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        let n_ready = match Errno::result(outcome) {
            // Closed, or no longer an epoll: the number is another file's, which a child must not
            // close.
            Err(Errno::EINVAL | Errno::EBADF) => {
                self.leave_table();
                return Err(Errno::EBADF);
            }
            outcome => outcome?,
        };
        let reported = &ready[..n_ready as usize];
        Ok([0, 1, 2, 3].map(|kind| reported.iter().any(|event| event.data() == kind)))
    }
}

impl AsFd for Kqueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.outer.0.as_fd()
    }
}

impl Drop for Kqueue {
    fn drop(&mut self) {
        // Before the fields are closed: another thread may fork right after that, when the numbers
        // are already those of other files.
        self.leave_table();
    }
}

fn new_epoll() -> nix::Result<Epoll> {
    Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
}

/// Makes an epoll that no BSD has. It must not take a low number that is asked about in tests; the
/// outer one takes what the system gives, as a kqueue does.
fn inner_epoll() -> nix::Result<Epoll> {
    Ok(Epoll(above_stdio(new_epoll()?.0)?))
}

fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: the borrow is handed to one system call only, which refuses a number that is not
    // open, and no caller passes -1.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Device and inode of the open file behind `fd`; EBADF if there is none.
fn file_of(fd: RawFd) -> nix::Result<(u64, u64)> {
    let found = fstat(borrow(fd))?;
    Ok((found.st_dev, found.st_ino))
}
