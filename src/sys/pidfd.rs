//! Opens pidfds, descriptors that become readable when a process ends (`pidfd_open(2)`).

use super::Errno;
use super::create::own;
use nix::libc;
use std::os::fd::OwnedFd;

/// Opens a pidfd, which is close-on-exec.
pub(super) fn open(pid: u32) -> nix::Result<OwnedFd> {
    // SAFETY: takes a number and no flags; touches no memory.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    own(fd as i32)
}
