//! What the loop knows of its tasks as a whole: their ids, and what they are called.
//!
//! The tasks themselves are in a list that `sys::task` keeps for each thread, and are woken, polled
//! and dropped where they are. This table knows no clock and no descriptor.
//!
//! **Invariant.** Ids are never reused. A name stays until the output of its task is gone.

use super::boundary;
use super::inbox::Inbox;
use crate::sys::task::{self, Birth, Ended, MainTask, Task};
use std::collections::BTreeMap;
use std::panic::Location;
use std::task::Waker;

/// Numbers and names the tasks of one loop.
pub(crate) struct Tasks {
    /// The names of tasks by their ids. Most tasks have none, so this is not part of a task.
    names: BTreeMap<u64, Box<str>>,
    /// The id of the next task. Zero stands for a task that was spawned on an ending thread.
    next_id: u64,
    /// Number of main futures so far, which have ids as well.
    n_mains: u64,
}

impl Tasks {
    pub(crate) fn new() -> Tasks {
        Tasks {
            names: BTreeMap::new(),
            next_id: 1,
            n_mains: 0,
        }
    }

    /// Numbers and names a task that is about to be spawned.
    pub(crate) fn admit(
        &mut self,
        inbox: &Inbox,
        name: Option<Box<str>>,
        is_daemon: bool,
        place: &'static Location<'static>,
    ) -> Birth {
        let id = self.take_id();
        let is_named = name.is_some();
        if let Some(name) = name {
            self.names.insert(id, name);
        }
        Birth {
            id,
            place,
            mailbox: inbox.mailbox().clone(),
            is_daemon,
            is_named,
        }
    }

    /// Makes the task that stands for the main future.
    pub(crate) fn admit_main(&mut self, inbox: &Inbox) -> MainTask {
        self.n_mains += 1;
        MainTask::new(Birth {
            id: self.take_id(),
            place: Location::caller(),
            mailbox: inbox.mailbox().clone(),
            // No loop waits for it as for a task.
            is_daemon: true,
            is_named: false,
        })
    }

    /// Forgets the name of a task whose output is about to be gone, and returns it.
    pub(crate) fn take_name(&mut self, id: u64) -> Option<Box<str>> {
        self.names.remove(&id)
    }

    /// Returns the name of a task, if it has one.
    #[cfg(feature = "dump")]
    pub(crate) fn name(&self, id: u64) -> Option<&str> {
        self.names.get(&id).map(Box::as_ref)
    }

    /// Number of tasks that were spawned so far.
    pub(crate) fn n_spawned(&self) -> u64 {
        self.next_id - 1 - self.n_mains
    }

    /// Describes `task`: its id, its name, and where it was spawned.
    pub(crate) fn describe(&self, task: &Task) -> String {
        let (id, place) = (task.id(), task.place());
        match self.names.get(&id) {
            Some(name) => format!("task {id} ({name:?}, spawned at {place})"),
            None => format!("task {id} (spawned at {place})"),
        }
    }

    /// Describes the task that `waker` belongs to. Returns `None` if it is no waker of a task of
    /// this loop.
    pub(crate) fn describe_task_of(&self, waker: &Waker) -> Option<String> {
        let task = task::all().into_iter().find(|t| t.is_woken_by(waker))?;
        Some(self.describe(&task))
    }

    fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}

/// Wakes the task that awaits the handle of an ended task, and drops the output if there is no
/// handle. A panic that no handle will return is logged, with `name` as the name of the task.
///
/// Runs foreign code, so nothing may be borrowed.
pub(crate) fn conclude(ended: Ended, name: Option<Box<str>>) {
    if let Some(joiner) = ended.joiner {
        boundary::wake(joiner);
    }
    if let Some(task) = ended.unclaimed {
        task.discard(name.as_deref());
    }
}
