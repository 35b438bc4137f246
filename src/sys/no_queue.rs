//! Stands for the kernel's queue where there is none that we use: everything stays in `select`.

use super::select::Waited;
use super::{Errno, Event, Trigger};
use std::convert::Infallible;
use std::os::fd::RawFd;
use std::time::Duration;

/// A queue that cannot be had.
#[derive(Debug)]
pub(crate) struct Queue(Infallible);

impl Queue {
    pub(crate) fn new() -> nix::Result<Queue> {
        Err(Errno::ENOSYS)
    }

    pub(crate) fn fd(&self) -> RawFd {
        match self.0 {}
    }

    pub(crate) const REPORTS_ROOM_ON_REQUEST: bool = false;

    pub(crate) fn add(&self, _fd: RawFd, _generation: u32, _trigger: Trigger) -> nix::Result<()> {
        match self.0 {}
    }

    pub(crate) fn report_room(&self, _fd: RawFd, _generation: u32) -> nix::Result<()> {
        match self.0 {}
    }

    pub(crate) fn watches(&self, _fd: RawFd, _to_write: bool) -> bool {
        match self.0 {}
    }

    pub(crate) fn leave_to_parent(self, _pipe: RawFd) {
        match self.0 {}
    }

    pub(crate) fn is_ours(&self, _pipe: RawFd) -> bool {
        match self.0 {}
    }

    pub(crate) fn remove(&self, _fd: RawFd) {
        match self.0 {}
    }

    pub(crate) fn wait(&mut self, _wait: Option<Duration>, _each: impl FnMut(Event)) -> Waited {
        match self.0 {}
    }
}
