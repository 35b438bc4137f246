//! Which child has exited, where no queue tells.

/// What is known about children that have exited and have not been waited for.
#[allow(dead_code, reason = "not every system can be asked")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exited {
    /// There is this one, and there may be more.
    Child(u32),
    /// No child has exited that was not waited for.
    Nothing,
    /// The system cannot be asked, or the answer is not to be had.
    Unknown,
}

/// Looks for a child that has exited, of whatever code of this process, and leaves it alone.
#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "haiku"
))]
pub(crate) fn first() -> Exited {
    use super::{Errno, retry};
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    // WNOWAIT: its exit status stays for whoever has started it.
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match retry(|| waitid(Id::All, look)) {
        Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => Exited::Nothing,
        Ok(status) => match status.pid() {
            Some(pid) => Exited::Child(pid.as_raw().unsigned_abs()),
            None => Exited::Unknown,
        },
        // Ended by a signal that nix has no name for.
        Err(_) => Exited::Unknown,
    }
}

/// nix does not offer `waitid` there.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "haiku"
)))]
pub(crate) fn first() -> Exited {
    Exited::Unknown
}
