//! Ending in good order: [`Shutdown`].
//!
//! Knows who waits for the request to end, how much work is in progress, and which tasks to abort
//! if it takes too long. It knows no signal and no socket.
//!
//! **Invariant.** Nothing of this is borrowed while a waker is cloned, woken or dropped, or a task
//! aborted, because that runs foreign code, which may come back here.

use super::{AbortHandle, JoinHandle, spawn};
use crate::event_loop::boundary::{self, drop_value};
use crate::event_loop::not_running::warn_if_not_running;
use crate::time::timeout;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Ends the tasks of a program in good order: tells all of them, waits for their work up to a
/// limit, and aborts the rest.
///
/// Clones belong to one shutdown. They belong to one thread; another thread requests the end by a
/// [`Notifier`](crate::Notifier) or a [`Handle`](super::Handle).
///
/// # Examples
/// ```
/// use fahrenheit::{task::Shutdown, time::sleep};
/// use std::time::Duration;
///
/// fahrenheit::run(async {
///     let shutdown = Shutdown::new();
///     for _ in 0..10 {
///         let told = shutdown.requested();
///         shutdown
///             .spawn(async move {
///                 // A server would wait for its next request, too, and end between two requests.
///                 told.await;
///                 sleep(Duration::from_millis(1)).await;
///             })
///             .detach();
///     }
///     // Here, a server waits for SIGTERM.
///     let n_left = shutdown.finish(Duration::from_secs(10)).await;
///     assert_eq!(n_left, 0);
/// });
/// ```
///
/// `examples/graceful.rs` is a server that answers every request it has accepted.
#[doc(alias("CancellationToken", "TaskTracker"))]
#[derive(Clone, Default)]
pub struct Shutdown {
    state: Rc<State>,
}

#[derive(Default)]
struct State {
    is_requested: Cell<bool>,
    /// Number of guards: those that the program holds, and one for each task.
    n_guards: Cell<usize>,
    /// The tasks that are aborted when the limit has passed.
    tasks: RefCell<BTreeMap<u64, AbortHandle>>,
    next_id: Cell<u64>,
    /// Who waits for the request.
    told: Waiters,
    /// Who waits for the end of all work.
    finished: Waiters,
}

impl State {
    fn take_id(&self) -> u64 {
        self.next_id.replace(self.next_id.get() + 1)
    }
}

/// The wakers of the futures that wait for one condition, by the ids of these futures.
#[derive(Default)]
struct Waiters(RefCell<BTreeMap<u64, Waker>>);

impl Waiters {
    fn register(&self, id: u64, cx: &Context<'_>) {
        let is_known = |known: &Waker| known.will_wake(cx.waker());
        if !self.0.borrow().get(&id).is_some_and(is_known) {
            let waker = cx.waker().clone();
            let displaced = self.0.borrow_mut().insert(id, waker);
            drop_value(displaced);
        }
    }

    fn remove(&self, id: u64) {
        let removed = self.0.borrow_mut().remove(&id);
        drop_value(removed);
    }

    fn wake_all(&self) {
        self.0.take().into_values().for_each(boundary::wake);
    }
}

impl Shutdown {
    /// Returns a shutdown that has not been requested, and that no work belongs to.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Tells all who wait for [`requested`](Shutdown::requested) that the program ends. Requesting
    /// it again has no effect.
    pub fn request(&self) {
        if !self.state.is_requested.replace(true) {
            self.state.told.wake_all();
        }
    }

    /// Returns whether the end was requested.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::task::Shutdown;
    ///
    /// let shutdown = Shutdown::new();
    /// let guard = shutdown.guard();
    /// assert_eq!(shutdown.n_in_progress(), 1);
    /// shutdown.request();
    /// assert!(shutdown.is_requested());
    /// drop(guard);
    /// assert_eq!(shutdown.n_in_progress(), 0);
    /// ```
    pub fn is_requested(&self) -> bool {
        self.state.is_requested.get()
    }

    /// Waits until the end is requested. Ready at once if it has been.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future: a request is never taken back.
    pub fn requested(&self) -> Requested {
        Requested(Waiting::new(&self.state))
    }

    /// Returns a guard, which stands for work in progress as long as it lives.
    pub fn guard(&self) -> ShutdownGuard {
        self.state.n_guards.set(self.state.n_guards.get() + 1);
        ShutdownGuard {
            state: Rc::clone(&self.state),
        }
    }

    /// Returns how much work is in progress: guards, and tasks that were spawned by
    /// [`spawn`](Shutdown::spawn) and have not ended.
    pub fn n_in_progress(&self) -> usize {
        self.state.n_guards.get()
    }

