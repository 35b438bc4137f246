//! Making the wake-up pipe and the kernel's queue anew: in a child of `fork`, whose pipe and queue
//! are its parent's, and when other code has closed their descriptors.

use super::boundary;
use super::inbox::Inbox;
use super::with;
use crate::sys::task;
use std::mem;

/// Gives a forked child a wake-up pipe of its own, and leaves the kernel queue to the parent.
///
/// All tasks are polled again, because some may wait for what has stayed with the parent: its
/// threads, its children, its queue.
pub(super) fn rebuild_after_fork(inbox: &Inbox) {
    // The queue first: it is recognised by the pipe that it watches.
    with(|l| l.reactor.after_fork());
    if let Err(error) = inbox.replace_pipe() {
        // The next turn tries again. Until then only wakes by other threads are affected.
        boundary::error!("cannot make a wake-up pipe after the fork: {error}; trying again");
        return;
    }
    inbox.set_own();
    let main = with(|l| l.main.clone());
    task::rebuild_after_fork(inbox.mailbox(), main.flatten().as_ref());
    boundary::debug!("forked: pipe and queue are rebuilt");
}

/// Checks whether the wake-up pipe and the kernel's queue are still ours, and makes anew what is
/// not. Returns whether something was.
pub(super) fn repair(inbox: &Inbox) -> bool {
    // A pipe that is gone is in no queue any more. So a queue that does not know the pipe is
    // either a stranger's or useless, and gone in both cases.
    with(|l| l.reactor.check_queue());
    if inbox.owns_pipe() {
        with(|l| l.has_lost_pipe = false);
        return false;
    }
    match inbox.replace_pipe() {
        Ok(()) => {
            with(|l| l.reactor.renew_host());
            boundary::error!(
                "the wake-up pipe was closed by other code, or replaced; there is a new one"
            );
            with(|l| l.has_lost_pipe = false);
            true
        }
        Err(error) => {
            // Once, not in each turn: that may be in a millisecond.
            if with(|l| mem::replace(&mut l.has_lost_pipe, true)) == Some(false) {
                boundary::error!(
                    "the wake-up pipe was closed by other code, or replaced, and cannot be made \
                     anew: {error}; trying again"
                );
            }
            false
        }
    }
}
