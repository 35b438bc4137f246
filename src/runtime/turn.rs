//! Single turns of the loop, for programs that have a loop of their own.
//!
//! **Invariant.** Between [`interest`] and the next turn, the loop counts as asleep: a wake from
//! another thread writes to the wake-up pipe, which the host has been told to wait for.

use super::{CreateError, Entered};
use crate::event_loop::clock::{self, Moment};
use crate::event_loop::reactor::Direction;
use crate::event_loop::tick::{self, Turn};
use crate::event_loop::{EventLoop, with};
use crate::sys::host_queue::HostQueue;
use crate::sys::{Errno, task};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Turns this thread's loop once, for a program that has a loop of its own: polls tasks that were
/// woken, waits for at most `limit`, and wakes what has become ready. Returns the number of wakers
/// that ran.
///
/// With `Some(Duration::ZERO)` it never waits; with `None` it waits without limit. It does not wait
/// either if it has polled a task, because that may be what the caller is waiting for.
///
/// # A loop around this one
/// The host may be a `poll` loop, a terminal program, or the program that a plug-in was loaded
/// into. It repeats the following steps, all on one thread:
///
/// 1. Call [`interest`] as the last thing before waiting. Every call into this crate on this
///    thread, and every drop of a socket, may change the answer.
/// 2. Wait until one of these descriptors or one of the host's own is ready, but no longer than
///    [`Interest::time_left`]. Readiness has to be level-triggered, as in `poll` and `select`. A
///    host with an epoll or kqueue of its own has to register every change of the lists, or uses
///    the one descriptor of [`interest_fd`].
/// 3. Call `turn(Some(Duration::ZERO))`, whichever descriptor was ready. A turn too many does no
///    harm.
/// 4. Do the host's own work. It may [`spawn`](crate::spawn) and abort tasks, drop sockets, and
///    wake wakers.
///
/// A turn makes about 200 polls at most. If more tasks are queued, [`Interest::queued`] is true, so
/// that the host can look at its own descriptors in between. A task that panics does not end the
/// turn. `turn` does not look at the host's signals or timers.
///
/// `turn`, [`run`](crate::run) and [`block_on`](crate::block_on) are refused inside a task. A task
/// may call back into the host, but a `turn` made from there returns the error below. Outside of
/// tasks all three may follow each other.
///
/// The host may `fork` between two turns, and both processes go on. In the child, `interest` says
/// that something is queued, and the next turn creates what a child cannot share with its parent.
///
/// # Unloading a plug-in
/// A host may unload a shared library that contains this crate (`dlclose`) once no thread can run
/// code of it any more. Signal listeners have to be dropped before (see [`signal`](crate::signal)).
/// Threads of [`spawn_blocking`](crate::spawn_blocking) end five seconds after their last job, and
/// cannot be told to end earlier. A thread that has had a loop drops it when it ends, by code of
/// the library; glibc keeps the library loaded until then, and other systems do not.
///
/// # Errors
/// - If the wake-up pipe cannot be created (`pipe2(2)`: usually EMFILE or ENFILE).
/// - Of kind [`Unsupported`](io::ErrorKind::Unsupported) if the loop has a
///   [virtual clock](crate::Builder::virtual_clock).
/// - If called from inside a task, or from inside another `turn`. The call has then done nothing.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// let task = fahrenheit::spawn(async { 42 });
/// while !task.is_finished() {
///     fahrenheit::turn(Some(Duration::ZERO))?;
/// }
/// assert_eq!(fahrenheit::block_on(task).unwrap(), 42);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// `examples/host_loop.rs` has a whole `poll` loop.
#[doc(alias("pump", "tick"))]
pub fn turn(limit: Option<Duration>) -> io::Result<usize> {
    if clock::is_virtual() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "`turn` was called on a loop with a virtual clock, which the host does not go by",
        ));
    }
    let Some(mut entered) = Entered::new()? else {
        return Err(io::Error::other(
            "`turn` was called from inside a task of the same thread",
        ));
    };
    with(|l| l.expects_turns = true);
    // `interest` has marked the loop asleep on behalf of the host.
    let Entered { inbox, woken } = &mut entered;
    inbox.wake_up();
    let turn = tick::turn(inbox, woken, None, |n_polls| match n_polls {
        0 => limit,
        _ => Some(Duration::ZERO),
    });
    match turn {
        Turn::Woke(n_woken) => Ok(n_woken),
        Turn::Finished => unreachable!("without a main future a turn never finishes"),
    }
}

