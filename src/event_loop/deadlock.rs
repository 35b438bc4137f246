//! Which tasks of a [`Dump`] can never go on, and which of them wait for each other.

use super::dump::{Dump, TaskDump, TaskState, WaitsFor};
use super::join_error::Id;
use std::collections::{BTreeMap, BTreeSet};

impl Dump {
    /// Returns the tasks that can never go on: those that nothing can wake, those that wait for the
    /// end of such a task and for nothing else, and those that wait for each other. A waker that is
    /// held elsewhere counts as one that may be called.
    ///
    /// Unlike the report of a [stuck loop](crate::Builder::panic_when_stuck), this also finds tasks
    /// that are stuck while others go on.
    ///
    /// An [`Event`](crate::Event) can be signalled by its notifiers, by other code that knows its
    /// descriptor, and by any task of its thread that can reach the event itself. So a task that
    /// waits for one is stuck for certain only if no notifier is left, if all tasks of the loop are
    /// stuck, and if no other thread can send a task ([`Handle`](crate::task::Handle)) or a
    /// destructor ([`Local`](crate::Local)). Simulated connections are like an event without
    /// notifiers.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::{dump, spawn, yield_now};
    ///
    /// fahrenheit::block_on(async {
    ///     let lost = spawn(std::future::pending::<()>());
    ///     let waits = spawn(lost);
    ///     yield_now().await;
    ///     let dump = dump();
    ///     assert_eq!(dump.stuck().len(), 2, "one is lost, and the other waits for it");
    ///     assert!(dump.circles().is_empty());
    ///     assert!(dump.tasks.iter().any(|task| task.is_lost()));
    ///     drop(waits);
    /// });
    /// ```
    pub fn stuck(&self) -> Vec<Id> {
        let is_candidate = |task: &&TaskDump| {
            task.state == TaskState::Waiting
                && task.n_wakers_elsewhere == 0
                && task.waits_for.iter().all(WaitsFor::ends_by_tasks_alone)
        };
        // First all tasks that only tasks could wake; then those are taken out, again and again,
        // that wait for the end of a task which may end.
        let mut stuck: Vec<_> = self.tasks.iter().filter(is_candidate).collect();
        retain_joins_of_stuck(&mut stuck);
        let is_unfinished = |task: &&TaskDump| task.state != TaskState::Finished;
        let n_unfinished = self.tasks.iter().filter(is_unfinished).count();
        // A future with a waker of its own belongs to a task that is not stuck for certain.
        if stuck.len() < n_unfinished || !self.unattributed.is_empty() || self.is_reachable {
            // What goes on may signal events and write to simulated connections.
            let is_join = |wait: &WaitsFor| matches!(wait, WaitsFor::Join(_));
            stuck.retain(|task| task.waits_for.iter().all(is_join));
            retain_joins_of_stuck(&mut stuck);
        }
        stuck.iter().map(|task| task.id).collect()
    }

    /// Returns circles of [stuck](Dump::stuck) tasks: each task waits for the end of the next one,
    /// and the last for that of the first. Each begins with its smallest id, and no task is in two.
    pub fn circles(&self) -> Vec<Vec<Id>> {
        let stuck: BTreeSet<_> = self.stuck().into_iter().collect();
        // All waits of a stuck task are for stuck tasks, so any of them leads on.
        let awaited = |task: &TaskDump| {
            task.waits_for.iter().find_map(|wait| match wait {
                WaitsFor::Join(id) => Some(*id),
                _ => None,
            })
        };
        let tasks = self.tasks.iter().filter(|task| stuck.contains(&task.id));
        let next: BTreeMap<_, _> = tasks.map(|task| (task.id, awaited(task))).collect();
        let mut circles = Vec::new();
        let mut seen = BTreeSet::new();
        for &first in &stuck {
            // Follows the tasks until one has no further task to wait for, or was met before.
            let mut path = Vec::new();
            let mut here = Some(first);
            while let Some(id) = here.filter(|id| seen.insert(*id)) {
                path.push(id);
                here = next.get(&id).copied().flatten();
            }
            // The circle begins where the path meets itself, if it does: before that are tasks that
            // wait for one of the circle.
            if let Some(at) = path.iter().position(|id| Some(*id) == here) {
                let mut circle = path.split_off(at);
                let smallest = (0..circle.len()).min_by_key(|&n| circle[n]);
                circle.rotate_left(smallest.unwrap_or(0));
                circles.push(circle);
            }
        }
        circles
    }

    /// Returns true if no task of the loop can go on, for certain.
    pub(crate) fn is_all_stuck(&self) -> bool {
        let is_unfinished = |task: &&TaskDump| task.state != TaskState::Finished;
        self.stuck().len() == self.tasks.iter().filter(is_unfinished).count()
    }
}

/// Takes out tasks that wait for one that is not in the list, until there are none.
fn retain_joins_of_stuck(stuck: &mut Vec<&TaskDump>) {
    loop {
        let ids: BTreeSet<_> = stuck.iter().map(|task| task.id).collect();
        stuck.retain(|task| {
            let mut waits = task.waits_for.iter();
            waits.all(|wait| match wait {
                WaitsFor::Join(id) => ids.contains(id),
                _ => true,
            })
        });
        if stuck.len() == ids.len() {
            return;
        }
    }
}
