//! Hearing of the exits of child processes.
//!
//! Each child has an [`ExitListener`], which waits by one of two ways:
//!
//! - **Watched**: a queue of the kernel tells which children have exited.
//! - **Looked at**: where there is no such queue, or no descriptor is left for it, a waiting task
//!   looks at its child at every SIGCHLD, and once a second in any case: other code of the process
//!   may have taken the handler away or blocked the signal.
//!
//! **Invariants.** Children are waited for one by one, never as "any child", so that the children
//! of other code keep their exit statuses. An exit after a look is not missed by the task that has
//! looked: the watcher keeps what the queue has told, and a look goes with the number of signals
//! that had come before.

use super::looker::{self, Looker};
use super::orphan::{self, Orphan};
use super::watcher::{self, Watcher};
use crate::event_loop::note::Note;
use crate::event_loop::notes::Hidden;
use crate::{event_loop, sys, time};
use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::process::{Child, ExitStatus};
use std::rc::Rc;
use std::time::Duration;

/// How often a waiting task looks at a child that is not watched.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// How soon a task looks again at a child that has exited, but whose exit status is not there yet:
/// the BSDs tell of an exit slightly too early, and the status of a child that a debugger has
/// attached to goes to the debugger first. Doubled each time, up to [`LOOK_PERIOD`].
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// Returns an error if the program ignores SIGCHLD: then there are no exit statuses to wait for.
pub(super) fn check_not_ignored() -> io::Result<()> {
    if sys::signal::children_are_ignored()? {
        return Err(io::Error::other(
            "cannot wait for child processes: the program ignores SIGCHLD, so the system \
             throws their exit statuses away",
        ));
    }
    Ok(())
}

/// Waits for the exit of one child, and takes its exit status.
pub(super) struct ExitListener {
    /// `None` once the child has been given to those who reap orphans.
    way: Option<Way>,
    /// The number of the child, for dumps.
    pid: u32,
    next_pause: Cell<Duration>,
}

enum Way {
    Watched { watcher: Rc<Watcher>, key: usize },
    LookedAt { looker: Rc<Looker>, pid: u32 },
}

impl ExitListener {
    /// Listens to the exit of a child that has not been waited for.
    #[track_caller]
    pub(super) fn new(pid: u32) -> ExitListener {
        adopt_abandoned();
        ExitListener::without_abandoned(pid)
    }

    #[track_caller]
    fn without_abandoned(pid: u32) -> ExitListener {
        let watched = Watcher::of_this_thread().and_then(|watcher| {
            let key = watcher.watch(pid)?;
            Ok(Way::Watched { watcher, key })
        });
        // Errors are not worth a log record: there is another way, and this one may not exist here.
        let way = watched.unwrap_or_else(|_| {
            let looker = Looker::of_this_thread();
            Way::LookedAt { looker, pid }
        });
        ExitListener {
            way: Some(way),
            pid,
            next_pause: Cell::new(FIRST_PAUSE),
        }
    }

    fn way(&self) -> &Way {
        let way = self.way.as_ref();
        way.expect("a listener gives its child away only when it is consumed")
    }

    /// Takes the exit status of the child, if it has exited.
    pub(super) fn try_wait(&self, child: &mut Child) -> io::Result<Option<ExitStatus>> {
        match self.way() {
            Way::Watched { watcher, key } => watcher.try_wait(*key, child),
            Way::LookedAt { looker, .. } => {
                let outcome = orphan::try_wait(child, None);
                if !matches!(outcome, Ok(None)) {
                    looker.on_waited();
                }
                outcome
            }
        }
    }

    /// Sends the child a signal. It has to be known to be a child that has not been waited for.
    pub(super) fn send(&self, child: &Child, signal: i32) -> io::Result<()> {
        match self.way() {
            Way::Watched { watcher, key } => watcher.send(*key, signal),
            Way::LookedAt { .. } => sys::signal::send(child.id(), signal),
        }
    }

    /// To be passed to [`changed`](ExitListener::changed), from before a look.
    pub(super) fn mark(&self) -> u64 {
        match self.way() {
            Way::Watched { .. } => 0,
            Way::LookedAt { looker, .. } => looker.n_signals(),
        }
    }

    /// Waits until it is time to look at the child again, for a reason after `mark`.
    pub(super) async fn changed(&self, mark: u64) {
        // Says in dumps what the task waits for.
        let mut note = Note::default();
        match self.way() {
            Way::Watched { watcher, key } if watcher.has_told(*key) => {
                let pause = self.next_pause.get();
                self.next_pause.set(LOOK_PERIOD.min(2 * pause));
                time::sleep(pause).await;
            }
            Way::Watched { watcher, key } => {
                poll_fn(|cx| {
                    note.put(cx.waker(), Hidden::Child(self.pid));
                    watcher.poll(*key, cx)
                })
                .await;
            }
            Way::LookedAt { looker, pid } => {
                let signal = poll_fn(|cx| {
                    note.put(cx.waker(), Hidden::Child(*pid));
                    looker.poll(*pid, mark, cx)
                });
                // A timeout is no error: it is time to look, too.
                let _ = time::timeout(LOOK_PERIOD, signal).await;
            }
        }
    }

    /// Takes in a child whose handle is being dropped: it will be reaped when it has exited.
    pub(super) fn adopt(mut self, child: Child) {
        event_loop::set_on_run_end(reap_orphans);
        match self.way.take() {
            Some(Way::Watched { watcher, key }) => watcher.adopt(key, child),
            Some(Way::LookedAt { looker, .. }) => looker.adopt(Orphan::new(child, None)),
            None => {}
        }
    }
}

impl Drop for ExitListener {
    fn drop(&mut self) {
        match &self.way {
            Some(Way::Watched { watcher, key }) => watcher.unwatch(*key),
            Some(Way::LookedAt { looker, pid }) => looker.forget(*pid),
            None => {}
        }
    }
}

impl fmt::Debug for ExitListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExitListener").finish_non_exhaustive()
    }
}

/// Reaps what has exited of the children whose handles were dropped.
fn reap_orphans() {
    watcher::reap_orphans();
    looker::reap_orphans();
    adopt_abandoned();
}

/// Takes in the orphans of threads that have ended.
fn adopt_abandoned() {
    for orphan in orphan::take_abandoned() {
        ExitListener::without_abandoned(orphan.id()).adopt(orphan.into_child());
    }
}
