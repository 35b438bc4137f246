//! Stands in for `host_queue` where a host waits for lists of descriptors.

use super::Errno;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

/// A queue for hosts, which cannot be made here.
#[derive(Debug)]
pub(crate) enum HostQueue {}

/// What to watch of a descriptor: reading, writing, exceptional conditions.
pub(crate) type Ways = [bool; 3];

impl HostQueue {
    pub(crate) fn new() -> nix::Result<HostQueue> {
        Err(Errno::ENOSYS)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }

    pub(crate) fn watch(&self, _fd: RawFd, _ways: Ways, _is_own: bool) -> nix::Result<()> {
        match *self {}
    }

    pub(crate) fn forget(&self, _fd: RawFd) {
        match *self {}
    }

    pub(crate) fn set_timer(&self, _after: Option<Duration>) -> nix::Result<()> {
        match *self {}
    }

    pub(crate) fn settle(&self) -> bool {
        match *self {}
    }

    pub(crate) fn is_ours(&self) -> bool {
        match *self {}
    }
}
