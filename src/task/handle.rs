//! Spawning tasks from other threads: [`Handle`] and [`RemoteJoinHandle`].
//!
//! What is spawned travels as a message through the mailbox of the loop, in order with the wakes
//! that the same thread sends. The output travels back through memory that both sides hold.
//!
//! **Invariant.** No lock is waited for, so that a fork leaves none held in the child: the side of
//! the task writes the output and then gives up its share of that memory. The other side looks only
//! once it is the sole owner.

use super::{JoinError, LARGE};
use crate::event_loop::body::Stage;
use crate::event_loop::boundary::{self, drop_value, try_drop};
use crate::event_loop::join_error::Id;
use crate::event_loop::{context, ends_inside_run, with};
use crate::sys::fork::{self, HomeThread};
use crate::sys::sync::Arc;
use crate::sys::task::{self, Body, Mailbox, Message, TaskRef};
use futures_util::task::AtomicWaker;
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::panic::Location;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

/// Spawns tasks on the loop of one thread, from any thread.
///
/// [`current`](Handle::current) returns the handle of the calling thread, as the function of this
/// name in tokio does. Clones spawn on the loop of that thread, too.
///
/// # When the loop has ended
/// The loop of a thread ends with its thread. Tasks that have not ended by then are dropped, as all
/// tasks of that thread are, and what is spawned later is not started. In both cases the
/// [`RemoteJoinHandle`] returns an error that says so. Between two calls of [`run`](crate::run) the
/// loop has not ended: the task starts with the next one.
///
/// # After `fork`
/// A child has only the thread that forked. A handle of that thread's loop spawns on the loop that
/// the child has a copy of. One of any other thread returns the error.
///
/// # Examples
/// ```
/// use fahrenheit::{AsyncTcpListener, task::Handle};
///
/// fahrenheit::run(async {
///     let handle = Handle::current();
///     let thread = fahrenheit::spawn_blocking(move || {
///         // The listener is not `Send`, so it is made on the thread that it belongs to.
///         let task = handle.spawn_with(|| async {
///             let listener = AsyncTcpListener::bind("127.0.0.1:0")?;
///             listener.local_addr()
///         });
///         // Any executor can await the task.
///         fahrenheit::block_on(task)
///     });
///     let addr = thread.await.unwrap().unwrap().unwrap();
///     assert!(addr.ip().is_loopback());
/// });
/// ```
#[derive(Clone)]
pub struct Handle {
    /// `None` if the loop of the thread had ended already when this was created.
    mailbox: Option<Arc<Mailbox>>,
    /// Lets the loop know that there is a handle, so that it may get further tasks.
    _count: Option<Arc<()>>,
    thread: HomeThread,
}

impl Handle {
    /// Returns a handle to the loop of the calling thread, whether that is running or not.
    ///
    /// In a destructor that runs while the thread is ending, after its loop has ended, it is a
    /// handle that starts no task.
    pub fn current() -> Handle {
        fork::watch();
        Handle {
            mailbox: with(|l| Arc::clone(l.inbox.mailbox())),
            _count: with(|l| Arc::clone(&l.handles)),
            thread: HomeThread::here(),
        }
    }

