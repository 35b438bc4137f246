//! What is being polled right now, and how much more it may do in this poll.
//!
//! Operations of this crate find their task here: to yield when its budget is spent, and to log who
//! waits.
//!
//! **Invariant.** The context is set exactly while a task or the main future is polled, and is
//! cleared even if the poll unwinds.

use super::join_error::Id;
use super::{boundary, tracking};
use std::cell::Cell;
use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

/// Number of operations that may succeed in one poll before the task has to yield. Tokio uses the
/// same number.
const BUDGET: u32 = 128;

/// What is being polled. Displayed as "task 7" or "the main future".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Current {
    Outside,
    Main(Id),
    Task(Id),
}

impl Current {
    /// The id of the task, or 0 outside of the loop.
    fn id(self) -> Id {
        match self {
            Current::Outside => Id(0),
            Current::Main(id) | Current::Task(id) => id,
        }
    }
}

impl fmt::Display for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Current::Outside => f.write_str("a future outside of the loop"),
            Current::Main(_) => f.write_str("the main future"),
            Current::Task(id) => write!(f, "task {id}"),
        }
    }
}

thread_local! {
    /// The task or main future that is being polled, for the dumps and the log.
    static CURRENT: Cell<Current> = const { Cell::new(Current::Outside) };
    /// Remaining budget of the current poll; `u32::MAX` outside the loop.
    static BUDGET_LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
    /// Whether polls are timed: for the log, or because the program tracks its tasks.
    static IS_TIMED: Cell<bool> = const { Cell::new(false) };
    /// A poll that takes longer than this is logged.
    static SLOW_POLL: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// Clears the context when a poll ends, also by a panic.
struct Guard;

impl Guard {
    fn enter(current: Current) -> Guard {
        // A nested loop is refused, so nothing else is being polled.
        CURRENT.set(current);
        BUDGET_LEFT.set(BUDGET);
        Guard
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        BUDGET_LEFT.set(u32::MAX);
        CURRENT.set(Current::Outside);
    }
}

/// What came of a poll.
pub(super) struct Polled<R> {
    pub(super) result: R,
    /// The spent part of the budget. A poll of many operations counts as many polls when a turn
    /// decides whether to look at descriptors again.
    pub(super) n_spent: usize,
    /// How long the poll took, if that is to be reported.
    pub(super) slow: Option<Duration>,
}

/// Calls `poll`, which polls `current`, with a fresh budget.
// Tasks and the main future are polled by it. Without this attribute the compiler may decide not to
// inline it, and then each poll takes 36 instructions more.
#[inline]
pub(super) fn poll_with_budget<R>(current: Current, poll: impl FnOnce() -> R) -> Polled<R> {
    let guard = Guard::enter(current);
    // The clock is read only if the program wants to know how long polls take.
    let begin = IS_TIMED.get().then(tracking::poll_begins);
    let result = poll();
    let n_spent = BUDGET.saturating_sub(BUDGET_LEFT.get()) as usize;
    // Before the report, which is logged: the logger is not part of the task.
    drop(guard);
    let slow = begin.and_then(|begin| {
        let took = tracking::poll_ended(current.id().0, begin);
        let limit = SLOW_POLL.get();
        limit.is_some_and(|limit| took > limit).then_some(took)
    });
    Polled {
        result,
        n_spent,
        slow,
    }
}

/// Logs that one poll of `who` took that long.
pub(super) fn report_slow_poll(who: &str, took: Duration) {
    boundary::warning!("{who}: one poll took {took:?}, and nothing else ran meanwhile");
}

/// Has polls on this thread that take longer than `limit` logged, or none.
pub(crate) fn set_slow_poll(limit: Option<Duration>) {
    SLOW_POLL.set(limit);
    IS_TIMED.set(limit.is_some() || tracking::is_on());
}

/// Turns on or off that the times of tasks and of the loop are measured.
#[cfg(feature = "dump")]
pub(crate) fn set_tracking(on: bool) {
    tracking::set(on);
    IS_TIMED.set(on || SLOW_POLL.get().is_some());
}

/// Returns what is being polled.
pub(crate) fn current() -> Current {
    CURRENT.get()
}

/// Returns the id of the task that is being polled, or 0 outside the loop.
pub(crate) fn current_id() -> Id {
    CURRENT.get().id()
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
