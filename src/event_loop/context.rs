//! What is being polled right now, and how much more it may do in this poll.
//!
//! Operations of this crate find their task here: to yield when its budget is spent, to log who
//! waits, and to return the waker of a task that is out of the table because it is being polled.
//!
//! **Invariant.** The context is set exactly while a task or the main future is polled, and is
//! cleared even if the poll unwinds.

use super::boundary;
use super::join_error::Id;
use super::waker::{Key, TaskWaker};
use super::with;
use futures_util::task::waker_ref;
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Number of operations that may succeed in one poll before the task has to yield. Tokio uses the
/// same number.
const BUDGET: u32 = 128;

thread_local! {
    /// The waker of the task that is being polled.
    ///
    /// `ManuallyDrop`, because without a destructor this value can still be read in the
    /// destructors of other thread-local values. [`Guard`] always takes the waker out again.
    static CURRENT: RefCell<Option<ManuallyDrop<Arc<TaskWaker>>>> = const { RefCell::new(None) };
    /// Remaining budget of the current poll; `u32::MAX` outside the loop.
    static BUDGET_LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
    /// A poll that takes longer than this is logged.
    static SLOW_POLL: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// Clears the context when a poll ends, also by a panic.
struct Guard;

impl Guard {
    fn enter(waker: Arc<TaskWaker>) -> Guard {
        // A nested loop is refused, so no other waker is lost here.
        CURRENT.replace(Some(ManuallyDrop::new(waker)));
        BUDGET_LEFT.set(BUDGET);
        Guard
    }

    /// Returns the waker and the part of the budget that was spent.
    fn leave(self) -> (Arc<TaskWaker>, u32) {
        let n_spent = BUDGET.saturating_sub(BUDGET_LEFT.replace(u32::MAX));
        let waker = CURRENT.take().expect("only a guard takes the waker out");
        (ManuallyDrop::into_inner(waker), n_spent)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        BUDGET_LEFT.set(u32::MAX);
        // After `leave` there is nothing left to drop here.
        drop(CURRENT.take().map(ManuallyDrop::into_inner));
    }
}

/// Calls `poll` with a fresh budget and with `waker` as the waker of the task.
///
/// Returns also the spent part of the budget, because a poll of many operations counts as many
/// polls when a turn decides whether to look at descriptors again, and gives `waker` back.
pub(super) fn poll_with_budget<R>(
    waker: Arc<TaskWaker>,
    poll: impl FnOnce(&mut Context<'_>) -> R,
) -> (R, usize, Arc<TaskWaker>) {
    let guard = Guard::enter(waker);
    // The clock is read only if the program wants to know about slow polls.
    let slow = SLOW_POLL.get().map(|limit| (limit, Instant::now()));
    let polled = CURRENT.with_borrow(|current| match current {
        Some(waker) => poll(&mut Context::from_waker(&waker_ref(waker))),
        None => unreachable!("the guard has put the waker there"),
    });
    // Before the report below, which is logged: the logger is not part of the task.
    let (waker, n_spent) = guard.leave();
    if let Some((limit, start)) = slow {
        report_slow_poll(waker.key(), limit, start.elapsed());
    }
    (polled, n_spent as usize, waker)
}

/// Has polls on this thread that take longer than `limit` logged, or none.
pub(crate) fn set_slow_poll(limit: Option<Duration>) {
    SLOW_POLL.set(limit);
}

/// Returns the waker of task `key` if that task is being polled.
pub(crate) fn current_waker(key: Key) -> Option<Arc<TaskWaker>> {
    CURRENT.with_borrow(|current| {
        let waker = current.as_deref().filter(|waker| waker.key() == key);
        waker.cloned()
    })
}

/// Returns the key of the task that is being polled.
pub(super) fn current_key() -> Option<Key> {
    CURRENT.with_borrow(|current| Some(current.as_deref()?.key()))
}

/// Returns the id of the task that is being polled, or 0 outside the loop.
pub(crate) fn current_id() -> Id {
    Id(current_key().map_or(0, |key| key.serial))
}

/// Pending if the budget of this poll is spent. The task is then queued again, and the operation
/// has to return `Pending`, so that other tasks and descriptors get their turn.
pub(crate) fn poll_budget(cx: &Context<'_>) -> Poll<()> {
    if BUDGET_LEFT.get() > 0 {
        return Poll::Ready(());
    }
    // The task goes to the end of the run queue. Without this wake it would sleep although its
    // operation is ready.
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Counts one operation that has succeeded.
pub(crate) fn spend_budget() {
    // Saturating, because one poll may complete several operations between two checks.
    BUDGET_LEFT.set(BUDGET_LEFT.get().saturating_sub(1));
}

/// Calls `poll` with an unlimited budget.
pub(crate) fn without_budget<R>(poll: impl FnOnce() -> R) -> R {
    struct Restore(u32);
    impl Drop for Restore {
        fn drop(&mut self) {
            BUDGET_LEFT.set(self.0);
        }
    }
    // Restored by a destructor, because `poll` may panic, and the panic may be caught by the task.
    let _restore = Restore(BUDGET_LEFT.replace(u32::MAX));
    poll()
}

/// Logs a poll of task `key` that took longer than `limit`.
fn report_slow_poll(key: Key, limit: Duration, took: Duration) {
    if took > limit {
        let task = with(|l| l.tasks.describe(key)).flatten();
        let task = task.unwrap_or_else(|| "the main future".to_owned());
        boundary::warning!("{task}: one poll took {took:?}, and nothing else ran meanwhile");
    }
}
