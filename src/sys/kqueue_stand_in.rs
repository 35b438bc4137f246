//! For tests only: a kqueue on Linux, made of epolls, on which `kqueue.rs` runs unchanged.
//!
//! Compiled with `--cfg fahrenheit_kqueue` and never else. Names and signatures are those of
//! `nix::sys::event`, which Linux does not have. There is one epoll for each filter, and an outer
//! one that watches these two and whose descriptor `select` takes, so a wait is up to three system
//! calls where a BSD needs one.
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
//! Two differences remain. A number that is closed and then given to the same open file again
//! counts as never closed, because nothing here learns of a `close`. And regular files are refused,
//! as epoll refuses them.

use super::Errno;
use nix::libc::{self, c_int};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::stat::fstat;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::BitOr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EvFlags(u16);

impl EvFlags {
    pub(crate) const EV_ADD: EvFlags = EvFlags(0x1);
    pub(crate) const EV_DELETE: EvFlags = EvFlags(0x2);
    pub(crate) const EV_CLEAR: EvFlags = EvFlags(0x20);
    pub(crate) const EV_ERROR: EvFlags = EvFlags(0x4000);
    pub(crate) const EV_EOF: EvFlags = EvFlags(0x8000);

    pub(crate) fn empty() -> EvFlags {
        EvFlags(0)
    }

