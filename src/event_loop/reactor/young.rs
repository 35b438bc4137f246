//! Which descriptors are in the sets of `select`.

use crate::sys::fd_set::FdSet;
use std::os::fd::RawFd;

/// The descriptors for which a task waits in `select` in one direction. A set of bits, because it
/// is copied into an `fd_set` for every wait.
#[derive(Debug, Default)]
pub(super) struct Young {
    fds: FdSet,
    n: usize,
}

impl Young {
    /// Adds `fd`, unless it is there.
    #[inline]
    pub(super) fn insert(&mut self, fd: RawFd) {
        self.n += usize::from(self.fds.add(fd));
    }

    /// Removes `fd`, if it is there.
    #[inline]
    pub(super) fn remove(&mut self, fd: RawFd) {
        self.n -= usize::from(self.fds.take(fd));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.n == 0
    }

    pub(super) fn len(&self) -> usize {
        self.n
    }

    pub(super) fn fds(&self) -> &FdSet {
        &self.fds
    }

    pub(super) fn highest(&self) -> Option<RawFd> {
        // Usually only the set of readers has members.
        match self.n {
            0 => None,
            _ => self.fds.highest(),
        }
    }
}
