//! The order in which ready descriptors are served, for a loop with a seed.

use super::Reactor;
use crate::event_loop::shuffle::{below, reorder};
use std::cmp::Reverse;
use std::os::fd::RawFd;

impl Reactor {
    /// Puts what was ready in the last wait into an order that the seed decides.
    ///
    /// Before that they are put into the order of their registration. The numbers of descriptors
    /// depend on what else the process has open, which must not change the outcome.
    pub(crate) fn shuffle_ready(&mut self) {
        let sources = &self.sources;
        let age = |fd: RawFd| Reverse(sources.get(fd).map(|source| source.generation));
        self.ready
            .sort_by_key(|&(fd, direction)| (age(fd), direction as usize));
        self.events.sort_by_key(|event| age(event.fd));
        reorder(&mut self.ready, below);
        reorder(&mut self.events, below);
    }
}
