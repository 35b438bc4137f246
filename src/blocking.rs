//! Blocking work as a future: [`spawn_blocking`].
//!
//! A job runs on a thread of the pool. Its output comes back through a slot that both threads
//! share, and a waker.
//!
//! **Invariant.** The future of every job becomes ready: with the output, with the panic, or with
//! the reason why the job could not be started.

pub(crate) use crate::event_loop::pool::Kind;

use crate::event_loop::boundary::{self, Payload, contain, drop_value};
use crate::event_loop::note::Note;
use crate::event_loop::notes::Hidden;
use crate::event_loop::pool::lock;
use crate::event_loop::{context, with};
use crate::sys::fork;
use crate::task::{Builder, JoinError, JoinHandle};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Runs `job` on a thread of the blocking pool, and returns a handle to await its output.
///
/// The threads belong to the loop of this thread and are called `fahrenheit-blocking-N`. They are
/// started when they are needed, 32 at most (see [`Builder::blocking_threads`]), and end when they
/// have been idle for five seconds. When all are busy, jobs wait in a queue. One thread is kept
/// free for host name look-ups.
///
/// [`run`] does not wait for jobs whose handle no task awaits. Aborting a job that has not begun
/// removes it from the queue. A job that has begun runs to its end, and its output is dropped on
/// its own thread.
///
/// # Errors
/// The handle returns a [`JoinError`] if the job panics, or if no thread could be started for it.
///
/// # Examples
/// ```
/// fahrenheit::run(async {
///     let sum = fahrenheit::spawn_blocking(|| (1..=1_000_u64).sum::<u64>());
///     assert_eq!(sum.await.unwrap(), 500_500);
/// });
/// ```
///
/// The captures and the output of a job move between threads, so they have to be `Send`:
///
/// ```compile_fail
/// let local = std::rc::Rc::new(5);
/// drop(fahrenheit::spawn_blocking(move || *local));
/// ```
///
/// ```compile_fail
/// drop(fahrenheit::spawn_blocking(|| std::rc::Rc::new(5)));
/// ```
///
/// [`Builder::blocking_threads`]: crate::Builder::blocking_threads
/// [`run`]: crate::run
#[doc(alias("unblock", "block_in_place"))]
#[track_caller]
pub fn spawn_blocking<F, T>(job: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Builder::new()
        .daemon(true)
        .spawn_fallible(submit(Kind::Work, job))
}

/// Submits `job` to the pool of this thread's loop. The future is ready when the job has ended.
/// Dropping the future removes a job that has not begun.
pub(crate) fn submit<F, T>(kind: Kind, job: F) -> Pending<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let slot = Arc::new(Mutex::new(Slot::Waiting(None)));
    let theirs = Arc::clone(&slot);
    let run = move || {
        if matches!(*lock(&theirs), Slot::Gone) {
            return;
        }
        let outcome = contain(job);
        let mut slot = lock(&theirs);
        if let Slot::Waiting(waker) = &mut *slot {
            let waker = waker.take();
            *slot = Slot::Done(outcome);
            drop(slot);
            if let Some(waker) = waker {
                boundary::wake(waker);
            }
        }
    };
    let ended = || Err(io::Error::other("this thread is ending"));
    let shared = with(|l| l.pool.shared()).unwrap_or_else(ended);
    let error = shared
        .and_then(|shared| shared.submit(kind, Box::new(run)))
        .err();
    Pending {
        slot,
        error,
        kind,
        note: Note::default(),
        n_forks: fork::count(),
    }
}

/// Where a job leaves its outcome.
enum Slot<T> {
    /// The job has not ended. Holds the waker of the task that awaits it.
    Waiting(Option<Waker>),
    /// The job has ended.
    Done(Result<T, Payload>),
    /// The outcome was taken, or is not wanted. A job that has not begun does not run.
    Gone,
}

/// The future of a submitted job.
pub(crate) struct Pending<T> {
    /// Shared with the thread that runs the job.
    slot: Arc<Mutex<Slot<T>>>,
    /// Why the job could not be submitted.
    error: Option<io::Error>,
    kind: Kind,
    /// Says in dumps that the task waits for a job.
    note: Note,
    /// Value of [`fork::count`] when the job was submitted.
    n_forks: usize,
}

impl<T> Future for Pending<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let id = context::current_id();
        if self.stayed_with_parent() {
            let text = "the process was forked, and the job is running in the parent";
            return Poll::Ready(Err(JoinError::not_started(id, io::Error::other(text))));
        }
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(JoinError::not_started(id, error)));
        }
        // Cloned before and dropped after the lock is held, because both may run foreign code.
        let waker = cx.waker().clone();
        let mut slot = lock(&self.slot);
        let displaced = match &mut *slot {
            Slot::Waiting(known) => known.replace(waker),
            Slot::Done(_) | Slot::Gone => {
                let outcome = std::mem::replace(&mut *slot, Slot::Gone);
                drop(slot);
                self.note.clear();
                return Poll::Ready(match outcome {
                    Slot::Done(outcome) => outcome.map_err(|p| JoinError::panicked(id, p)),
                    _ => Err(JoinError::cancelled(id)),
                });
            }
        };
        drop(slot);
        drop(displaced);
        let kind = self.kind;
        self.note.put(cx.waker(), Hidden::Job(kind));
        Poll::Pending
    }
}

impl<T> Pending<T> {
    /// Lets the job run although its outcome is not wanted. Logs an error if it was not submitted.
    #[cfg(feature = "fs")]
    pub(crate) fn detach(mut self) {
        if let Some(error) = self.error.take() {
            boundary::error!("a detached blocking job is lost: {error}");
        }
        // The job keeps its own slot, which says that its outcome is waited for, so it runs.
        self.slot = Arc::new(Mutex::new(Slot::Gone));
    }

    /// True in a forked child. The job, and the lock that it may hold, belong to the parent then.
    pub(crate) fn stayed_with_parent(&self) -> bool {
        self.n_forks != fork::count()
    }
}

impl<T> std::fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        // In a child, the lock may be held for ever by a thread that exists only in the parent.
        if !self.stayed_with_parent() {
            let outcome = std::mem::replace(&mut *lock(&self.slot), Slot::Gone);
            drop_value(outcome);
        }
    }
}