/// What a program with a loop of its own has to wait for before it calls [`turn`] again.
///
/// This is a snapshot: any call into this crate on this thread may change it. The program may wait
/// for the descriptors, but must not read, write or close them.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Interest {
    /// Wait until one of these is readable. One of them is the wake-up pipe, to which other threads
    /// write when they wake a task of this one.
    pub read: Vec<RawFd>,
    /// Wait until one of these is writable.
    pub write: Vec<RawFd>,
    /// Wait until one of these has an exceptional condition.
    pub except: Vec<RawFd>,
    /// Wait until this point in time at the latest.
    pub deadline: Option<Instant>,
    /// Do not wait at all: tasks are ready to be polled, or the next `turn` will return an error.
    pub queued: bool,
}

impl Interest {
    /// Returns the maximum time to wait from now: zero if something is queued, else the time until
    /// the deadline; `None` if there is no limit.
    ///
    /// A host that has to round this, for example to the milliseconds of `poll`, should round up.
    /// Rounded down, it would turn without waiting for the rest of the last millisecond.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// drop(fahrenheit::spawn(fahrenheit::time::sleep(Duration::from_secs(9))));
    /// assert_eq!(fahrenheit::interest().time_left(), Some(Duration::ZERO));
    /// fahrenheit::turn(Some(Duration::ZERO))?;
    /// assert!(fahrenheit::interest().time_left() > Some(Duration::from_secs(1)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn time_left(&self) -> Option<Duration> {
        if self.queued {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        self.deadline
            .map(|deadline| deadline.saturating_duration_since(now))
    }
}

/// Returns what this thread's loop waits for; see [`turn`].
///
/// From this call to the next turn, a wake from another thread makes the wake-up pipe readable.
///
/// A host that can wait for one descriptor is simpler with [`interest_fd`].
///
/// # Examples
/// ```
/// drop(fahrenheit::spawn(async {}));
/// assert!(fahrenheit::interest().queued);
/// ```
pub fn interest() -> Interest {
    let interest = with(|l| {
        let (queued, deadline) = prepare_for_host(l);
        let mut read = l.reactor.interests(Direction::Read);
        read.extend(l.inbox.pipe_fd());
        Interest {
            read,
            write: l.reactor.interests(Direction::Write),
            except: l.reactor.interests(Direction::Except),
            deadline: deadline.and_then(Moment::instant),
            queued,
        }
    });
    interest.unwrap_or_default()
}

/// Marks the loop asleep, so that the host may wait in its place. Returns whether the host must not
/// wait at all, and when it has to turn the loop at the latest.
fn prepare_for_host(l: &mut EventLoop) -> (bool, Option<Moment>) {
    l.expects_turns = true;
    // Without a pipe no other thread could end the host's wait; `turn` will return the reason.
    // A forked child has to turn once before the pipe and the queue are its own.
    let no_pipe = l.inbox.open_pipe().is_err();
    let forked = l.inbox.is_of_parent();
    // First marked asleep, then a look at the inbox: a wake after the look writes to the pipe.
    let has_wakes = !l.inbox.fall_asleep();
    let timer = l.timers.next_deadline();
    // The reactor's own appointments: to watch a descriptor again, and to look at those that
    // the kernel's queue is silent about.
    let now = l.reactor.has_appointments().then(Moment::now);
    let others = now.map(|now| [l.reactor.next_rest(now), l.reactor.next_look(now)]);
    let others = others.unwrap_or_default();
    let deadline = others.into_iter().chain([timer]).flatten().min();
    let queued = has_wakes || no_pipe || forked || task::has_queued() || clock::is_virtual();
    (queued, deadline)
}

