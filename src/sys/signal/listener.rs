//! One listener to signals.

use super::disposition;
use super::nodes::{self, Node};
use super::set::{Set, refused};
use crate::sys::fork;
use crate::sys::wake_pipe::WakePipe;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Hears of some signals, from when it is made until it is dropped. As a descriptor, it is readable
/// whenever there may be something to [`take`](Listener::take).
pub(crate) struct Listener {
    node: &'static Node,
    /// The signals for which this listener has been counted as one more.
    heard: Set,
    /// `None` only while it is dropped.
    pipe: Option<WakePipe>,
}

impl Listener {
    pub(crate) fn new(set: Set) -> io::Result<Listener> {
        nodes::watch_forks()?;
        let pipe = WakePipe::new()?;
        let node = Node::acquire();
        // Before the handler is installed, so that nothing is lost in between.
        node.open(set, pipe.write_fd(), pipe.write_file());
        let mut listener = Listener {
            node,
            heard: Set::default(),
            pipe: Some(pipe),
        };
        for signal in set {
            match disposition::add_listener(signal) {
                Ok(()) => listener.heard.insert(signal)?,
                // A number that this system does not have, or keeps to itself.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    return Err(refused(signal));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(listener)
    }

    fn pipe(&self) -> &WakePipe {
        let pipe = self.pipe.as_ref();
        pipe.expect("a listener has a pipe until it is dropped")
    }

    /// Takes all signals that have been raised since the last call; `WouldBlock` if none has.
    pub(crate) fn take(&self) -> io::Result<Set> {
        // In this order. The other way round, a signal in between would set the flag and lose its
        // byte, and nothing would make the listener look at the flag.
        self.pipe().drain();
        let raised = self.node.take();
        if raised == Set::default() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(raised)
    }

    /// In a child of `fork`: replaces the pipe, which is still shared with the parent, by its own.
    /// What the child has been sent meanwhile is kept; call [`take`](Listener::take) next.
    ///
    /// Returns whether there has been a fork.
    pub(crate) fn renew_after_fork(&self) -> io::Result<bool> {
        if !self.node.is_from_before_fork() {
            return Ok(false);
        }
        self.pipe().renew()?;
        let file = self.pipe().write_file();
        self.node.set_renewed(fork::count(), file);
        Ok(true)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        for signal in self.heard {
            disposition::remove_listener(signal);
        }
        let pipe = self.pipe.take();
        if !self.node.close() {
            // A handler may still write to it.
            std::mem::forget(pipe);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe().as_fd()
    }
}
