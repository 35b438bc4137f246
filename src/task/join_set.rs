//! A set of tasks that are awaited, or aborted, together.

use super::{AbortHandle, JoinError, JoinHandle, spawn};
use crate::event_loop::context;
use futures_util::stream::{FuturesUnordered, Stream};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// A set of tasks with outputs of one type, which are awaited in the order in which they end.
///
/// Dropping the set aborts all tasks in it. It works as the set of this name in tokio does.
///
/// # Examples
/// ```
/// use fahrenheit::{task::JoinSet, time::sleep};
/// use std::time::Duration;
///
/// fahrenheit::run(async {
///     let mut set = JoinSet::new();
///     for n in [3, 1, 2] {
///         set.spawn(async move {
///             sleep(Duration::from_millis(n * 20)).await;
///             n
///         });
///     }
///     while let Some(output) = set.join_next().await {
///         println!("{} has ended", output.expect("no task panics"));
///     }
///     assert!(set.is_empty());
/// });
/// ```
#[must_use = "dropping the set aborts its tasks"]
pub struct JoinSet<T: 'static> {
    /// Polls only handles of tasks that have ended since, so a set may be large.
    handles: FuturesUnordered<JoinHandle<T>>,
    /// The waker of the last poll that was pending. `try_join_next` leaves it registered.
    waker: Option<Waker>,
}

impl<T: 'static> JoinSet<T> {
    /// Returns a set without tasks.
    pub fn new() -> JoinSet<T> {
        JoinSet {
            handles: FuturesUnordered::new(),
            waker: None,
        }
    }

    /// Returns the number of tasks whose output has not been taken yet.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::task::JoinSet;
    /// use std::future::{pending, poll_fn};
    ///
    /// fahrenheit::run(async {
    ///     let mut set = JoinSet::new();
    ///     for i in 0..4 {
    ///         set.spawn(async move { i });
    ///     }
    ///     assert_eq!(set.len(), 4);
    ///     assert!(set.try_join_next().is_none(), "none has begun");
    ///     let one = poll_fn(|cx| set.poll_join_next(cx)).await;
    ///     assert!(one.unwrap().unwrap() < 4);
    ///     assert_eq!(set.join_all().await.len(), 3);
    ///
    ///     let mut set = JoinSet::new();
    ///     set.spawn(pending::<()>());
    ///     set.abort_all();
    ///     assert!(set.join_next().await.unwrap().unwrap_err().is_cancelled());
    ///     set.spawn(async {});
    ///     set.detach_all();
    ///     assert!(set.is_empty());
    /// });
    /// ```
    pub fn len(&self) -> usize {
        self.handles.len()
    }

    /// Returns true if the output of every task has been taken.
    pub fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }

    /// Starts `future` as a task of this thread and of this set, as [`spawn`] does.
    ///
    /// The task starts even if the set is never awaited.
    #[track_caller]
    pub fn spawn<F>(&mut self, future: F) -> AbortHandle
    where
        F: Future<Output = T> + 'static,
    {
        let handle = spawn(future);
        let abort_handle = handle.abort_handle();
        self.handles.push(handle);
        // A task that waits for the set has to poll the new handle too.
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
        abort_handle
    }

    /// Waits until a task has ended, takes it out of the set and returns its output.
    ///
    /// Returns `None` if the set is empty, and a [`JoinError`] if the task panicked or was aborted.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future: a task leaves the set only with its output.
    pub async fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        poll_fn(|cx| self.poll_join_next(cx)).await
    }

    /// Polls for the output of a task, as [`join_next`](JoinSet::join_next) does.
    pub fn poll_join_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, JoinError>>> {
        let polled = Pin::new(&mut self.handles).poll_next(cx);
        if polled.is_ready() {
            self.waker = None;
        } else if !self
            .waker
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()))
        {
            self.waker = Some(cx.waker().clone());
        }
        polled
    }

    /// Returns the output of a task that has ended, and takes the task out of the set.
    ///
    /// Returns `None` if no task has ended yet, or the set is empty.
    pub fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
        // The handles keep one waker. If that of a task which waits for the set were replaced here,
        // the task would never be woken.
        let waker = self.waker.clone().unwrap_or_else(|| Waker::noop().clone());
        let mut cx = Context::from_waker(&waker);
        // This function cannot yield, so it must not report "not yet" only to let others run.
        let polled = context::without_budget(|| Pin::new(&mut self.handles).poll_next(&mut cx));
        match polled {
            Poll::Ready(output) => output,
            Poll::Pending => None,
        }
    }

    /// Aborts all tasks. They stay in the set until [`join_next`](JoinSet::join_next) has returned
    /// an error for each; a task that has ended already keeps its output.
    pub fn abort_all(&mut self) {
        self.handles.iter().for_each(JoinHandle::abort);
    }

    /// Aborts all tasks, and waits until their futures have been dropped.
    ///
    /// The set is then empty. Outputs and panics of tasks that had ended before are dropped.
    ///
    /// # Cancel safety
    /// If the future is dropped, all tasks are aborted all the same, and some are left in the set.
    pub async fn shutdown(&mut self) {
        self.abort_all();
        while self.join_next().await.is_some() {}
    }

    /// Waits for all tasks, and returns their outputs in the order in which they ended.
    ///
    /// # Panics
    /// If a task panicked or was aborted. The other tasks are then aborted. To go on in that case,
    /// call [`join_next`](JoinSet::join_next) in a loop.
    ///
    /// # Cancel safety
    /// Dropping the future aborts all tasks and loses the outputs.
    pub async fn join_all(mut self) -> Vec<T> {
        let mut outputs = Vec::with_capacity(self.len());
        while let Some(output) = self.join_next().await {
            match output {
                Ok(output) => outputs.push(output),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(error) => panic!("{error}"),
            }
        }
        outputs
    }

    /// Takes all tasks out of the set without aborting them: they go on as detached tasks.
    pub fn detach_all(&mut self) {
        // Dropping a handle detaches its task.
        self.handles.clear();
    }
}

impl<T: 'static> Drop for JoinSet<T> {
    fn drop(&mut self) {
        self.abort_all();
    }
}

impl<T: 'static> Default for JoinSet<T> {
    fn default() -> JoinSet<T> {
        JoinSet::new()
    }
}

impl<T: 'static> fmt::Debug for JoinSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSet").field("len", &self.len()).finish()
    }
}

/// Spawns each future of an iterator as a task of a new set.
impl<T: 'static, F> FromIterator<F> for JoinSet<T>
where
    F: Future<Output = T> + 'static,
{
    fn from_iter<I: IntoIterator<Item = F>>(futures: I) -> JoinSet<T> {
        let mut set = JoinSet::new();
        for future in futures {
            set.spawn(future);
        }
        set
    }
}