    /// Starts `future` as a task of this thread, whose end is waited for, and which is aborted if
    /// it takes too long. Still possible after the end was requested.
    ///
    /// In all else this is [`spawn`](crate::spawn). The task may hold a clone of the shutdown.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let id = self.state.take_id();
        let tracked = Tracked {
            id,
            guard: self.guard(),
        };
        let handle = spawn(run_tracked(future, tracked));
        let abort_handle = handle.abort_handle();
        // On an ending thread the task was dropped at once.
        if !abort_handle.is_finished() {
            self.state.tasks.borrow_mut().insert(id, abort_handle);
        }
        handle
    }

    /// Requests the end, and waits until no work is in progress. When `limit` has passed, aborts
    /// the tasks that were spawned by [`spawn`](Shutdown::spawn), and waits until they are dropped.
    ///
    /// Returns how much work was still in progress at the limit: the number of tasks that were
    /// aborted, and of guards. Zero means that all of it was finished.
    ///
    /// If this is called by a task that [`spawn`](Shutdown::spawn) has started, that task waits for
    /// itself until the limit has passed, and is then aborted, too.
    ///
    /// # Cancel safety
    /// Dropping the future takes no request back and aborts no task. Another call waits again.
    pub async fn finish(&self, limit: Duration) -> usize {
        self.request();
        if timeout(limit, Finished(Waiting::new(&self.state)))
            .await
            .is_ok()
        {
            return 0;
        }
        let n_left = self.n_in_progress();
        let tasks = self.state.tasks.take();
        tasks.values().for_each(AbortHandle::abort);
        for task in tasks.into_values() {
            // Each is dropped in the next batch, so this takes two or three rounds at most.
            while !task.is_finished() {
                super::yield_now().await;
            }
        }
        n_left
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown")
            .field("is_requested", &self.is_requested())
            .field("n_in_progress", &self.n_in_progress())
            .finish()
    }
}

/// A function, so that its arguments are dropped in their reverse order, also if it was never
/// polled: first the future, then the guard.
async fn run_tracked<F: Future>(future: F, _tracked: Tracked) -> F::Output {
    future.await
}

/// The guard of a task.
struct Tracked {
    id: u64,
    guard: ShutdownGuard,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let state = &self.guard.state;
        let removed = state.tasks.borrow_mut().remove(&self.id);
        drop(removed);
    }
}

/// Work in progress, which [`Shutdown::finish`] waits for until this is dropped.
///
/// A clone counts as well.
#[must_use = "the work counts as finished when the guard is dropped"]
pub struct ShutdownGuard {
    state: Rc<State>,
}

impl ShutdownGuard {
    /// Waits until the end is requested, as [`Shutdown::requested`] does.
    pub fn requested(&self) -> Requested {
        Requested(Waiting::new(&self.state))
    }
}

impl Clone for ShutdownGuard {
    fn clone(&self) -> ShutdownGuard {
        let state = Rc::clone(&self.state);
        Shutdown { state }.guard()
    }
}

impl Drop for ShutdownGuard {
    fn drop(&mut self) {
        let n_guards = self.state.n_guards.get() - 1;
        self.state.n_guards.set(n_guards);
        if n_guards == 0 {
            self.state.finished.wake_all();
        }
    }
}

impl fmt::Debug for ShutdownGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownGuard").finish_non_exhaustive()
    }
}

/// A future that waits for a condition of a shutdown.
struct Waiting {
    state: Rc<State>,
    id: u64,
}

impl Waiting {
    fn new(state: &Rc<State>) -> Waiting {
        Waiting {
            state: Rc::clone(state),
            id: state.take_id(),
        }
    }

    fn poll(
        &self,
        cx: &Context<'_>,
        waiters: fn(&State) -> &Waiters,
        is_done: fn(&State) -> bool,
    ) -> Poll<()> {
        if is_done(&self.state) {
            return Poll::Ready(());
        }
        waiters(&self.state).register(self.id, cx);
        // Cloning the waker has run foreign code, which may have met the condition.
        if is_done(&self.state) {
            return Poll::Ready(());
        }
        warn_if_not_running();
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.state.told.remove(self.id);
        self.state.finished.remove(self.id);
    }
}

/// Waits until a shutdown is requested; see [`Shutdown::requested`].
#[must_use = "futures do nothing unless awaited"]
pub struct Requested(Waiting);

impl Future for Requested {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0
            .poll(cx, |state| &state.told, |state| state.is_requested.get())
    }
}

impl fmt::Debug for Requested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requested").finish_non_exhaustive()
    }
}

/// Waits until no work is in progress.
struct Finished(Waiting);

impl Future for Finished {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll(
            cx,
            |state| &state.finished,
            |state| state.n_guards.get() == 0,
        )
    }
}
