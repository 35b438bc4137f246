//! Children that no queue of the kernel watches: they are looked at when SIGCHLD says that some
//! child may have exited.
//!
//! A thread with such children has one listener to SIGCHLD and one task that reads it. If there can
//! be no listener, for a lack of descriptors, looks once a second have to do.
//!
//! Signals of one kind merge, so a signal does not say who has exited, nor how many have. The
//! system names one child that has exited. If a task waits for that one, it alone is woken, and the
//! system is asked again when that child has been waited for; so an exit costs the same with any
//! number of children. If it is a child that other code does not wait for, or the system cannot be
//! asked, all tasks are woken, and look.

use super::orphan::Orphan;
use crate::event_loop::boundary;
use crate::signal::{Signal, Signals};
use crate::sys::exited::{self, Exited};
use crate::task::Builder;
use futures_util::stream::Stream;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

thread_local! {
    static LOOKER: RefCell<Weak<Looker>> = const { RefCell::new(Weak::new()) };
    /// Keeps the looker alive for as long as there are orphans.
    static KEPT: RefCell<Option<Rc<Looker>>> = const { RefCell::new(None) };
}

pub(super) struct Looker {
    /// `None` if there can be no listener, or it has failed. Borrowed only by the task that polls
    /// it.
    signals: RefCell<Option<Signals>>,
    /// Number of times that some child may have exited.
    n_signals: Cell<u64>,
    /// The waiting tasks, by the numbers of their processes.
    waiters: RefCell<BTreeMap<u32, Waker>>,
    /// True if one task was woken, and more children may have exited.
    one_was_woken: Cell<bool>,
    /// Children whose handles were dropped, by the numbers of their processes.
    orphans: RefCell<BTreeMap<u32, Orphan>>,
}

impl Looker {
    /// The looker of this thread.
    #[track_caller]
    pub(super) fn of_this_thread() -> Rc<Looker> {
        let known = LOOKER.try_with(|looker| looker.borrow().upgrade());
        if let Some(looker) = known.ok().flatten() {
            return looker;
        }
        let looker = Rc::new(Looker {
            signals: RefCell::new(Signals::new([Signal::CHLD]).ok()),
            n_signals: Cell::new(0),
            waiters: RefCell::default(),
            one_was_woken: Cell::new(false),
            orphans: RefCell::default(),
        });
        let weak = Rc::downgrade(&looker);
        let task = Builder::new().name("SIGCHLD").daemon(true);
        drop(task.spawn(read_signals(Weak::clone(&weak))));
        // If the thread is ending, its next child gets a looker of its own.
        let _ = LOOKER.try_with(|known| known.replace(weak));
        looker
    }

    pub(super) fn n_signals(&self) -> u64 {
        self.n_signals.get()
    }

    /// Waits for a signal after the first `n_signals` that may mean that process `pid` has exited.
    pub(super) fn poll(&self, pid: u32, n_signals: u64, cx: &Context<'_>) -> Poll<()> {
        if self.n_signals() != n_signals {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        let displaced = self.waiters.borrow_mut().insert(pid, waker);
        // Not woken, or a future whose waker changes with every poll would wake itself for ever.
        // Dropping a waker may run foreign code, which must find nothing borrowed.
        drop(displaced);
        Poll::Pending
    }

    /// Ends the wait of a task.
    pub(super) fn forget(&self, pid: u32) {
        let waiter = self.waiters.borrow_mut().remove(&pid);
        // Dropping a waker may run foreign code, which must find nothing borrowed.
        drop(waiter);
    }

    /// To be called when a child has been waited for: looks whether another one has exited.
    pub(super) fn on_waited(&self) {
        if self.one_was_woken.take() {
            self.on_signal();
        }
    }

    /// Takes in a child whose handle was dropped.
    pub(super) fn adopt(self: Rc<Looker>, orphan: Orphan) {
        self.orphans.borrow_mut().insert(orphan.id(), orphan);
        let displaced = KEPT.try_with(|kept| kept.replace(Some(self)));
        drop(displaced);
    }

    /// Reaps the orphans that have exited.
    fn reap(&self) {
        self.orphans
            .borrow_mut()
            .retain(|_, orphan| orphan.is_running());
        self.release();
    }

    /// Reaps one orphan; false if there is none of this number, or it is running.
    fn reap_one(&self, pid: u32) -> bool {
        let mut orphans = self.orphans.borrow_mut();
        let has_exited = orphans
            .get_mut(&pid)
            .is_some_and(|orphan| !orphan.is_running());
        if has_exited {
            orphans.remove(&pid);
        }
        has_exited
    }

    /// Lets the looker go when the last orphan is gone.
    fn release(&self) {
        if self.orphans.borrow().is_empty() {
            let kept = KEPT.try_with(|kept| kept.take());
            drop(kept);
        }
    }

    fn poll_signal(&self, cx: &mut Context<'_>) -> Poll<Option<Signal>> {
        match &mut *self.signals.borrow_mut() {
            Some(signals) => Pin::new(signals).poll_next(cx),
            None => Poll::Ready(None),
        }
    }

    /// Wakes the task whose child has exited, or all tasks, to look at their children.
    fn on_signal(&self) {
        self.n_signals.set(self.n_signals.get() + 1);
        loop {
            match exited::first() {
                // A child has stopped, or has been waited for meanwhile.
                Exited::Nothing => break,
                Exited::Child(pid) if self.reap_one(pid) => {}
                Exited::Child(pid) if self.wake_one(pid) => {
                    // It is named until that task has waited for it.
                    self.one_was_woken.set(true);
                    break;
                }
                // As long as this one is not waited for, it hides the others.
                Exited::Child(_) | Exited::Unknown => {
                    let waiters = self.waiters.take();
                    waiters.into_values().for_each(boundary::wake);
                    return self.reap();
                }
            }
        }
        self.release();
    }

    /// Wakes the task that waits for process `pid`; false if there is none.
    fn wake_one(&self, pid: u32) -> bool {
        let waiter = self.waiters.borrow_mut().remove(&pid);
        let is_waited_for = waiter.is_some();
        waiter.into_iter().for_each(boundary::wake);
        is_waited_for
    }
}

/// Reaps the orphans of this thread that have exited and that no queue watches.
pub(super) fn reap_orphans() {
    let kept = KEPT.try_with(|kept| kept.borrow().clone());
    if let Some(looker) = kept.ok().flatten() {
        looker.reap();
    }
}

/// Has children looked at whenever SIGCHLD comes, until the last of them is gone.
async fn read_signals(looker: Weak<Looker>) {
    loop {
        let signal = poll_fn(|cx| match looker.upgrade() {
            Some(looker) => looker.poll_signal(cx),
            None => Poll::Ready(None),
        });
        let is_heard = signal.await.is_some();
        let Some(looker) = looker.upgrade() else {
            return;
        };
        looker.on_signal();
        if !is_heard {
            // Other code has closed its descriptor. From now on, waiting tasks look once a second.
            looker.signals.replace(None);
            return;
        }
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        self.orphans.take().into_values().for_each(Orphan::abandon);
    }
}
