//! Tasks: spawning, awaiting, aborting and naming them.
//!
//! [`spawn`] is all that most programs need. A task belongs to the thread of its loop; only an
//! [`AbortHandle`], and a [`Handle`] by which other threads spawn tasks, may cross threads.

mod abort_on_drop;
mod handle;
mod join_set;
#[cfg(feature = "dump")]
mod remote_dump;
mod shutdown;

pub use crate::event_loop::join_error::{Id, JoinError};
pub use abort_on_drop::AbortOnDrop;
pub use handle::{Handle, RemoteJoinHandle};
pub use join_set::JoinSet;
pub use shutdown::{Requested, Shutdown, ShutdownGuard};

use crate::event_loop::body::Stage;
use crate::event_loop::boundary::{self, drop_value};
use crate::event_loop::not_running::warn_if_not_running;
use crate::event_loop::{context, with};
use crate::sys::task::{self, Birth, TaskRef};
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Futures of more bytes than this are boxed by themselves, for two reasons. The memory of a task
/// stays as long as a waker of it, which a program may forget; the box goes with the future. And in
/// a debug build every move is a copy on the stack, so what is large should move once.
///
/// An output is never boxed here, because a handle takes it from the memory of its task. A task
/// that returns kilobytes can return a box; otherwise a forgotten waker keeps that much memory.
const LARGE: usize = 2 * 1024;

/// Awaits the output of a task. Dropping it detaches the task, which goes on.
///
/// Awaiting gives the task's output, or a [`JoinError`] if the task panicked or was aborted.
///
/// # Panics
/// If polled again after it was ready.
///
/// # Cancel safety
/// Dropping a handle loses the output and nothing else. A `&mut JoinHandle` may be awaited again.
///
/// # Examples
/// ```
/// fahrenheit::run(async {
///     let task = fahrenheit::spawn(async { 6 * 7 });
///     assert_eq!(task.await.unwrap(), 42);
/// });
/// ```
#[must_use = "dropping the handle detaches the task; say so with `detach`"]
pub struct JoinHandle<T> {
    /// `None` once the output was taken: then the memory of the task need not be kept.
    handle: Option<task::Handle<Result<T, JoinError>>>,
    id: Id,
}

impl<T> Unpin for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// Asks for the task to be dropped at its next turn.
    ///
    /// The handle then returns an error whose [`is_cancelled`](JoinError::is_cancelled) is true. A
    /// task that has ended already keeps its output. Aborting it again has no effect.
    pub fn abort(&self) {
        if let Some(handle) = &self.handle {
            handle.task().abort();
        }
    }

    /// Lets the task go on by itself. Its output is dropped, and a panic is logged.
    pub fn detach(self) {
        drop(self);
    }

    /// Returns a handle that aborts the task from any thread.
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle {
            id: self.id,
            task: self
                .handle
                .as_ref()
                .map(|handle| TaskRef::clone(handle.task())),
        }
    }

    /// Returns true if the task has ended: its future has returned, has panicked or was dropped.
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(|handle| {
            // If the thread is ending, the task is dropped with the loop, or was leaked with it.
            handle.task().is_finished() || !handle.task().is_here()
        })
    }

    /// Returns the id by which the log and errors name the task.
    pub fn id(&self) -> Id {
        self.id
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(handle) = &self.handle else {
            panic!("a `JoinHandle` was polled again after it was ready");
        };
        ready!(context::poll_budget(cx));
        let task = handle.task();
        if !task.is_finished() && task.is_here() {
            let is_known = task.with_joiner(|joiner| {
                joiner
                    .as_ref()
                    .is_some_and(|joiner| joiner.will_wake(cx.waker()))
            });
            if !is_known {
                // Cloning a waker and dropping one are foreign code.
                let displaced = task.replace_joiner(Some(cx.waker().clone()));
                drop(displaced);
            }
            // Such code may even have turned the loop, and the task may have ended meanwhile.
            if !task.is_finished() {
                warn_if_not_running();
                return Poll::Pending;
            }
        }
        context::spend_budget();
        let output = self.handle.take().and_then(|handle| {
            // Most tasks have no name, so the loop need not be borrowed for them.
            if handle.task().is_named() {
                with(|l| l.tasks.take_name(handle.task().id()));
            }
            handle.join()
        });
        // There is no output if the thread is ending, and has dropped the task or left it behind.
        Poll::Ready(output.unwrap_or_else(|| Err(JoinError::cancelled(self.id))))
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let Some(handle) = self.handle.take() else {
            return;
        };
        // The joiner is dropped, not woken: a task that was awaiting this handle does so no longer.
        let joiner = handle.task().replace_joiner(None);
        if let Some(ended) = handle.detach() {
            let name = with(|l| l.tasks.take_name(ended.id())).flatten();
            ended.discard(name.as_deref());
        }
        drop_value(joiner);
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("id", &self.id.0)
            .field("is_finished", &self.is_finished())
            .finish()
    }
}

/// Aborts a task from anywhere: it may be cloned and sent to other threads.
///
/// # Examples
/// ```
/// fahrenheit::run(async {
///     let task = fahrenheit::spawn(std::future::pending::<()>());
///     let handle = task.abort_handle();
///     std::thread::spawn(move || handle.abort());
///     assert!(task.await.unwrap_err().is_cancelled());
/// });
/// ```
#[derive(Clone)]
pub struct AbortHandle {
    id: Id,
    /// `None` if the output of the task was taken before this handle was made.
    task: Option<TaskRef>,
}

impl AbortHandle {
    /// Asks for the task to be dropped at its next turn, on its own thread.
    ///
    /// A task that has ended already keeps its output. Aborting it again has no effect.
    pub fn abort(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }

