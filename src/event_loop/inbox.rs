//! The inbox: how another thread queues a task of this loop, and ends the wait of the loop.
//!
//! Woken tasks and messages go into the [`Mailbox`], and the wake-up pipe ends the wait in `select`
//! if the loop is asleep.
//!
//! **Invariant.** No wake is lost. A sender puts its node into the mailbox and sees in the same
//! step whether the loop is asleep; the loop marks itself asleep only if the mailbox is empty, also
//! in one step. So either the loop sees the node and does not wait, or the sender sees the mark and
//! writes to the pipe. Wakers are *not* async-signal-safe, as dropping one may free memory.

use super::boundary;
use crate::sys::fork;
use crate::sys::sync::{Arc, OnceLock};
use crate::sys::task::{self, Mailbox, Unpark};
use crate::sys::wake_pipe::{CreateError, WakePipe};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The loop's side of its mailbox.
#[derive(Debug, Clone)]
pub(crate) struct Inbox {
    mailbox: Arc<Mailbox>,
    pipe: std::sync::Arc<Pipe>,
}

/// The wake-up pipe, which is created when the loop first runs.
///
/// The mailbox owns it, and wakers own the mailbox. So a late wake can never write to a descriptor
/// number that has been closed and given to another file.
#[derive(Debug)]
struct Pipe {
    pipe: OnceLock<WakePipe>,
    /// Value of [`fork::count`] when the pipe and the kernel's queue were made. Here and not in the
    /// loop, because each turn compares it, and need not borrow the loop for that.
    n_forks: AtomicUsize,
}

impl Unpark for std::sync::Arc<Pipe> {
    fn unpark(&self) -> bool {
        // Without a pipe the loop is not waiting yet.
        self.pipe.get().is_none_or(|pipe| pipe.notify().is_ok())
    }
}

impl Inbox {
    /// Makes the inbox of this thread's loop.
    pub(crate) fn for_this_thread() -> Inbox {
        // No pipe yet: a thread that only makes sockets or handles needs none.
        let pipe = std::sync::Arc::new(Pipe {
            pipe: OnceLock::new(),
            n_forks: AtomicUsize::new(fork::count()),
        });
        let unpark = Box::new(std::sync::Arc::clone(&pipe));
        Inbox {
            mailbox: Mailbox::for_this_thread(unpark),
            pipe,
        }
    }

    /// The mailbox, for the tasks of this loop.
    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Creates the pipe, unless it exists: before the first wait of the loop.
    pub(crate) fn open_pipe(&self) -> Result<(), CreateError> {
        if self.pipe.pipe.get().is_none() {
            // Only the loop's own thread sets it, so it is still unset.
            let _ = self.pipe.pipe.set(WakePipe::new()?);
        }
        Ok(())
    }

    /// The descriptor that becomes ready when another thread wakes a task of a sleeping loop.
    pub(crate) fn pipe_fd(&self) -> Option<RawFd> {
        self.pipe.pipe.get().map(WakePipe::read_fd)
    }

    /// True in a forked child whose pipe and kernel queue belong to its parent.
    pub(crate) fn is_of_parent(&self) -> bool {
        // Only the loop's own thread writes it.
        self.pipe.n_forks.load(Ordering::Relaxed) != fork::count()
    }

    /// Notes that this process has a pipe and a kernel queue of its own.
    pub(crate) fn set_own(&self) {
        let n_forks = &self.pipe.n_forks;
        n_forks.store(fork::count(), Ordering::Relaxed);
    }

    /// Puts a new pipe in the place of the old one: in a child of `fork`, that is its parent's.
    pub(crate) fn replace_pipe(&self) -> std::io::Result<()> {
        let replaced = self.pipe.pipe.get().map(WakePipe::replace).transpose();
        Ok(replaced.map(drop)?)
    }

    /// Returns whether the pipe is still ours: other code may have closed its descriptors.
    pub(crate) fn owns_pipe(&self) -> bool {
        self.pipe.pipe.get().is_none_or(WakePipe::is_ours)
    }

    /// Empties the pipe, after it was reported as ready. Returns false if what was found there
    /// looks wrong.
    pub(crate) fn drain_pipe(&self) -> bool {
        self.pipe.pipe.get().is_none_or(WakePipe::drain)
    }

    /// Marks the loop asleep. Returns false if something is in the mailbox already; the loop must
    /// then not block.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.mailbox.fall_asleep()
    }

    /// Calls `wait(may_block)` with the loop marked asleep, so that a wake from another thread
    /// writes to the wake-up pipe.
    pub(crate) fn sleep<R>(&self, wait: impl FnOnce(bool) -> R) -> R {
        // The run queue first, which costs nothing to look at. A mark that is not needed would make
        // every sender write to the pipe.
        let may_block = !task::has_queued() && self.fall_asleep();
        let waited = wait(may_block);
        // Not if it was not marked: that would cost an atomic operation in each busy turn.
        if may_block {
            self.wake_up();
        }
        waited
    }

    /// Marks the loop awake.
    pub(crate) fn wake_up(&self) {
        self.mailbox.wake_up();
    }

    /// Queues the tasks that other threads have woken, and delivers their messages.
    pub(crate) fn collect(&self) {
        self.mailbox.collect();
    }

    /// Refuses all wakes and messages from now on.
    pub(crate) fn close(&self) {
        self.mailbox.close();
    }
}

impl Drop for Pipe {
    /// Closes the pipe, and logs an end that other code has closed already.
    fn drop(&mut self) {
        let Some(pipe) = self.pipe.get_mut() else {
            return;
        };
        for (fd, errno) in pipe.close() {
            boundary::warning!("closing descriptor {fd} of the wake-up pipe failed: {errno}");
        }
    }
}
