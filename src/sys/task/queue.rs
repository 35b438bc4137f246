//! What a thread knows of its own tasks: which were woken, and all that there are.
//!
//! **Invariant.** Everything in here belongs to the thread that runs it, and needs no lock and no
//! atomics. It has no destructor, so that it can be used while other thread-local values of an
//! ending thread are dropped.

use super::spare::{Block, Spare};
use super::{Arc, Header, Link, Mailbox, Running, Task, TaskRef};
use crate::sys::memory;
use crate::sys::sync::thread_local;
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ptr;

/// What this thread's loop consists of, as far as tasks are concerned.
pub(super) struct Here {
    /// The mailbox of this thread's loop; null where there is none, or no longer.
    pub(super) mailbox: Cell<*const Mailbox>,
    /// Keeps that mailbox, so that no other one can have its address.
    pub(super) kept: Cell<ManuallyDrop<Option<Arc<Mailbox>>>>,
    /// The tasks that were woken, in order.
    pub(super) queue: Queue,
    /// All tasks whose output is not gone, in the order in which they were spawned.
    first: Cell<Link<Header>>,
    last: Cell<Link<Header>>,
    /// Number of tasks in that list, and the most there have been since memory was given back.
    n_listed: Cell<usize>,
    max_listed: Cell<usize>,
    /// Number of tasks that have not ended and are not daemons: `run` waits for them.
    pub(super) n_awaited: Cell<usize>,
    /// Memory for further tasks.
    pub(super) spare: ManuallyDrop<Spare>,
}

/// If there were this many tasks and seven eighths of them are gone, memory is given back.
const MANY: usize = 64 * 1024;

thread_local! {
    // Without a destructor, so that it can be used in the destructors of other thread-local values.
    pub(super) static HERE: Here = const {
        Here {
            mailbox: Cell::new(ptr::null()),
            kept: Cell::new(ManuallyDrop::new(None)),
            queue: Queue::new(),
            first: Cell::new(Link::NULL),
            last: Cell::new(Link::NULL),
            n_listed: Cell::new(0),
            max_listed: Cell::new(0),
            n_awaited: Cell::new(0),
            spare: ManuallyDrop::new(Spare::new()),
        }
    };
}

impl Here {
    /// Appends a task to the list of all tasks.
    pub(super) fn list(&self, link: Link<Header>) {
        let last = self.last.replace(link);
        if let Some(task) = link.get() {
            task.previous.set(last);
        }
        let n_listed = self.n_listed.get() + 1;
        self.n_listed.set(n_listed);
        self.max_listed.set(self.max_listed.get().max(n_listed));
        match last.get() {
            Some(last) => last.following.set(link),
            None => self.first.set(link),
        }
    }

    /// Takes a task out of the list of all tasks.
    pub(super) fn unlist(&self, link: Link<Header>) {
        let Some(task) = link.get() else { return };
        let (previous, following) = (task.previous.get(), task.following.get());
        match previous.get() {
            Some(previous) => previous.following.set(following),
            None => self.first.set(following),
        }
        match following.get() {
            Some(following) => following.previous.set(previous),
            None => self.last.set(previous),
        }
        self.n_listed.set(self.n_listed.get() - 1);
    }

    /// Gives memory back after a time with very many tasks. Called when a task was freed.
    pub(super) fn trim(&self) {
        let n_listed = self.n_listed.get();
        if self.max_listed.get() >= MANY && n_listed <= self.max_listed.get() / 8 {
            self.max_listed.set(n_listed);
            self.spare.clear();
            memory::give_back();
        }
    }

    /// Frees the memory of a task, or keeps it for another one.
    pub(super) fn free(&self, block: Block) {
        // A thread without a loop spawns no task, and frees nothing when it ends.
        if !self.mailbox.get().is_null() {
            self.spare.put(block);
        }
    }

    /// Calls `f` with all tasks in the order in which they were spawned. `f` must not change the
    /// list.
    fn each(&self, mut f: impl FnMut(Link<Header>)) {
        let mut link = self.first.get();
        while let Some(task) = link.get() {
            f(link);
            link = task.following.get();
        }
    }
}

/// Tasks that were woken, linked by `next`.
pub(super) struct Queue {
    first: Cell<Link<Header>>,
    last: Cell<Link<Header>>,
}

impl Queue {
    const fn new() -> Queue {
        Queue {
            first: Cell::new(Link::NULL),
            last: Cell::new(Link::NULL),
        }
    }

    pub(super) fn push(&self, link: Link<Header>) {
        if let Some(task) = link.get() {
            task.node.next.set(ptr::null_mut());
        }
        match self.last.replace(link).get() {
            Some(last) => last.node.next.set(link.0.cast()),
            None => self.first.set(link),
        }
    }