    /// Returns true if the task has ended: its future has returned, has panicked or was dropped.
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(TaskRef::is_finished)
    }

    /// Returns the id by which the log and errors name the task.
    pub fn id(&self) -> Id {
        self.id
    }
}

impl fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbortHandle")
            .field("id", &self.id.0)
            .finish()
    }
}

/// Spawns tasks with a name, or as daemons.
///
/// # Examples
/// ```
/// fahrenheit::run(async {
///     let task = fahrenheit::task::Builder::new().name("adder").spawn(async { 1 + 1 });
///     assert_eq!(task.await.unwrap(), 2);
/// });
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until `spawn`"]
pub struct Builder {
    name: Option<Box<str>>,
    daemon: bool,
}

impl Builder {
    /// Returns a builder of tasks that have no name and are not daemons.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Sets the name of the task for the log.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into().into_boxed_str());
        self
    }

    /// Makes the task a daemon: [`run`](crate::run) does not wait for it to end.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::{task, time::sleep};
    /// use std::time::Duration;
    ///
    /// fahrenheit::run(async {
    ///     let hour = Duration::from_secs(3_600);
    ///     // `run` does not wait for it.
    ///     task::Builder::new().name("clock").daemon(true).spawn(sleep(hour)).detach();
    /// });
    /// ```
    pub fn daemon(mut self, daemon: bool) -> Builder {
        self.daemon = daemon;
        self
    }

    /// Starts `future` as a task of this thread with these settings; see [`spawn`].
    #[track_caller]
    pub fn spawn<F>(self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        // Every move is a copy on the stack in a debug build: what is large moves once, into a box.
        if const { size_of::<F>() > LARGE } {
            self.spawn_moved(Box::pin(future))
        } else {
            self.spawn_moved(future)
        }
    }

    #[track_caller]
    fn spawn_moved<F>(self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.spawn_fallible(Infallible { future })
    }

    /// Spawns a future that reports its own [`JoinError`].
    #[track_caller]
    pub(crate) fn spawn_fallible<F, T>(self, future: F) -> JoinHandle<T>
    where
        F: Future<Output = Result<T, JoinError>> + 'static,
        T: 'static,
    {
        let place = Location::caller();
        let Builder { name, daemon } = self;
        let admitted = with(|l| l.tasks.admit(&l.inbox, name, daemon, place));
        let Some(birth) = admitted else {
            return spawn_on_ending_thread(future, place);
        };
        let id = Id(birth.id);
        let handle = Some(task::spawn(Stage::new(future), birth));
        boundary::trace!("{} spawned task {id}", context::current());
        JoinHandle { handle, id }
    }
}

/// Drops `future` on a thread whose loop has ended, and returns a handle that says so.
#[cold]
fn spawn_on_ending_thread<F, T>(future: F, place: &'static Location<'static>) -> JoinHandle<T>
where
    F: Future<Output = Result<T, JoinError>> + 'static,
    T: 'static,
{
    let birth = Birth::on_ending_thread(place);
    let id = Id(birth.id);
    let handle = Some(task::spawn_cancelled(Stage::new(future), birth));
    boundary::warning!("{place}: the thread is ending; the task that was spawned is dropped");
    JoinHandle { handle, id }
}

pin_project_lite::pin_project! {
    /// A future whose output is a success.
    struct Infallible<F> { #[pin] future: F }
}

impl<F: Future> Future for Infallible<F> {
    type Output = Result<F::Output, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx).map(Ok)
    }
}

/// Starts `future` as a task of this thread, and returns a handle to await its output.
///
/// The task is queued, not polled inline. It need not be `Send`. Legal before [`run`](crate::run):
/// the task starts with the next `run`, `block_on` or `turn` on this thread. Dropping the handle
/// detaches the task; a panic stays in the task and comes out of the handle, or is logged if the
/// handle is gone.
///
/// In a destructor that runs while the thread is ending, there is no loop left: `future` is dropped
/// and the handle returns [`JoinError::is_cancelled`].
///
/// # Examples
/// ```
/// use std::{cell::Cell, rc::Rc};
///
/// let count = Rc::new(Cell::new(0));
/// for _ in 0..3 {
///     let count = Rc::clone(&count);
///     drop(fahrenheit::spawn(async move { count.set(count.get() + 1) }));
/// }
/// fahrenheit::run(async {});
/// assert_eq!(count.get(), 3);
/// ```
#[doc(alias = "spawn_local")]
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let builder = Builder::new();
    if const { size_of::<F>() > LARGE } {
        builder.spawn_moved(Box::pin(future))
    } else {
        builder.spawn_moved(future)
    }
}

/// Lets every other task that is ready run once before this one goes on.
///
/// # Cancel safety
/// Nothing is lost by dropping it.
///
/// # Examples
/// ```
/// fahrenheit::run(async {
///     for _ in 0..1_000 {
///         fahrenheit::yield_now().await;
///     }
/// });
/// ```
pub fn yield_now() -> impl Future<Output = ()> {
    let mut yielded = false;
    std::future::poll_fn(move |cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Runs `future` without the budget that makes always-ready operations yield now and then.
///
/// Every task may complete about 128 operations of this crate in one poll before it has to let
/// others run. Inside of this the count stands still; the future has to yield by itself.
///
/// # Examples
/// ```
/// fahrenheit::run(fahrenheit::task::unconstrained(async {}));
/// ```
pub fn unconstrained<F: Future>(future: F) -> impl Future<Output = F::Output> {
    Unconstrained { future }
}

pin_project_lite::pin_project! {
    struct Unconstrained<F> { #[pin] future: F }
}

impl<F: Future> Future for Unconstrained<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        context::without_budget(|| self.project().future.poll(cx))
    }
}
