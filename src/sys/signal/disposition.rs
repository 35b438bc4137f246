//! The handler, and what the system does with a signal: its disposition (`sigaction(2)`).
//!
//! Other code of the process may change a disposition at any time, so it is looked at again
//! whenever a listener comes or goes. A new listener makes sure that our handler is the current
//! one, on top of whatever is there. The last listener puts back what ours has replaced, if ours is
//! still the current one; otherwise ours stays where it is, below another handler that may call it,
//! and calls what was there before.

use super::previous::{Action, Previous};
use super::set::N_SIGNALS;
use super::{SIGCHLD, nodes};
use crate::sys::{Errno, fork};
use nix::libc::{self, c_int, c_void, siginfo_t};
use nix::sys::signal::SigSet;
use std::io;
use std::mem::zeroed;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is known of one signal.
struct Disposition {
    /// Which thread may change the rest; see [`Claim`].
    claimed_by: AtomicUsize,
    n_listeners: AtomicUsize,
    previous: Previous,
}

static DISPOSITIONS: [Disposition; N_SIGNALS] = [const {
    Disposition {
        claimed_by: AtomicUsize::new(0),
        n_listeners: AtomicUsize::new(0),
        previous: Previous::none(),
    }
}; N_SIGNALS];

/// The signal handler of this crate, the only one for all signals.
extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let errno = Errno::last_raw();
    let number = index(signal);
    nodes::tell_all(number);
    let previous = &DISPOSITIONS[number].previous;
    previous.call(signal, info, context);
    Errno::set_raw(errno);
}

fn index(signal: c_int) -> usize {
    usize::try_from(signal).unwrap_or(0) % N_SIGNALS
}

/// The right to change one signal's disposition, which one thread of this process has at a time.
///
/// A lock, except that a fork does not leave it held in the child: it is held by a number that the
/// forks are counted in, so a claim of a thread that the child does not have counts as free. What
/// such a thread has left half done is harmless: each step below leaves a state that the next
/// claim can start from.
struct Claim(&'static Disposition);

impl Claim {
    fn of(signal: c_int) -> Claim {
        let disposition = &DISPOSITIONS[index(signal)];
        let claimed_by = &disposition.claimed_by;
        // 0 means that it is free.
        let this_process = fork::count() + 1;
        loop {
            let order = Ordering::SeqCst;
            let holder = claimed_by.load(order);
            if holder != this_process {
                let claim = claimed_by.compare_exchange(holder, this_process, order, order);
                if claim.is_ok() {
                    return Claim(disposition);
                }
            }
            // Another thread is at it, which makes a few system calls.
            std::thread::yield_now();
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.claimed_by.store(0, Ordering::SeqCst);
    }
}

/// Counts one more listener to `signal`, and makes sure that our handler is the current one.
pub(super) fn add_listener(signal: c_int) -> io::Result<()> {
    let claim = Claim::of(signal);
    install(signal, &claim.0.previous)?;
    claim.0.n_listeners.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

/// Counts one listener less, and puts back what was there before the first if it was the last.
pub(super) fn remove_listener(signal: c_int) {
    let claim = Claim::of(signal);
    if claim.0.n_listeners.fetch_sub(1, Ordering::SeqCst) > 1 {
        return;
    }
    // If other code has put its handler over ours, that is not ours to remove.
    let is_ours = current(signal).is_ok_and(|action| is_ours(&action));
    let previous = &claim.0.previous;
    if let Some(newest) = previous.newest().filter(|_| is_ours) {
        // Cannot fail: the same call has put ours there.
        let _ = replace(signal, Some(newest));
        previous.pop();
    }
}

/// Makes our handler the current one, unless it is.
fn install(signal: c_int, previous: &Previous) -> nix::Result<()> {
    let found = current(signal)?;
    if is_ours(&found) {
        // Because of another listener, or because other code has put back what it once found.
        return Ok(());
    }
    // Before it is replaced: a signal right after that must find the way to the previous handler.
    previous.push(&found);
    let replaced = replace(signal, Some(&ours_instead_of(signal, &found)))?;
    if !is_ours(&replaced) && replaced.handler() != found.handler() {
        // Other code has changed it in between.
        previous.push(&replaced);
    }
    Ok(())
}

/// Our handler, with the side effects of the action that it replaces.
fn ours_instead_of(signal: c_int, found: &Action) -> Action {
    // A copy, for the signals that are blocked while the handler runs.
    let mut action = *found;
    let flags = found.0.sa_flags;
    action.0.sa_sigaction = handle as *const () as usize;
    // On the alternate stack, which matters to programs whose own stacks are small.
    action.0.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | flags & (libc::SA_NODEFER | NO_WAIT);
    if found.handler().is_none() {
        // Signals that come together would each push a frame of some KiB on that stack before any
        // handler has run, and alternate stacks are small: 8 KiB in threads of std. A handler of
        // the program keeps its mask, because it may be left by a `longjmp` that restores none.
        action.0.sa_mask = *SigSet::all().as_ref();
    }
    // A signal that was ignored has interrupted no call so far, and one that would have ended the
    // process must not begin to. A handler of the program may be there just to interrupt calls.
    if found.handler().is_none() || flags & libc::SA_RESTART != 0 {
        action.0.sa_flags |= libc::SA_RESTART;
    }
    // A program that ignores it relies on its children leaving no zombies.
    if signal == SIGCHLD && found.0.sa_sigaction == libc::SIG_IGN {
        action.0.sa_flags |= NO_WAIT;
    }
    action
}

/// Has the system throw the exit statuses of children away.
#[cfg(not(target_os = "hurd"))]
const NO_WAIT: c_int = libc::SA_NOCLDWAIT;
/// The Hurd has no such flag.
#[cfg(target_os = "hurd")]
const NO_WAIT: c_int = 0;

/// Whether the system throws the exit statuses of children away, as the program wants it.
#[cfg(feature = "process")]
pub(crate) fn children_are_ignored() -> io::Result<bool> {
    let action = current(SIGCHLD)?.0;
    Ok(action.sa_sigaction == libc::SIG_IGN || action.sa_flags & NO_WAIT != 0)
}

fn is_ours(action: &Action) -> bool {
    action.handler() == Some(handle as *const () as usize)
}

fn current(signal: c_int) -> nix::Result<Action> {
    replace(signal, None)
}

/// Returns the action of a signal, and sets another if one is given.
fn replace(signal: c_int, new: Option<&Action>) -> nix::Result<Action> {
    let new = new.map_or(ptr::null(), |new| ptr::from_ref(&new.0));
    // SAFETY: all zeroes is a valid `sigaction`.
    let mut old: libc::sigaction = unsafe { zeroed() };
    // SAFETY: `new` is null or points to an action of the caller, whose handler may run at any
    // time: it is ours, or the system had it before. `old` is ours to write to.
    Errno::result(unsafe { libc::sigaction(signal, new, &mut old) })?;
    Ok(Action(old))
}
