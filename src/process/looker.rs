//! Children that no queue of the kernel watches: they are looked at, one by one, whenever SIGCHLD
//! says that some child may have exited.
//!
//! A thread with such children has one listener to SIGCHLD and one task that reads it. If there can
//! be no listener, for a lack of descriptors, looks once a second have to do.

use super::orphan::Orphan;
use crate::event_loop::boundary;
use crate::signal::{Signal, Signals};
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
    /// The waiting tasks, by numbers of their own.
    waiters: RefCell<BTreeMap<u64, Waker>>,
    next_number: Cell<u64>,
    orphans: RefCell<Vec<Orphan>>,
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
            next_number: Cell::new(0),
            orphans: RefCell::default(),
        });
        let weak = Rc::downgrade(&looker);
        let task = Builder::new().name("SIGCHLD").daemon(true);
        drop(task.spawn(read_signals(Weak::clone(&weak))));
        // If the thread is ending, its next child gets a looker of its own.
        let _ = LOOKER.try_with(|known| known.replace(weak));
        looker
    }

    /// A number for a task that will wait.
    pub(super) fn new_number(&self) -> u64 {
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        number
    }

    pub(super) fn n_signals(&self) -> u64 {
        self.n_signals.get()
    }

    /// Waits for a signal after the first `n_signals`.
    pub(super) fn poll(&self, number: u64, n_signals: u64, cx: &Context<'_>) -> Poll<()> {
        if self.n_signals() != n_signals {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        let displaced = self.waiters.borrow_mut().insert(number, waker);
        // Dropping a waker may run foreign code, which must find nothing borrowed.
        drop(displaced);
        Poll::Pending
    }

    /// Ends the wait of a task.
    pub(super) fn forget(&self, number: u64) {
        let waiter = self.waiters.borrow_mut().remove(&number);
        drop(waiter);
    }

    /// Takes in a child whose handle was dropped.
    pub(super) fn adopt(self: Rc<Looker>, orphan: Orphan) {
        self.orphans.borrow_mut().push(orphan);
        let displaced = KEPT.try_with(|kept| kept.replace(Some(self)));
        drop(displaced);
    }

    /// Reaps the orphans that have exited.
    fn reap(&self) {
        self.orphans.borrow_mut().retain_mut(Orphan::is_running);
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

    /// Has all who wait look at their children.
    fn on_signal(&self) {
        self.n_signals.set(self.n_signals.get() + 1);
        let waiters = self.waiters.take();
        waiters.into_values().for_each(boundary::wake);
        self.reap();
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
        self.orphans.take().into_iter().for_each(Orphan::abandon);
    }
}
