//! A queue in the kernel that tells which child processes have exited.
//!
//! One queue stands for any number of children, and an exit costs the same however many there are.
//! It needs no signal, so it works whatever other code of the process does with SIGCHLD.
//!
//! - Linux: an epoll of pidfds. A pidfd names one process for good, also when the number of the
//!   process is in use again, so it is also what a signal is sent through.
//! - macOS and the BSDs: a kqueue with `EVFILT_PROC`, which needs no descriptor for each child.
//! - Elsewhere there is none. Android has pidfds, but its list of allowed system calls kills a
//!   process for trying. On Linux, `--cfg fahrenheit_plain_flags` and `--cfg fahrenheit_no_queue`
//!   take it away, so that tests can run what is done without, and `--cfg fahrenheit_kqueue` has
//!   the code for kqueue run on a stand-in.
//!
//! All of these offer the same: `ExitQueue`, and a `Watched` for each child in it. Making either
//! may fail, for a lack of descriptors or because the kernel is old; the caller then does without.
//!
//! **Invariant.** In a child of `fork`, nothing is done to the queue of the parent.

#[cfg_attr(
    all(
        target_os = "linux",
        not(any(fahrenheit_kqueue, fahrenheit_no_queue)),
        not(fahrenheit_plain_flags),
    ),
    path = "exit_queue/pidfd.rs"
)]
#[cfg_attr(
    any(
        all(target_os = "linux", fahrenheit_kqueue),
        target_vendor = "apple",
        target_os = "freebsd",
        target_os = "dragonfly",
        target_os = "netbsd",
        target_os = "openbsd",
    ),
    path = "exit_queue/proc_filter.rs"
)]
#[cfg_attr(
    not(any(
        all(target_os = "linux", fahrenheit_kqueue),
        all(
            target_os = "linux",
            not(any(fahrenheit_plain_flags, fahrenheit_no_queue)),
        ),
        target_vendor = "apple",
        target_os = "freebsd",
        target_os = "dragonfly",
        target_os = "netbsd",
        target_os = "openbsd",
    )),
    path = "exit_queue/absent.rs"
)]
mod system;

pub(crate) use system::{ExitQueue, Watched};

/// Maximum number of exits that one call takes.
#[allow(dead_code, reason = "unused where there is no such queue")]
const MAX_EXITS: usize = 64;
