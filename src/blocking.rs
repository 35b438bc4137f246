//! Work that would hold up the loop, as a future: [`spawn_blocking`].
//!
//! A job runs on a thread of the pool; what it returns comes back through a slot and a waker.
//!
//! **Invariant.** Every job's future becomes ready: with the output, the panic, or the reason why
//! it could not be started.

pub(crate) use crate::event_loop::pool::Kind;

use crate::event_loop::boundary::{self, Payload, contain, drop_value};
use crate::event_loop::pool::lock;
use crate::event_loop::{context, with};
use crate::sys::fork;
use crate::task::{Builder, JoinError, JoinHandle};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Runs `job` on a thread of the blocking pool, and returns a handle to await what it returns.
///
/// The threads belong to the loop of this thread, are called `fahrenheit-blocking-N`, are started
/// when they are needed (32 at the most, see [`Builder::blocking_threads`]) and end when they have
/// been idle for five seconds. More jobs than threads wait for their turn. [`run`] does not wait
/// for jobs that nobody awaits. Aborting a job that has not begun takes it out; one that has begun
/// goes on, and its output is dropped on its own thread.
///
/// # Errors
/// The handle returns a [`JoinError`] if the job panics, and also if no thread could be started for
/// it.
///
/// # Examples
/// ```
/// fahrenheit::run(async {
///     let sum = fahrenheit::spawn_blocking(|| (1..=1_000_u64).sum::<u64>());
///     assert_eq!(sum.await.unwrap(), 500_500);
/// });
/// ```
///
/// What a job takes along and returns goes to another thread, so it has to be `Send`:
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

/// Gives `job` to this loop's pool. The future is ready when it has ended; dropping it takes the
/// job out if it has not begun.
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
        n_forks: fork::count(),
    }
}

/// Where a job's outcome is left.
enum Slot<T> {
    Waiting(Option<Waker>),
    Done(Result<T, Payload>),
    /// Nobody waits any more.
    Gone,
}

/// The outcome of a job, when it has one.
pub(crate) struct Pending<T> {
    slot: Arc<Mutex<Slot<T>>>,
    error: Option<io::Error>,
    /// How many forks had been counted when the job was given away.
    n_forks: usize,
}

impl<T> Future for Pending<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let id = context::current_id();
        if self.stayed_with_parent() {
            let text = "the process has forked: the job has stayed with the parent";
            return Poll::Ready(Err(JoinError::not_started(id, io::Error::other(text))));
        }
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(JoinError::not_started(id, error)));
        }
        // Before the lock: cloning and dropping wakers is foreign code.
        let waker = cx.waker().clone();
        let mut slot = lock(&self.slot);
        let displaced = match &mut *slot {
            Slot::Waiting(known) => known.replace(waker),
            Slot::Done(_) | Slot::Gone => {
                let outcome = std::mem::replace(&mut *slot, Slot::Gone);
                drop(slot);
                return Poll::Ready(match outcome {
                    Slot::Done(outcome) => outcome.map_err(|p| JoinError::panicked(id, p)),
                    _ => Err(JoinError::cancelled(id)),
                });
            }
        };
        drop(slot);
        drop(displaced);
        Poll::Pending
    }
}

impl<T> Pending<T> {
    /// Has the job run in any case, without anybody who waits for it.
    pub(crate) fn detach(mut self) {
        if let Some(error) = self.error.take() {
            boundary::error!("a job that nobody waits for is lost: {error}");
        }
        self.slot = Arc::new(Mutex::new(Slot::Gone));
    }

    /// Whether this is a child, and the job and whatever it has locked are the parent's.
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
        // In a child, a thread that does not exist here may have held the lock.
        if !self.stayed_with_parent() {
            let outcome = std::mem::replace(&mut *lock(&self.slot), Slot::Gone);
            drop_value(outcome);
        }
    }
}