    /// Starts `future` as a task of the handle's thread; see [`spawn`](crate::spawn).
    ///
    /// The future moves to that thread, so it has to be `Send`. If it cannot be, because it holds a
    /// socket or a timer, [`spawn_with`](Handle::spawn_with) creates it there.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::task::Handle;
    ///
    /// let handle = Handle::current();
    /// let thread = std::thread::spawn(move || handle.spawn(async { 6 * 7 }));
    /// let task = thread.join().unwrap();
    /// assert_eq!(fahrenheit::run(task).unwrap(), 42);
    /// ```
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> RemoteJoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_with(move || future)
    }

    /// Has the handle's thread call `make` and run the future that it returns, which need not be
    /// `Send`.
    ///
    /// `make` is called in the first poll of the task: it may spawn, and a panic stays in the task.
    #[track_caller]
    pub fn spawn_with<C, F>(&self, make: C) -> RemoteJoinHandle<F::Output>
    where
        C: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        let shared = Arc::new(Shared::default());
        let output = Arc::new(Mutex::new(None));
        let message = Spawn {
            make,
            report: Report {
                output: Arc::clone(&output),
                shared: Arc::clone(&shared),
            },
            place: Location::caller(),
        };
        match &self.mailbox {
            // Its own loop would never look into the mailbox, nor refuse what is in there.
            Some(_) if !self.thread.is_in_this_process() => message.refuse_because(LEFT_BEHIND),
            Some(mailbox) => mailbox.send(message),
            None => message.refuse(),
        }
        RemoteJoinHandle {
            output: Some(output),
            shared,
            thread: self.thread,
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

const ENDED: &str = "the loop of its thread has ended";
const LEFT_BEHIND: &str = "this process was forked by another thread than that of its loop";

fn not_started(why: &'static str) -> JoinError {
    JoinError::not_started(Id(0), io::Error::other(why))
}

/// What the handle tells the task, and what the task tells the handle before it has an output.
#[derive(Default)]
struct Shared {
    /// The task, once it has arrived on its thread.
    task: OnceLock<(Id, TaskRef)>,
    is_aborted: AtomicBool,
    /// Who awaits the output.
    joiner: AtomicWaker,
}

/// Where an output goes. The lock is never waited for: the task writes, gives up its `Arc`, and the
/// handle looks only then.
type Slot<T> = Mutex<Option<Result<T, JoinError>>>;

/// The side of the task. It is sent exactly once.
struct Report<T> {
    output: Arc<Slot<T>>,
    shared: Arc<Shared>,
}

impl<T> Report<T> {
    /// Hands `output` to the handle, or discards it if there is none. Does not unwind.
    fn send(self, output: Result<T, JoinError>) {
        let Report {
            output: slot,
            shared,
        } = self;
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(output);
        match Arc::into_inner(slot) {
            // The handle looks, when it is woken, whether it is the sole owner.
            None => {
                if let Some(waker) = shared.joiner.take() {
                    boundary::wake(waker);
                }
            }
            Some(slot) => discard(slot, &shared),
        }
    }
}

/// Drops an output that no handle will return. Logs why, if there is none.
fn discard<T>(slot: Slot<T>, shared: &Shared) {
    let unreported = match slot.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => return,
        Some(Ok(value)) => match try_drop(value) {
            Ok(()) => return,
            Err(payload) => JoinError::panicked(shared.id().unwrap_or(Id(0)), payload),
        },
        Some(Err(error)) => error,
    };
    if unreported.is_panic() {
        boundary::error!("{unreported}");
    } else if unreported.is_not_started() {
        boundary::warning!("{unreported}");
    }
    drop_value(unreported);
}

impl Shared {
    fn id(&self) -> Option<Id> {
        self.task.get().map(|(id, _)| *id)
    }
}

/// A task on its way to its thread.
struct Spawn<C, T> {
    make: C,
    report: Report<T>,
    /// Where the program spawned the task.
    place: &'static Location<'static>,
}

impl<C, T> Spawn<C, T> {
    fn refuse_because(self, why: &'static str) {
        // In the middle of a task that has called `exit` no destructor of the program may run.
        if ends_inside_run() {
            mem::forget(self.make);
        } else {
            drop_value(self.make);
        }
        self.report.send(Err(not_started(why)));
    }
}

impl<C, F> Message for Spawn<C, F::Output>
where
    C: FnOnce() -> F + Send + 'static,
    F: Future + 'static,
    F::Output: Send + 'static,
{
    fn deliver(self) {
        let make = self.make;
        let future = async move { Ok(make().await) };
        // For the reasons given at the constant.
        if size_of_val(&future) > LARGE {
            start(Box::pin(future), self.report, self.place);
        } else {
            start(future, self.report, self.place);
        }
    }

    fn refuse(self) {
        self.refuse_because(ENDED);
    }
}

/// Spawns what has arrived on this thread.
fn start<F, T>(future: F, report: Report<T>, place: &'static Location<'static>)
where
    F: Future<Output = Result<T, JoinError>> + 'static,
    T: 'static,
{
    let Some(birth) = with(|l| l.tasks.admit(&l.inbox, None, false, place)) else {
        drop_value(future);
        report.send(Err(not_started(ENDED)));
        return;
    };
    let (id, shared) = (Id(birth.id), Arc::clone(&report.shared));
    let body = Remote {
        stage: Stage::new(future),
        report: Some(report),
    };
    let handle = task::spawn(body, birth);
    boundary::trace!("another thread spawned task {id}");
    // First the task becomes known, then a look at the flag; `abort` does it the other way round.
    let _ = shared.task.set((id, TaskRef::clone(handle.task())));
    if shared.is_aborted.load(Ordering::SeqCst) {
        handle.task().abort();
    }
    // The output goes to the other thread, and this handle would only be told that it has.
    if let Some(ended) = handle.detach() {
        ended.discard(None);
    }
}

