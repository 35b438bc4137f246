//! Single turns of the loop, for programs that have a loop of their own.
//!
//! **Invariant.** Between [`interest`] and the next turn, the loop counts as asleep: a wake from
//! another thread writes to the wake-up pipe, which the host has been told to wait for.

use super::Entered;
use crate::event_loop::clock::{self, Moment};
use crate::event_loop::reactor::Direction;
use crate::event_loop::tick::{self, Turn};
use crate::event_loop::with;
use crate::sys::{fork, task};
use std::io;
use std::os::fd::RawFd;
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
///    host with an epoll or kqueue of its own has to register every change of the lists.
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
/// # Examples
/// ```
/// drop(fahrenheit::spawn(async {}));
/// assert!(fahrenheit::interest().queued);
/// ```
pub fn interest() -> Interest {
    let interest = with(|l| {
        l.expects_turns = true;
        // Without a pipe no other thread could end the host's wait; `turn` will return the reason.
        // A forked child has to turn once before the pipe and the queue are its own.
        let no_pipe = l.inbox.open_pipe().is_err();
        let forked = l.n_forks != fork::count();
        // First marked asleep, then a look at the inbox: a wake after the look writes to the pipe.
        let has_wakes = !l.inbox.fall_asleep();
        let timer = l.timers.next_deadline();
        // The reactor's own appointments: to watch a descriptor again, and to look at those that
        // the kernel's queue is silent about.
        let now = l.reactor.has_appointments().then(Moment::now);
        let others = now.map(|now| [l.reactor.next_rest(now), l.reactor.next_look(now)]);
        let others = others.unwrap_or_default();
        let deadline = others.into_iter().chain([timer]).flatten().min();
        let mut read = l.reactor.interests(Direction::Read);
        read.extend(l.inbox.pipe_fd());
        Interest {
            read,
            write: l.reactor.interests(Direction::Write),
            except: l.reactor.interests(Direction::Except),
            deadline: deadline.and_then(Moment::instant),
            queued: has_wakes || no_pipe || forked || task::has_queued() || clock::is_virtual(),
        }
    });
    interest.unwrap_or_default()
}
