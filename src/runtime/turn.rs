//! The loop by single turns, for programs that have a loop of their own.

use super::{Entered, run_queued, wait_and_wake, with};
use crate::reactor::Direction;
use crate::task::waker;
use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// Does one turn of this thread's loop, for a program that has a loop of its own: polls what is
/// queued, waits for at most `limit`, and wakes what has become ready. Returns how many wakers ran.
///
/// With `Some(Duration::ZERO)` it never waits; with `None` it waits without limit. It does not wait
/// either if it has polled something: what the caller wants may have happened. [`interest`] says
/// what to wait for before the next call.
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
pub fn turn(limit: Option<Duration>) -> io::Result<usize> {
    let Some(entered) = Entered::new()? else {
        return Err(io::Error::other(
            "`turn` was called from inside a task of the same thread",
        ));
    };
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
/// A snapshot: any call into this crate on this thread may change it.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Interest {
    /// Wait until one of these is readable. The wake-up pipe, by which other threads wake tasks of
    /// this one, is among them once the loop has turned for the first time.
    pub read: Vec<RawFd>,
    /// Wait until one of these is writable.
    pub write: Vec<RawFd>,
    /// Wait until one of these has an exceptional condition.
    pub except: Vec<RawFd>,
    /// Wait no longer than until then.
    pub deadline: Option<Instant>,
    /// Do not wait at all: tasks are ready to be polled.
    pub queued: bool,
}

/// What this thread's loop waits for; see [`turn`].
///
/// # Examples
/// ```
/// drop(fahrenheit::spawn(async {}));
/// assert!(fahrenheit::interest().queued);
/// ```
pub fn interest() -> Interest {
    let interest = with(|l| {
        l.inbox.collect();
        let mut read = l.reactor.interests(Direction::Read);
        read.extend(l.inbox.pipe_fd());
        Interest {
            read,
            write: l.reactor.interests(Direction::Write),
            except: l.reactor.interests(Direction::Except),
            deadline: l.timers.next_deadline(),
            queued: waker::has_queued(),
        }
    });
    interest.unwrap_or_default()
}