pin_project! {
    /// The body of a task whose output is awaited elsewhere.
    struct Remote<F, T> {
        #[pin]
        stage: Stage<F, T>,
        report: Option<Report<T>>,
    }
}

impl<F, T> Remote<F, T>
where
    F: Future<Output = Result<T, JoinError>>,
{
    /// Sends the output, once there is one.
    fn send(self: Pin<&mut Self>) {
        let this = self.project();
        let report = this.report.take();
        if let Some((report, output)) = report.zip(this.stage.take_output()) {
            report.send(output);
        }
    }
}

impl<F, T> Body for Remote<F, T>
where
    F: Future<Output = Result<T, JoinError>>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, id: u64, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.as_mut().project().stage.poll(id, cx);
        if polled.is_ready() {
            self.send();
        }
        polled
    }

    fn cancel(mut self: Pin<&mut Self>, id: u64) {
        self.as_mut().project().stage.cancel(id);
        self.send();
    }

    fn take_output(self: Pin<&mut Self>) -> Option<()> {
        None
    }

    fn discard(self: Pin<&mut Self>, id: u64, _: Option<&str>) {
        self.cancel(id);
    }
}

/// Awaits, on any thread and by any executor, the output of a task that a [`Handle`] has spawned.
///
/// Awaiting gives the task's output, or a [`JoinError`] if the task panicked, was aborted, was
/// dropped with its loop or could not be started. Dropping the handle detaches the task, which goes
/// on. If it then panics or could not be started, that is logged.
///
/// # Panics
/// If polled again after it was ready.
///
/// # Cancel safety
/// Dropping a handle loses the output and nothing else. A `&mut RemoteJoinHandle` may be awaited
/// again.
///
/// # The end of the process
/// If a task calls `exit`, the other tasks of its thread are left as they are until the process is
/// gone, and their handles are not ready meanwhile.
#[must_use = "dropping the handle detaches the task; say so with `detach`"]
pub struct RemoteJoinHandle<T> {
    /// `None` once the output was taken.
    output: Option<Arc<Slot<T>>>,
    shared: Arc<Shared>,
    thread: HomeThread,
}

impl<T> Unpin for RemoteJoinHandle<T> {}

impl<T> RemoteJoinHandle<T> {
    /// Asks for the task to be dropped at its next turn, on its own thread.
    ///
    /// The handle then returns an error whose [`is_cancelled`](JoinError::is_cancelled) is true. A
    /// task that has ended already keeps its output. Aborting it again has no effect.
    pub fn abort(&self) {
        self.shared.is_aborted.store(true, Ordering::SeqCst);
        if let Some((_, task)) = self.shared.task.get() {
            task.abort();
        }
    }

    /// Lets the task go on by itself. Its output is dropped; a panic is logged.
    pub fn detach(self) {
        drop(self);
    }

    /// Returns true if the task has ended or could not be started, so that awaiting it does not
    /// wait.
    pub fn is_finished(&self) -> bool {
        let is_sole_owner = |output| Arc::strong_count(output) == 1;
        self.output.as_ref().is_none_or(is_sole_owner) || !self.thread.is_in_this_process()
    }

    /// Returns the id by which the log and errors name the task; `None` as long as the task has not
    /// arrived on its thread. Tasks of another thread may have the same id.
    pub fn id(&self) -> Option<Id> {
        self.shared.id()
    }
}

impl<T> Future for RemoteJoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(slot) = &mut this.output else {
            panic!("a `RemoteJoinHandle` was polled again after it was ready");
        };
        ready!(context::poll_budget(cx));
        // Before the look: a task that ends after the look then wakes this waker.
        this.shared.joiner.register(cx.waker());
        let output = match Arc::get_mut(slot) {
            Some(slot) => slot
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
            None if this.thread.is_in_this_process() => return Poll::Pending,
            None => Some(Err(not_started(LEFT_BEHIND))),
        };
        this.output = None;
        context::spend_budget();
        let cancelled = || JoinError::cancelled(this.shared.id().unwrap_or(Id(0)));
        Poll::Ready(output.unwrap_or_else(|| Err(cancelled())))
    }
}

impl<T> Drop for RemoteJoinHandle<T> {
    fn drop(&mut self) {
        // If both sides let go in one moment, exactly one of them gets the output.
        if let Some(slot) = self.output.take().and_then(Arc::into_inner) {
            discard(slot, &self.shared);
        }
        drop_value(self.shared.joiner.take());
    }
}

impl<T> fmt::Debug for RemoteJoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteJoinHandle")
            .field("id", &self.id().map(|id| id.0))
            .field("is_finished", &self.is_finished())
            .finish()
    }
}
