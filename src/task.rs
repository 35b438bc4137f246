//! Tasks: handles to await, abort and name them.
//!
//! [`spawn`] is all that most programs need. A task belongs to the thread that spawned
//! it; only an [`AbortHandle`] may cross threads.

pub use crate::event_loop::join_error::{Id, JoinError};

use crate::event_loop::body::{Body, Ended, body};
use crate::event_loop::boundary::{self, drop_value};
use crate::event_loop::log_lines::Current;
use crate::event_loop::tasks::Join;
use crate::event_loop::waker::{Key, TaskWaker};
use crate::event_loop::{context, with};
use futures_util::task::ArcWake;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Futures of more bytes than this are boxed before they are moved, at the price of a second box.
const LARGE: usize = 16 * 1024;

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
#[must_use = "dropping the handle detaches the task; say so with `drop`"]
pub struct JoinHandle<T> {
    // Not a `Key`, whose padding would be lost: programs keep these by the thousand.
    index: u32,
    joined: bool,
    serial: u64,
    // The task is on this thread, and so is the handle.
    _local: PhantomData<*mut T>,
}

impl<T> Unpin for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// [`Key::NONE`] if the thread was ending and there never was a task.
    fn key(&self) -> Key {
        Key {
            index: self.index,
            serial: self.serial,
        }
    }

    /// Asks for the task to be dropped at its next turn.
    ///
    /// The handle then returns an error whose [`is_cancelled`](JoinError::is_cancelled) is true. A
    /// task that has ended already keeps its output; aborting twice is the same as once.
    pub fn abort(&self) {
        if let Some(waker) = self.waker() {
            TaskWaker::abort(&waker);
        }
    }

    /// A handle that aborts the task from anywhere.
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle {
            id: self.id(),
            waker: self.waker(),
        }
    }

    /// Whether the task has ended, in whatever way.
    pub fn is_finished(&self) -> bool {
        self.joined || with(|l| l.tasks.is_finished(self.key())).unwrap_or(true)
    }

    /// What the task is called in the log and in errors.
    pub fn id(&self) -> Id {
        Id(self.serial)
    }

    /// Returns the waker of the task, unless the task has ended.
    fn waker(&self) -> Option<Arc<TaskWaker>> {
        let waker = with(|l| l.tasks.waker(self.key(), &l.inbox)).flatten();
        // A task that is being polled is out of the table, and its waker with it.
        waker.or_else(|| context::current_waker(self.key()))
    }
}

impl<T: 'static> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(
            !self.joined,
            "a `JoinHandle` was polled again after it was ready"
        );
        let key = self.key();
        ready!(context::poll_budget(cx));
        let mut output = None;
        match with(|l| l.tasks.join(key, cx.waker())).unwrap_or(Join::Gone) {
            Join::Ended(mut body) => body.as_mut().take_output(&mut output),
            Join::Gone => {}
            Join::Known => return Poll::Pending,
            Join::Unknown => {
                let waker = cx.waker().clone();
                let displaced = with(|l| l.tasks.set_joiner(key, waker));
                drop(displaced);
                return Poll::Pending;
            }
        }
        context::spend_budget();
        self.joined = true;
        Poll::Ready(output.unwrap_or_else(|| Err(JoinError::cancelled(Id(key.serial)))))
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if self.joined {
            return;
        }
        if let Some(ended) = with(|l| l.tasks.detach(self.key())) {
            // The joiner is dropped, not woken: a task that was awaiting this handle does so no
            // longer.
            let joiner = ended.joiner;
            let ended = Ended {
                joiner: None,
                ..ended
            };
            ended.notify_joiner(self.id());
            drop_value(joiner);
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("id", &self.serial)
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
    waker: Option<Arc<TaskWaker>>,
}

impl AbortHandle {
    /// As [`JoinHandle::abort`]. The task is dropped on its own thread.
    pub fn abort(&self) {
        if let Some(waker) = &self.waker {
            TaskWaker::abort(waker);
        }
    }

    /// As [`JoinHandle::is_finished`].
    pub fn is_finished(&self) -> bool {
        self.waker.as_ref().is_none_or(|waker| waker.is_finished())
    }

    /// As [`JoinHandle::id`].
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
    /// What [`spawn`] does.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Names the task in the log.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into().into_boxed_str());
        self
    }

    /// Makes the task a daemon: [`run`](crate::run) does not wait for it to end.
    pub fn daemon(mut self, daemon: bool) -> Builder {
        self.daemon = daemon;
        self
    }

    /// As [`spawn`].
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

    /// Spawns a future that knows of itself whether it was done.
    #[track_caller]
    pub(crate) fn spawn_fallible<F, T>(self, future: F) -> JoinHandle<T>
    where
        F: Future<Output = Result<T, JoinError>> + 'static,
        T: 'static,
    {
        let place = Location::caller();
        let key = add_task(body(future), self.name, self.daemon, place);
        if key.is_none() {
            boundary::warning!(
                "{place}: the thread is ending; the task that was spawned is dropped"
            );
        }
        let Key { index, serial } = key.unwrap_or(Key::NONE);
        JoinHandle {
            index,
            joined: false,
            serial,
            _local: PhantomData,
        }
    }
}

/// Adds a task and queues it. If the thread is ending, drops `body` and returns `None`.
fn add_task(
    body: Pin<Box<dyn Body>>,
    name: Option<Box<str>>,
    daemon: bool,
    place: &'static Location<'static>,
) -> Option<Key> {
    // Outside of the closure, so that a body that is not added is dropped with nothing borrowed.
    let mut parts = Some((body, name));
    let added = with(|l| {
        let (body, name) = parts.take()?;
        Some(l.tasks.insert(body, name, daemon, place))
    });
    let key = added.flatten()?;
    boundary::trace!("{Current} spawned task {}", key.serial);
    Some(key)
}

/// Lets `waker_ref` build a `std::task::Waker` from an `Arc<TaskWaker>`.
impl ArcWake for TaskWaker {
    fn wake_by_ref(this: &Arc<Self>) {
        TaskWaker::wake(this);
    }
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