    fn pop(&self) -> Link<Header> {
        let link = self.first.get();
        if let Some(task) = link.get() {
            let next = Link(task.node.next.get().cast());
            self.first.set(next);
            if next.is_null() {
                self.last.set(next);
            }
        }
        link
    }

    /// Moves all entries of `other` behind the last one.
    fn append(&self, other: &Queue) {
        let (first, last) = (
            other.first.replace(Link::NULL),
            other.last.replace(Link::NULL),
        );
        if first.is_null() {
            return;
        }
        match self.last.replace(last).get() {
            Some(last) => last.node.next.set(first.0.cast()),
            None => self.first.set(first),
        }
    }
}

/// Returns true if a task of this thread is waiting to be polled.
pub(crate) fn has_queued() -> bool {
    HERE.with(|here| !here.queue.first.get().is_null())
}

/// The tasks of this thread that were woken up to now. What is left when it is dropped goes back
/// to the front of the queue: a task that is in no queue would never be polled again.
pub(crate) struct Batch(Queue);

impl Batch {
    pub(crate) fn take() -> Batch {
        let batch = Batch(Queue::new());
        HERE.with(|here| batch.0.append(&here.queue));
        batch
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.first.get().is_null()
    }

    /// Puts the tasks into the order that `pick` says: it returns a number below its argument.
    pub(crate) fn shuffle(&mut self, mut pick: impl FnMut(usize) -> usize) {
        let mut links = Vec::new();
        loop {
            let link = self.0.pop();
            if link.is_null() {
                break;
            }
            links.push(link);
        }
        while !links.is_empty() {
            self.0.push(links.swap_remove(pick(links.len())));
        }
    }

    /// Takes out the next task that has not finished yet.
    pub(crate) fn next(&mut self) -> Option<Running> {
        loop {
            let task = self.0.pop().uncounted()?;
            let Some(is_aborted) = task.leave_queue() else {
                // It finished while it was queued, and gave its entry a reference.
                drop(ManuallyDrop::into_inner(task));
                continue;
            };
            if let Some(running) = Running::enter(&task, is_aborted) {
                return Some(running);
            }
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        HERE.with(|here| {
            self.0.append(&here.queue);
            here.queue.append(&self.0);
        });
    }
}

/// All tasks of this thread whose output is not gone, in the order in which they were spawned.
pub(crate) fn all() -> Vec<Task> {
    let mut found = Vec::new();
    HERE.with(|here| {
        here.each(|link| {
            found.extend(
                link.uncounted()
                    .map(|task| Task::new(TaskRef::clone(&task))),
            )
        });
    });
    found
}

/// The number of tasks of this thread that have not ended and are not daemons.
pub(crate) fn n_awaited() -> usize {
    HERE.with(|here| here.n_awaited.get())
}

/// The number of tasks of this thread that have not ended.
pub(crate) fn n_unfinished() -> usize {
    let mut n = 0;
    HERE.with(|here| {
        here.each(|link| {
            n += usize::from(link.uncounted().is_some_and(|task| !task.is_finished()));
        });
    });
    n
}

/// Number of tasks in the list of all tasks, and number of those that wait to be polled.
pub(crate) fn n_listed_and_queued() -> (usize, usize) {
    let mut n_queued = 0;
    HERE.with(|here| {
        here.each(|link| {
            let is_queued = link.uncounted().is_some_and(|task| task.will_be_polled());
            n_queued += usize::from(is_queued);
        });
        (here.n_listed.get(), n_queued)
    })
}

/// Queues all tasks and `main` in the child of a fork, in which no other thread goes on.
///
/// A thread may have been in the middle of a wake: then a task is marked as queued, but is in no
/// queue. So nothing that the marks say is believed.
pub(crate) fn rebuild_after_fork(mailbox: &Mailbox, main: Option<&Task>) {
    mailbox.collect();
    HERE.with(|here| {
        let queued = Queue::new();
        queued.append(&here.queue);
        here.each(|link| {
            if let Some(task) = link.uncounted() {
                task.clear_queued();
            }
        });
        if let Some(main) = main {
            main.clear_queued();
        }
        // Those that were queued first, in their order.
        while let Some(task) = queued.pop().uncounted() {
            if task.is_finished() {
                drop(ManuallyDrop::into_inner(task));
            } else {
                task.wake_by_ref();
            }
        }
        here.each(|link| {
            if let Some(task) = link.uncounted() {
                task.wake_by_ref();
            }
        });
        if let Some(main) = main {
            main.wake_by_ref();
        }
    });
}

/// Gives up what is queued on a thread whose loop has ended, and so all of its tasks.
pub(crate) fn clear_queue() {
    let mut batch = Batch::take();
    while batch.next().is_some() {}
}
