//! Hearing that children have ended, and reaping those that nobody waits for any more.
//!
//! A thread with children has a *bell*: one listener to SIGCHLD, with one daemon that rings. A ring
//! says that some child may have ended, not which: signals of one kind merge. So everybody who
//! waits looks at a child of his own, and the daemon looks at the orphans.
//!
//! Why not a pidfd or a kqueue for each child: that is one more descriptor a child and two more
//! ways to test, for something that costs nothing unless hundreds of children live at a time.
//!
//! **Invariants.** Children are asked about by pid, each its own, so that nobody else's is reaped.
//! A ring that comes after a look is not missed by the one who looked: he says which he has heard.

use crate::event_loop::{self, boundary};
use crate::signal::{Signal, Signals};
use crate::sys::{self, fork};
use crate::task::Builder;
use crate::time;
use futures_util::stream::Stream;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::process::Child;
use std::rc::{Rc, Weak};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How often children are looked at while SIGCHLD cannot be relied on.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

thread_local! {
    static BELL: RefCell<Weak<Bell>> = const { RefCell::new(Weak::new()) };
    /// The same, for as long as there are orphans.
    static KEPT: RefCell<Option<Rc<Bell>>> = const { RefCell::new(None) };
}

/// Children whose handles were dropped. Those of a thread that has ended are reaped by another.
static ORPHANS: Mutex<Vec<Child>> = Mutex::new(Vec::new());

struct Bell {
    // Borrowed only by the daemon, while it polls.
    signals: RefCell<Signals>,
    n_rings: Cell<u64>,
    /// Who waits, by the number of the ear.
    waiters: RefCell<BTreeMap<u64, Waker>>,
    n_ears: Cell<u64>,
    is_broken: Cell<bool>,
}

impl Bell {
    /// The bell of this thread.
    #[track_caller]
    fn of_this_thread() -> io::Result<Rc<Bell>> {
        let known = BELL.try_with(|bell| bell.borrow().upgrade());
        if let Some(bell) = known.ok().flatten().filter(|bell| !bell.is_broken.get()) {
            return Ok(bell);
        }
        let bell = Rc::new(Bell {
            signals: RefCell::new(Signals::new([Signal::CHLD])?),
            n_rings: Cell::new(0),
            waiters: RefCell::default(),
            n_ears: Cell::new(0),
            is_broken: Cell::new(false),
        });
        let weak = Rc::downgrade(&bell);
        let daemon = Builder::new().name("ends of children").daemon(true);
        drop(daemon.spawn(listen(Weak::clone(&weak))));
        // If the thread is ending, its next child gets a bell of its own.
        let _ = BELL.try_with(|known| known.replace(weak));
        Ok(bell)
    }

    fn poll_signal(&self, cx: &mut Context<'_>) -> Poll<Option<Signal>> {
        Pin::new(&mut *self.signals.borrow_mut()).poll_next(cx)
    }

    fn can_be_relied_on(&self) -> bool {
        !self.is_broken.get() && sys::signal::is_heard(Signal::CHLD.as_raw())
    }

    fn ring(&self) {
        self.n_rings.set(self.n_rings.get() + 1);
        let waiters = self.waiters.take();
        waiters.into_values().for_each(boundary::wake);
    }
}

/// Rings the bell at every SIGCHLD, until the bell is gone.
async fn listen(bell: Weak<Bell>) {
    loop {
        let relied_on = bell.upgrade().is_some_and(|bell| bell.can_be_relied_on());
        let signal = poll_fn(|cx| match bell.upgrade() {
            Some(bell) => bell.poll_signal(cx),
            None => Poll::Ready(None),
        });
        let heard = if relied_on {
            signal.await.is_some()
        } else {
            time::timeout(LOOK_AGAIN, signal)
                .await
                .map_or(true, |signal| signal.is_some())
        };
        reap_orphans();
        let Some(bell) = bell.upgrade() else { return };
        bell.is_broken.set(!heard);
        bell.ring();
        if !heard {
            return;
        }
    }
}

/// Reaps the orphans that have ended.
fn reap_orphans() {
    let none_left = {
        let mut orphans = ORPHANS.lock().unwrap_or_else(PoisonError::into_inner);
        // An error means that it is not, or no longer, a child of this process.
        orphans.retain_mut(|child| matches!(sys::retry_io(|| child.try_wait()), Ok(None)));
        orphans.is_empty()
    };
    if none_left {
        let bell = KEPT.try_with(|kept| kept.take());
        drop(bell);
    }
}

/// Hears the bell of its thread, on behalf of one child.
pub(super) struct Ear {
    bell: Rc<Bell>,
    number: u64,
}

impl Ear {
    /// Opens an ear, if children can be waited for at all.
    #[track_caller]
    pub(super) fn open() -> io::Result<Ear> {
        // Before our handler is in place: it would hide what the program wants.
        if sys::signal::children_are_ignored()? {
            return Err(io::Error::other(
                "cannot wait for child processes: the program ignores SIGCHLD, so the system \
                 throws their exit statuses away",
            ));
        }
        let bell = Bell::of_this_thread()?;
        reap_orphans();
        let number = bell.n_ears.get();
        bell.n_ears.set(number + 1);
        Ok(Ear { bell, number })
    }

    /// How often the bell has rung.
    pub(super) fn n_rings(&self) -> u64 {
        self.bell.n_rings.get()
    }

    /// Waits for a ring after the first `n_rings`, or for a while if none may come. A fork is as
    /// good as a ring: in the child there is nothing to wait for.
    pub(super) async fn hear(&self, n_rings: u64) {
        let n_forks = fork::count();
        let rung = poll_fn(|cx| {
            if self.n_rings() != n_rings || fork::count() != n_forks {
                return Poll::Ready(());
            }
            let waker = cx.waker().clone();
            let displaced = self.bell.waiters.borrow_mut().insert(self.number, waker);
            drop(displaced);
            Poll::Pending
        });
        if self.bell.can_be_relied_on() {
            rung.await;
        } else {
            // Either way it is time to look.
            let _ = time::timeout(LOOK_AGAIN, rung).await;
        }
    }

    /// Takes in a child that nobody waits for: it will be reaped when it ends.
    pub(super) fn adopt(&self, child: Child) {
        let mut orphans = ORPHANS.lock().unwrap_or_else(PoisonError::into_inner);
        orphans.push(child);
        drop(orphans);
        let displaced = KEPT.try_with(|kept| kept.replace(Some(Rc::clone(&self.bell))));
        drop(displaced);
        event_loop::set_on_run_end(reap_orphans);
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let waiter = self.bell.waiters.borrow_mut().remove(&self.number);
        drop(waiter);
    }
}

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ear").finish_non_exhaustive()
    }
}
