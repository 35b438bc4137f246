//! The loop by single turns, for programs that have a loop of their own.
//!
//! **Invariant.** Between [`interest`] and the next turn, the loop counts as asleep: whoever wakes
//! a task from another thread rings the wake-up pipe, which the host has been told to wait for.

use super::{Entered, run_queued, wait_and_wake, with};
use crate::moment::Moment;
use crate::reactor::Direction;
use crate::sys::fork;
use crate::task::waker;
use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// Does one turn of this thread's loop, for a program that has a loop of its own: polls what is
/// queued, waits for at most `limit`, and wakes what has become ready. Returns how many wakers ran.
///
/// With `Some(Duration::ZERO)` it never waits; with `None` it waits without limit. It does not wait
/// either if it has polled something: what the caller wants may have happened.
///
/// # A loop around this one
/// The host, which may be a `poll` loop, a terminal program or the program that a plug-in was
/// loaded into, does the following for ever, all of it on one thread:
///
/// 1. It asks [`interest`] what to wait for, each time anew, and as the last thing before it waits:
///    every call into this crate on this thread, and every drop of a socket, may change the
///    answer.
/// 2. It waits, in whichever way, until one of these descriptors is ready, or one of its own is,
///    but no longer than [`Interest::time_left`] says. Readiness has to be level-triggered, as that
///    of `poll` and `select` is; an epoll or kqueue of its own has to follow every change of the
///    lists.
/// 3. It calls `turn(Some(Duration::ZERO))`, always: it need not find out which descriptor was
///    ready, or whether it was one of this crate's. A turn too many does no harm.
/// 4. It does its own work, and may [`spawn`](crate::spawn) and abort tasks, drop sockets, and wake
///    wakers as it likes.
///
/// A turn polls tasks, up to about 200 times, and returns when it has; should more be queued, then
/// [`Interest::queued`] says so, and the host's own descriptors have their turn in between. A task
/// that panics does not end the turn. Nothing here looks at the host's signals or timers.
///
/// Inside of tasks, `turn`, [`run`](crate::run) and [`block_on`](crate::block_on) are refused. A
/// task may call back into the host, but if that ends in a `turn`, it gets the error below.
/// Outside of tasks all three may follow each other.
///
/// The host may `fork` between two turns, and both processes go on: in the child, the next
/// `interest` says that something is queued, and the turn after it makes what a child cannot share.
///
/// # Errors
/// - If the wake-up pipe cannot be made.
/// - If called from inside a task, or from inside another `turn`. Nothing has happened then.
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
    let Some(entered) = Entered::new()? else {
        return Err(io::Error::other(
            "`turn` was called from inside a task of the same thread",
        ));
    };
    entered.inbox.wake_up();
    let n_polls = run_queued(None, &entered.inbox);
    let limit = if n_polls > 0 {
        Some(Duration::ZERO)
    } else {
        limit
    };
    Ok(wait_and_wake(&entered.inbox, limit))
}

/// What a program that owns its loop has to wait for before it calls [`turn`] again.
///
/// A snapshot: any call into this crate on this thread may change it. The descriptors are to be
/// waited for, and not to be read, written or closed.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Interest {
    /// Wait until one of these is readable. The wake-up pipe, by which other threads wake tasks of
    /// this one, is among them.
    pub read: Vec<RawFd>,
    /// Wait until one of these is writable.
    pub write: Vec<RawFd>,
    /// Wait until one of these has an exceptional condition.
    pub except: Vec<RawFd>,
    /// Wait no longer than until then.
    pub deadline: Option<Instant>,
    /// Do not wait at all: tasks are ready to be polled, or `turn` has an error to tell.
    pub queued: bool,
}

impl Interest {
    /// How long to wait from now on: not at all if something is queued, else until the deadline;
    /// `None` if there is no limit.
    ///
    /// Whoever has to round this, to the milliseconds of `poll`, should round up. Rounded down, the
    /// host would turn in circles for the rest of the last millisecond; nothing worse happens.
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

/// What this thread's loop waits for; see [`turn`].
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
        // Without a pipe nobody could be called; `turn` will say why there is none. And a child has
        // to turn once before what it waits for is its own.
        let no_pipe = l.inbox.open_pipe().is_err();
        let forked = l.n_forks != fork::count();
        // First asleep, then a look at the mail: whoever posts after the look finds a sleeper.
        let mail = !l.inbox.fall_asleep();
        let mut read = l.reactor.interests(Direction::Read);
        read.extend(l.inbox.pipe_fd());
        Interest {
            read,
            write: l.reactor.interests(Direction::Write),
            except: l.reactor.interests(Direction::Except),
            deadline: l.timers.next_deadline().and_then(Moment::instant),
            queued: mail || no_pipe || forked || waker::has_queued(),
        }
    });
    interest.unwrap_or_default()
}
