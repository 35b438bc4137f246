//! For systems on which only SIGCHLD tells of an exit.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ExitStatus};

/// A queue of exits, which cannot be made here.
#[derive(Debug)]
pub(crate) enum ExitQueue {}

/// A child that a queue of exits watches.
#[derive(Debug)]
pub(crate) enum Watched {}

impl ExitQueue {
    pub(crate) fn new() -> io::Result<ExitQueue> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn watch(&self, _pid: u32, _key: usize) -> io::Result<Watched> {
        match *self {}
    }

    pub(crate) fn unwatch(&self, _watched: &Watched) {
        match *self {}
    }

    pub(crate) fn take(&self) -> io::Result<Vec<usize>> {
        match *self {}
    }
}

impl AsFd for ExitQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}

impl Watched {
    pub(crate) fn try_wait(&self, _child: &mut Child) -> io::Result<Option<ExitStatus>> {
        match *self {}
    }

    pub(crate) fn send(&self, _signal: i32) -> io::Result<()> {
        match *self {}
    }
}
