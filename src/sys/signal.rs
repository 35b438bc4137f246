//! The signal handler, and the listeners to signals.
//!
//! The handler does what a handler may: for each listener that wants the signal it sets a flag in a
//! list of atomics and writes one byte into the listener's pipe; then it calls the handler that was
//! there before. It takes no lock, allocates nothing, and leaves errno as it was.
//!
//! Why not the crate signal-hook-registry: it never puts back what was there before, so after the
//! first listener Ctrl-C would never again end the program by itself.
//!
//! | module | what it knows |
//! |---|---|
//! | `set` | numbers and names of signals |
//! | `published` | references that a handler may read while they change |
//! | `gate` | the way of a handler to the pipe of one listener, which can be closed |
//! | `nodes` | the listeners, as the handler sees them; forks |
//! | `previous` | the handlers that were there before, and whose turn it is |
//! | `disposition` | the handler; when it is installed and removed |
//! | `listener` | one listener |
//!
//! **Invariants.** What the handler reads is never freed. There is no lock that another thread
//! could hold at the moment of a fork. What was there before a signal's first listener is back
//! after its last, unless other code has installed its own handler since.

mod disposition;
mod gate;
mod listener;
mod nodes;
mod previous;
mod published;
mod set;

use super::Errno;
use nix::libc;
use std::ffi::c_int;
use std::io;

#[cfg(feature = "process")]
pub(crate) use disposition::children_are_ignored;
pub(crate) use listener::Listener;
pub(crate) use set::{Set, name};

#[cfg(not(target_os = "haiku"))]
pub(crate) use nix::libc::SIGIO;
/// The name that POSIX has for it, and the only one there.
#[cfg(target_os = "haiku")]
pub(crate) use nix::libc::SIGPOLL as SIGIO;
pub(crate) use nix::libc::{
    SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGQUIT, SIGSTOP, SIGTERM,
    SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGUSR1, SIGUSR2, SIGWINCH,
};

/// Sends a signal to one process, never to a process group.
#[allow(dead_code, reason = "only the feature `process` sends signals")]
pub(crate) fn send(pid: u32, signal: c_int) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| Errno::ESRCH)?;
    if pid < 1 {
        return Err(Errno::ESRCH.into());
    }
    let signal = nix::sys::signal::Signal::try_from(signal)?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal)?;
    Ok(())
}
