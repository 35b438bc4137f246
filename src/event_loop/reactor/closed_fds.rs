//! Descriptors that were closed behind the loop: who they are, and who waited for them.

use super::source::Tenure;
use super::{ClosedFd, Reactor};
use crate::sys::fd::is_open;
use std::os::fd::RawFd;

/// How many registrations one audit looks at.
const AUDIT: usize = 64;

impl Reactor {
    /// After EBADF: finds the descriptors in `select` that are no longer open, marks their
    /// registrations dead, and takes their waiters.
    pub(crate) fn find_closed_fds(&mut self) -> Vec<ClosedFd> {
        let mut fds: Vec<RawFd> = self.reads.keys().copied().collect();
        fds.extend(self.writes.keys().chain(self.excepts.keys()));
        fds.sort_unstable();
        fds.dedup();
        fds.into_iter()
            .filter_map(|fd| self.closed_fd(fd))
            .collect()
    }

    /// Looks whether a few of the tenured descriptors are still open: `select` says EBADF about one
    /// that was closed behind the loop, but the queue forgets it without a word.
    pub(crate) fn audit(&mut self) -> Vec<ClosedFd> {
        let first = if self.audited < self.sources.len() {
            self.audited
        } else {
            0
        };
        self.audited = first + AUDIT;
        let last = self.audited.min(self.sources.len());
        // Nothing is collected beforehand: this runs often, and is to allocate nothing.
        let mut closed = Vec::new();
        for index in first..last {
            let source = self.sources.get(index).and_then(Option::as_ref);
            let waited_for = source.is_some_and(|s| s.tenure == Tenure::Tenured && s.has_parked());
            if waited_for {
                closed.extend(self.closed_fd(index as RawFd));
            }
        }
        closed
    }

    /// Ends the registration of `fd` if it is no longer open.
    fn closed_fd(&mut self, fd: RawFd) -> Option<ClosedFd> {
        if is_open(fd) {
            return None;
        }
        let mut waiters = Vec::new();
        self.take_all(fd, &mut waiters);
        let source = self.sources.get_mut(fd as usize)?.as_mut()?;
        source.dead = true;
        source.tenure = Tenure::Refused;
        Some(ClosedFd {
            fd,
            place: source.place,
            waiters,
        })
    }
}
