//! Children whose handles were dropped while they were running. Something has to take their exit
//! statuses, or they stay zombies.

use crate::sys::exit_queue::Watched;
use crate::sys::stack::Stack;
use crate::sys::{self, fork};
use std::io;
use std::process::{Child, ExitStatus};

/// A child whose handle was dropped.
pub(super) struct Orphan {
    child: Child,
    /// By which a status is taken that is certainly this child's.
    watched: Option<Watched>,
    /// Number of counted forks when it was dropped.
    n_forks: usize,
}

/// Orphans of threads that have ended, for other threads to take.
static ABANDONED: Stack<Orphan> = Stack::new();

/// Looks whether a child has exited, and takes its exit status if so.
pub(super) fn try_wait(
    child: &mut Child,
    watched: Option<&Watched>,
) -> io::Result<Option<ExitStatus>> {
    sys::retry_io(|| match watched {
        Some(watched) => watched.try_wait(child),
        None => child.try_wait(),
    })
}

impl Orphan {
    pub(super) fn new(child: Child, watched: Option<Watched>) -> Orphan {
        Orphan {
            child,
            watched,
            n_forks: fork::count(),
        }
    }

    /// Takes the exit status, if there is one. Returns whether this has to be done again later.
    pub(super) fn is_running(&mut self) -> bool {
        // In a forked child, a process of this number is no child of this process or another one.
        // An error means that the status is lost: other code has taken it.
        self.n_forks == fork::count()
            && matches!(try_wait(&mut self.child, self.watched.as_ref()), Ok(None))
    }

    /// The number of the process, which is its own as long as it [is running](Self::is_running).
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Leaves it to another thread, as this one is ending.
    pub(super) fn abandon(self) {
        if self.n_forks == fork::count() {
            ABANDONED.push(self);
        }
    }

    pub(super) fn into_child(self) -> Child {
        self.child
    }
}

/// Takes the running orphans of threads that have ended.
pub(super) fn take_abandoned() -> impl Iterator<Item = Orphan> {
    let abandoned = ABANDONED.take_all().into_iter();
    abandoned.filter_map(|mut orphan| orphan.is_running().then_some(orphan))
}
