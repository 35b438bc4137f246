//! Children that a queue of the kernel watches: it tells which of them have exited.
//!
//! A thread with such children has one queue and one task that reads it. An exit wakes the task
//! that waits for this child and no other, however many there are.
//!
//! **Invariant.** The queue tells of each exit once, so what it has told is kept with the child.

use super::looker::Looker;
use super::orphan::{self, Orphan};
use crate::event_loop::boundary;
use crate::fd::AsyncFd;
use crate::sys::exit_queue::{ExitQueue, Watched};
use crate::sys::fork;
use crate::task::Builder;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::process::{Child, ExitStatus};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

thread_local! {
    static WATCHER: RefCell<Weak<Watcher>> = const { RefCell::new(Weak::new()) };
    /// Keeps the watcher alive for as long as there are orphans.
    static KEPT: RefCell<Option<Rc<Watcher>>> = const { RefCell::new(None) };
}

pub(super) struct Watcher {
    queue: AsyncFd<ExitQueue>,
    /// By the keys that the queue returns.
    children: RefCell<BTreeMap<usize, WatchedChild>>,
    next_key: Cell<usize>,
    n_orphans: Cell<usize>,
    /// Number of counted forks when the queue was made.
    n_forks: usize,
    /// True once the queue cannot be read any more: other code has closed its descriptor.
    is_broken: Cell<bool>,
}

struct WatchedChild {
    watched: Watched,
    /// True once the queue has told of its exit.
    has_exited: bool,
    /// The task that waits for it.
    waiter: Option<Waker>,
    /// The child itself, once its handle was dropped.
    orphan: Option<Child>,
}

impl Watcher {
    /// The watcher of this thread and this process; an error if there can be none.
    #[track_caller]
    pub(super) fn of_this_thread() -> io::Result<Rc<Watcher>> {
        let known = WATCHER.try_with(|watcher| watcher.borrow().upgrade());
        if let Some(watcher) = known.ok().flatten().filter(|known| known.is_usable()) {
            return Ok(watcher);
        }
        let watcher = Rc::new(Watcher {
            queue: AsyncFd::new(ExitQueue::new()?)?,
            children: RefCell::default(),
            next_key: Cell::new(0),
            n_orphans: Cell::new(0),
            n_forks: fork::count(),
            is_broken: Cell::new(false),
        });
        let weak = Rc::downgrade(&watcher);
        let task = Builder::new().name("exits of children").daemon(true);
        drop(task.spawn(read_exits(Weak::clone(&weak))));
        // If the thread is ending, its next child gets a watcher of its own.
        let _ = WATCHER.try_with(|known| known.replace(weak));
        Ok(watcher)
    }

    /// False in a forked child, where the queue is its parent's, and once it is broken.
    fn is_usable(&self) -> bool {
        !self.is_broken.get() && self.n_forks == fork::count()
    }

    /// Watches a child that has not been waited for. Returns its key.
    pub(super) fn watch(&self, pid: u32) -> io::Result<usize> {
        let key = self.next_key.get();
        let watched = self.queue.get_ref().watch(pid, key)?;
        self.next_key.set(key + 1);
        let child = WatchedChild {
            watched,
            has_exited: false,
            waiter: None,
            orphan: None,
        };
        self.children.borrow_mut().insert(key, child);
        Ok(key)
    }

    fn remove(&self, key: usize) -> Option<WatchedChild> {
        let child = self.children.borrow_mut().remove(&key)?;
        self.queue.get_ref().unwatch(&child.watched);
        Some(child)
    }

    /// Stops watching a child; its waiting task is forgotten.
    pub(super) fn unwatch(&self, key: usize) {
        let child = self.remove(key);
        // Dropping a waker may run foreign code, which must find nothing borrowed.
        drop(child);
    }

    /// `Child::try_wait`, by the most exact name that the system has for the process.
    pub(super) fn try_wait(&self, key: usize, child: &mut Child) -> io::Result<Option<ExitStatus>> {
        let children = self.children.borrow();
        orphan::try_wait(child, children.get(&key).map(|child| &child.watched))
    }