    pub(crate) fn intersects(self, other: EvFlags) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for EvFlags {
    type Output = EvFlags;

    fn bitor(self, other: EvFlags) -> EvFlags {
        EvFlags(self.0 | other.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "nix has these names")]
pub(crate) enum EventFilter {
    EVFILT_READ,
    EVFILT_WRITE,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct FilterFlag;

impl FilterFlag {
    pub(crate) fn empty() -> FilterFlag {
        FilterFlag
    }
}

/// `struct kevent`, as far as `kqueue.rs` uses it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KEvent {
    ident: usize,
    filter: EventFilter,
    flags: EvFlags,
    udata: isize,
}

impl KEvent {
    pub(crate) fn new(
        ident: usize,
        filter: EventFilter,
        flags: EvFlags,
        _fflags: FilterFlag,
        _data: isize,
        udata: isize,
    ) -> KEvent {
        KEvent {
            ident,
            filter,
            flags,
            udata,
        }
    }

    pub(crate) fn ident(&self) -> usize {
        self.ident
    }

    pub(crate) fn filter(&self) -> nix::Result<EventFilter> {
        Ok(self.filter)
    }

    pub(crate) fn flags(&self) -> EvFlags {
        self.flags
    }

    pub(crate) fn udata(&self) -> isize {
        self.udata
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
}

impl Filter {
    fn new(kind: EventFilter) -> nix::Result<Filter> {
        Ok(Filter {
            kind,
            epoll: new_epoll()?,
            knotes: BTreeMap::new(),
            next_serial: 0,
        })
    }

    fn add(&mut self, fd: RawFd, flags: EvFlags, udata: isize) -> nix::Result<()> {
        let mut events = match self.kind {
            EventFilter::EVFILT_READ => EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP,
            EventFilter::EVFILT_WRITE => EpollFlags::EPOLLOUT,
        };
        events.set(EpollFlags::EPOLLET, flags.intersects(EvFlags::EV_CLEAR));
        let knote = Knote {
            file: file_of(fd)?,
            serial: self.next_serial,
            udata,
            events,
        };
        self.next_serial = self.next_serial.wrapping_add(1);
        let mut event = knote.epoll_event(fd);
        match self.epoll.add(borrow(fd), event) {
            // EV_ADD changes a knote that exists.
            Err(Errno::EEXIST) => self.epoll.modify(borrow(fd), &mut event)?,
            Err(Errno::EPERM) => return Err(Errno::EINVAL),
            outcome => outcome?,
        }
        self.knotes.insert(fd, knote);
        Ok(())
    }

    fn delete(&mut self, fd: RawFd) -> nix::Result<()> {
        let file = file_of(fd)?;
        match self.knotes.remove(&fd) {
            Some(knote) if knote.file == file => self.epoll.delete(borrow(fd)),
            // None, or one that ended when its descriptor was closed.
            _ => Err(Errno::ENOENT),
        }
    }

    /// Moves pending events to `room`. Returns their number, and whether the epoll reports files
    /// whose knote has ended.
    fn take_events(&mut self, room: &mut [KEvent]) -> nix::Result<(usize, bool)> {
        let mut found = vec![EpollEvent::empty(); room.len()];
        let n_found = self.epoll.wait(&mut found, EpollTimeout::ZERO)?;
        let (mut n_events, mut has_ended) = (0, false);
        for event in &found[..n_found] {
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
                EventFilter::EVFILT_WRITE => EpollFlags::EPOLLHUP,
            };
            let at_end = event.events().intersects(gone | EpollFlags::EPOLLERR);
            let flags = [EvFlags::empty(), EvFlags::EV_EOF][usize::from(at_end)];
            room[n_events] = KEvent::new(fd as usize, self.kind, flags, FilterFlag, 0, knote.udata);
            n_events += 1;
        }
        Ok((n_events, has_ended))
    }

    /// Makes an epoll without what has ended: an open file that has lost the number under which it
    /// was added cannot be deleted from an epoll, which would report it for ever.
    fn renew(&mut self, outer: &Epoll) -> nix::Result<()> {
        let epoll = new_epoll()?;
        self.knotes.retain(|&fd, knote| {
            file_of(fd) == Ok(knote.file) && epoll.add(borrow(fd), knote.epoll_event(fd)).is_ok()
        });
        outer.add(&epoll.0, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        self.epoll = epoll;
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct Kqueue {
    outer: Epoll,
    filters: RefCell<[Filter; 2]>,
    /// None once the outer number was found to be no longer the queue's.
    place: Cell<Option<&'static Place>>,
}

impl Kqueue {
    pub(crate) fn new() -> nix::Result<Kqueue> {
        close_queues_in_children();
        let outer = new_epoll()?;
        let filters = [
            Filter::new(EventFilter::EVFILT_READ)?,
            Filter::new(EventFilter::EVFILT_WRITE)?,
        ];
        for filter in &filters {
            outer.add(&filter.epoll.0, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        }
        let place = PLACES.iter().find(|place| place.take(outer.0.as_raw_fd()));
        let queue = Kqueue {
            outer,
            filters: RefCell::new(filters),
            place: Cell::new(Some(place.ok_or(Errno::EMFILE)?)),
        };
        queue.note_inner();
        Ok(queue)
    }

    fn note_inner(&self) {
        let noted = self.place.get().map_or(&[][..], |place| &place.inner);
        for (noted, filter) in noted.iter().zip(&*self.filters.borrow()) {
            noted.store(filter.epoll.0.as_raw_fd(), Ordering::SeqCst);
        }
    }

    /// Lets go of the place in the table, after which a child closes nothing of this queue.
    fn leave_table(&self) {
        if let Some(place) = self.place.take() {
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
        if !super::fd::is_open(self.outer.0.as_raw_fd()) {
            // The number may be another file's soon, which must not be closed in a child.
            self.leave_table();
            return Err(Errno::EBADF);
        }
        for change in changes {
            let fd = RawFd::try_from(change.ident).map_err(|_| Errno::EBADF)?;
            let filter = &mut self.filters.borrow_mut()[change.filter as usize];
            if change.flags.intersects(EvFlags::EV_DELETE) {
                filter.delete(fd)?;
            } else {
                filter.add(fd, change.flags, change.udata)?;
            }
        }
        if events.is_empty() {
            return Ok(0);
        }
        self.wait(limit)?;
        let (mut n_events, mut any_ended) = (0, false);
        for filter in &mut *self.filters.borrow_mut() {
            // Half for the first, so that the second filter is never crowded out.
            let room = match filter.kind {
                EventFilter::EVFILT_READ => events.len().div_ceil(2),
                EventFilter::EVFILT_WRITE => events.len() - n_events,
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
        Ok(n_events)
    }

    /// Waits until either filter has events. `epoll_wait` would round to milliseconds.
    fn wait(&self, limit: Option<libc::timespec>) -> nix::Result<()> {
        let mut ready = [EpollEvent::empty(); 2];
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the kernel writes at most two events, for which `ready` has room in the layout of
        // `struct epoll_event`; `limit` is null or points to a timespec of 64-bit fields, as the
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
        match Errno::result(outcome) {
            // The number is open, but belongs to another file by now.
            Err(Errno::EINVAL) => {
                self.leave_table();
                Err(Errno::EBADF)
            }
            outcome => outcome.map(drop),
        }
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

/// The descriptors of one queue of this process, or -1. A fixed table of atomics, because the
/// handler that reads it in a child may take no lock and no memory.
#[derive(Debug)]
struct Place {
    outer: AtomicI32,
    inner: [AtomicI32; 2],
}

static PLACES: [Place; 512] = [const {
    Place {
        outer: AtomicI32::new(-1),
        inner: [const { AtomicI32::new(-1) }; 2],
    }
}; 512];

impl Place {
    fn take(&self, outer: RawFd) -> bool {
        let order = Ordering::SeqCst;
        self.outer.compare_exchange(-1, outer, order, order).is_ok()
    }

    fn give_back(&self) {
        self.inner
            .iter()
            .for_each(|fd| fd.store(-1, Ordering::SeqCst));
        self.outer.store(-1, Ordering::SeqCst);
    }

    /// True if the number is still that of the queue: it watches the epoll of its first filter.
    fn is_intact(&self) -> bool {
        let outer = self.outer.load(Ordering::SeqCst);
        let inner = self.inner[0].load(Ordering::SeqCst);
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 0,
        };
        // SAFETY: the kernel reads one event, which is on this stack; it refuses numbers that are
        // not open or not epolls. The event is what was set when the queue was made.
        0 == unsafe { libc::epoll_ctl(outer, libc::EPOLL_CTL_MOD, inner, &raw mut event) }
    }
}

fn close_queues_in_children() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `in_child` has the right type, is never unloaded, and makes only system calls
        // that a child of a threaded process may make.
        let outcome = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        assert_eq!(outcome, 0, "no memory for a fork handler");
    });
}

extern "C" fn in_child() {
    for place in &PLACES {
        if place.outer.load(Ordering::SeqCst) >= 0 && place.is_intact() {
            for fd in [&place.outer, &place.inner[0], &place.inner[1]] {
                // The number is the queue's: the child cannot be out of step with the table.
                let _ = nix::unistd::close(fd.load(Ordering::SeqCst));
            }
        }
        place.give_back();
    }
}