/// One descriptor that stands for all that this thread's loop waits for: descriptors, timers, wakes
/// from other threads, and tasks that are queued. Returned by [`interest_fd`].
///
/// It is readable when the host should [`turn`] the loop. The host may wait for it and must not
/// read, write or change it. The number stays valid for as long as this value or a clone of it
/// lives.
#[derive(Debug, Clone)]
pub struct InterestFd {
    queue: Arc<HostQueue>,
    generation: u64,
}

impl InterestFd {
    /// Returns a number that changes when the loop has made another descriptor: in a child of
    /// `fork`, and after other code has closed descriptors of this crate. The host then registers
    /// the new one in place of the old one.
    ///
    /// # Examples
    /// ```
    /// // A system without epoll and kqueue has no such descriptor.
    /// if let Ok(interest) = fahrenheit::interest_fd() {
    ///     let registered = interest.generation();
    ///     while fahrenheit::turn(Some(std::time::Duration::ZERO))? > 0 {}
    ///     if fahrenheit::interest_fd()?.generation() != registered {
    ///         println!("register the new descriptor");
    ///     }
    /// }
    /// # std::io::Result::Ok(())
    /// ```
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

impl AsFd for InterestFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.fd()
    }
}

impl AsRawFd for InterestFd {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// Returns one descriptor that stands for all that this thread's loop waits for, in place of the
/// lists of [`interest`].
///
/// The host registers it once, to read, and then repeats these steps, all on one thread:
///
/// 1. Call `interest_fd` as the last thing before waiting. It tells the kernel what the loop waits
///    for by now. If the [generation](InterestFd::generation) has changed, register it again.
/// 2. Wait until it is readable, or something of the host's own is ready. No time limit is needed.
/// 3. Call `turn(Some(Duration::ZERO))`.
/// 4. Do the host's own work, as described for [`turn`].
///
/// # Edge-triggered hosts
/// A host that is told only of changes, as by tokio's `AsyncFd` or by `EPOLLET`, goes on turning
/// until `turn` has returned 0, then calls `interest_fd`, and only then waits for the next change.
///
/// # Errors
/// - Of kind [`Unsupported`](io::ErrorKind::Unsupported) where the lists have to be used: on
///   systems without epoll and kqueue, and with [`Poller::Select`](crate::Poller::Select) or
///   `FAHRENHEIT_POLLER=select`. With kqueue also while a task waits for an
///   [exceptional condition](crate::AsyncFd::exceptional), and on macOS for a pipe or a terminal,
///   which it cannot watch.
/// - EMFILE or ENFILE if no descriptors are left for it: it takes two, three with kqueue.
/// - ENOMEM or ENOSPC if the kernel cannot watch any more.
///
/// # Examples
/// ```
/// use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
/// use std::{os::fd::AsFd, time::Duration};
///
/// let task = fahrenheit::spawn(fahrenheit::time::sleep(Duration::from_millis(1)));
/// while !task.is_finished() {
///     # if fahrenheit::interest_fd().is_err() { return Ok(()) }
///     let guest = fahrenheit::interest_fd()?;
///     // A host has descriptors of its own here, too.
///     let mut fds = [PollFd::new(guest.as_fd(), PollFlags::POLLIN)];
///     poll(&mut fds, PollTimeout::NONE)?;
///     fahrenheit::turn(Some(Duration::ZERO))?;
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[doc(alias("backend_fd", "epoll_fd"))]
pub fn interest_fd() -> io::Result<InterestFd> {
    let updated = with(|l| {
        let (queued, deadline) = prepare_for_host(l);
        let pipe = l.inbox.pipe_fd();
        l.reactor.update_host(pipe, deadline, queued)
    });
    match updated {
        None => Err(CreateError::ThreadEnded.into()),
        Some(Ok((queue, generation))) => Ok(InterestFd { queue, generation }),
        Some(Err(Errno::ENOSYS)) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "no single descriptor stands for this loop; use the lists of `interest`",
        )),
        Some(Err(errno)) => Err(errno.into()),
    }
}