    /// Sends a signal to a child that is running, or has exited and not been waited for.
    pub(super) fn send(&self, key: usize, signal: i32) -> io::Result<()> {
        match self.children.borrow().get(&key) {
            Some(child) => child.watched.send(signal),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Whether there is nothing to wait for: the child has exited, or the queue will not tell.
    pub(super) fn has_told(&self, key: usize) -> bool {
        let children = self.children.borrow();
        !self.is_usable() || children.get(&key).is_none_or(|child| child.has_exited)
    }

    /// Waits until the child has exited, or the queue can no longer be relied on.
    pub(super) fn poll(&self, key: usize, cx: &Context<'_>) -> Poll<()> {
        if self.has_told(key) {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        let displaced = match self.children.borrow_mut().get_mut(&key) {
            Some(child) => child.waiter.replace(waker),
            None => None,
        };
        drop(displaced);
        Poll::Pending
    }

    /// Takes in a child whose handle was dropped.
    pub(super) fn adopt(self: Rc<Watcher>, key: usize, orphan: Child) {
        if let Some(child) = self.children.borrow_mut().get_mut(&key) {
            child.orphan = Some(orphan);
            self.n_orphans.set(self.n_orphans.get() + 1);
        }
        if self.has_told(key) {
            self.reap(key);
        }
        if self.n_orphans.get() > 0 {
            let displaced = KEPT.try_with(|kept| kept.replace(Some(self)));
            drop(displaced);
        }
    }

    /// Takes the exit status of an orphan.
    fn reap(&self, key: usize) {
        let is_orphan = |child: &WatchedChild| child.orphan.is_some();
        if !self.children.borrow().get(&key).is_some_and(is_orphan) {
            return;
        }
        let Some(child) = self.remove(key) else {
            return;
        };
        self.n_orphans.set(self.n_orphans.get() - 1);
        if let Some(orphan) = child.orphan {
            let mut orphan = Orphan::new(orphan, Some(child.watched));
            // The BSDs tell of an exit slightly before the status can be taken.
            if orphan.is_running() {
                Looker::of_this_thread().adopt(orphan);
            }
        }
        if self.n_orphans.get() == 0 {
            let kept = KEPT.try_with(|kept| kept.take());
            drop(kept);
        }
    }

    fn poll_exits(&self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<usize>>> {
        self.queue.poll_read_with(cx, ExitQueue::take)
    }

    /// Does what there is to do when the children of these keys have exited.
    fn on_exits(&self, keys: Vec<usize>) {
        for key in keys {
            let waiter = self.children.borrow_mut().get_mut(&key).and_then(|child| {
                child.has_exited = true;
                child.waiter.take()
            });
            waiter.into_iter().for_each(boundary::wake);
            self.reap(key);
        }
    }

    /// Has all children be looked at by other means.
    fn set_broken(&self) {
        self.is_broken.set(true);
        let mut children = self.children.borrow_mut();
        let waiters: Vec<_> = children
            .values_mut()
            .filter_map(|c| c.waiter.take())
            .collect();
        drop(children);
        waiters.into_iter().for_each(boundary::wake);
    }
}

/// Reaps the orphans of this thread that have exited.
pub(super) fn reap_orphans() {
    let kept = KEPT.try_with(|kept| kept.borrow().clone());
    if let Some(watcher) = kept.ok().flatten() {
        while let Ok(keys) = watcher.queue.get_ref().take() {
            watcher.on_exits(keys);
        }
    }
}

/// Handles exits as the queue tells of them, until the last child of the thread is gone.
async fn read_exits(watcher: Weak<Watcher>) {
    loop {
        let exits = poll_fn(|cx| match watcher.upgrade() {
            Some(watcher) => watcher.poll_exits(cx),
            None => Poll::Ready(Ok(Vec::new())),
        });
        let exits = exits.await;
        let Some(watcher) = watcher.upgrade() else {
            return;
        };
        match exits {
            Ok(keys) => watcher.on_exits(keys),
            // In a forked child it is an error to read the queue, which is its parent's.
            Err(_) => return watcher.set_broken(),
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let is_own = self.n_forks == fork::count();
        for child in self.children.take().into_values().filter(|_| is_own) {
            if let Some(orphan) = child.orphan {
                Orphan::new(orphan, Some(child.watched)).abandon();
            }
        }
    }
}
