//! A handle whose drop aborts the task.

use super::{AbortHandle, Id, JoinError, JoinHandle};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Awaits the output of a task, as [`JoinHandle`] does. Dropping it aborts the task.
///
/// # Panics
/// If polled again after it was ready.
///
/// # Cancel safety
/// Dropping it aborts the task. A `&mut AbortOnDrop` may be awaited again.
///
/// # Examples
/// ```
/// use fahrenheit::{spawn, task::AbortOnDrop};
///
/// fahrenheit::run(async {
///     let forever = AbortOnDrop::new(spawn(std::future::pending::<()>()));
///     let task = AbortOnDrop::new(spawn(async { 6 * 7 }));
///     assert_eq!(task.await.unwrap(), 42);
///     // `run` also waits for tasks; this one ends here.
///     drop(forever);
/// });
/// ```
#[doc(alias = "AbortOnDropHandle")]
#[derive(Debug)]
#[must_use = "dropping it aborts the task"]
pub struct AbortOnDrop<T> {
    // Before the handle, whose drop detaches the task.
    guard: Guard,
    handle: JoinHandle<T>,
}

/// Aborts a task when it is dropped.
#[derive(Debug)]
struct Guard {
    /// `None` if the task is to go on.
    abort: Option<AbortHandle>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(handle) = &self.abort {
            handle.abort();
        }
    }
}

impl<T> AbortOnDrop<T> {
    /// Has the task of `handle` aborted when the returned value is dropped.
    pub fn new(handle: JoinHandle<T>) -> AbortOnDrop<T> {
        let abort = Some(handle.abort_handle());
        AbortOnDrop {
            guard: Guard { abort },
            handle,
        }
    }

    /// Returns a handle that does not abort the task when it is dropped.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::{spawn, task::AbortOnDrop};
    ///
    /// fahrenheit::run(async {
    ///     let task = AbortOnDrop::new(spawn(async { 42 }));
    ///     assert!(!task.is_finished());
    ///     println!("task {}", task.id());
    ///     // From here on it goes on by itself.
    ///     assert_eq!(task.into_handle().await.unwrap(), 42);
    /// });
    /// ```
    pub fn into_handle(mut self) -> JoinHandle<T> {
        self.guard.abort = None;
        self.handle
    }

    /// Asks for the task to be dropped at its next turn, as [`JoinHandle::abort`] does.
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// Returns a handle that aborts the task from any thread.
    pub fn abort_handle(&self) -> AbortHandle {
        self.handle.abort_handle()
    }

    /// Returns true if the task has ended: its future has returned, has panicked or was dropped.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Returns the id by which the log and errors name the task.
    pub fn id(&self) -> Id {
        self.handle.id()
    }
}

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.handle).poll(cx)
    }
}
