//! What the loop knows of its tasks as a whole: their ids, and what they are called.
//!
//! The tasks themselves are in a list that `sys::task` keeps for each thread, and are woken, polled
//! and dropped where they are. This table knows no clock and no descriptor.
//!
//! **Invariant.** Ids are never reused. A name stays until the output of its task is gone.

use super::boundary;
use super::inbox::Inbox;
use super::join_error::Id;
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

/// A task that can never be woken again.
pub(crate) struct Stuck {
    /// The task, its name, and where it was spawned.
    pub(crate) task: String,
    /// The task whose handle it awaits.
    pub(crate) awaits: Option<Id>,
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

    /// Returns all unfinished tasks and `main`, if each waker of theirs is held by the loop itself,
    /// so that none of them can ever be woken.
    pub(crate) fn stuck(&self, main: Option<&Task>) -> Option<Vec<Stuck>> {
        let tasks = task::all();
        let unfinished = || tasks.iter().filter(|task| !task.is_finished());
        // By the address of the task: how many references are not those of the loop, and what is
        // reported.
        let mut others = BTreeMap::new();
        if let Some(main) = main {
            // The function that runs the main future has one, and the loop another.
            let n_others = main.n_references().saturating_sub(2);
            let text = "the main future".to_owned();
            others.insert(main.address(), (n_others, text, None));
        }
        for task in unfinished() {
            if task.is_queued() {
                return None;
            }
            // The list of all tasks has one, the vector above another, and the handle a third.
            let n_own = 2 + usize::from(!task.is_detached());
            let n_others = task.n_references().saturating_sub(n_own);
            others.insert(task.address(), (n_others, self.describe(task), None));
        }
        // A waker that waits for one of these tasks to end is no help.
        for task in unfinished() {
            let joiner = task.with_joiner(|joiner| joiner.as_ref().map(Waker::data));
            if let Some((n_others, _, awaits)) = joiner.and_then(|data| others.get_mut(&data)) {
                *n_others = n_others.saturating_sub(1);
                *awaits = Some(Id(task.id()));
            }
        }
        let stuck = others.into_values().map(|(n_others, task, awaits)| {
            let stuck = Stuck { task, awaits };
            (n_others == 0).then_some(stuck)
        });
        stuck.collect()
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
