//! Counters and gauges of one loop: [`Metrics`].
//!
//! What is counted in each turn is in cells of the thread, not in the loop, so that counting
//! borrows nothing. What needs a clock is in `tracking`.

#[cfg(feature = "dump")]
use super::tracking::{self, Tracked};
use super::with;
use crate::sys::select::Waited;
use crate::sys::task;
use std::cell::Cell;

/// What is counted while the loop runs. Each wraps around.
pub(super) struct Counts {
    pub(super) turns: Cell<u64>,
    pub(super) polls: Cell<u64>,
    pub(super) waits: Cell<u64>,
    pub(super) ended_by_wake: Cell<u64>,
    pub(super) ended_by_fd: Cell<u64>,
    pub(super) wakers_called: Cell<u64>,
    pub(super) timers_fired: Cell<u64>,
}

thread_local! {
    static COUNTS: Counts = const {
        Counts {
            turns: Cell::new(0),
            polls: Cell::new(0),
            waits: Cell::new(0),
            ended_by_wake: Cell::new(0),
            ended_by_fd: Cell::new(0),
            wakers_called: Cell::new(0),
            timers_fired: Cell::new(0),
        }
    };
}

/// Adds to counters of this thread.
pub(super) fn count(f: impl FnOnce(&Counts)) {
    COUNTS.with(f);
}

pub(super) fn add(counter: &Cell<u64>, n: usize) {
    counter.set(counter.get().wrapping_add(n as u64));
}

/// Counts a wait by what has ended it.
pub(super) fn count_wait(waited: Waited, pipe_ready: bool) {
    count(|c| {
        add(&c.waits, 1);
        match (pipe_ready, waited) {
            (true, _) => add(&c.ended_by_wake, 1),
            (false, Waited::Ready(0)) => {}
            (false, _) => add(&c.ended_by_fd, 1),
        }
    });
}

/// Counters and gauges of the loop of one thread, at one moment; returned by
/// [`metrics`](crate::metrics).
///
/// Counters only grow, from the first use of the loop on; over `run`s as well. Gauges say what is
/// there now. The example `metrics` writes them in the text format of Prometheus.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Counter: turns of the loop that have begun, in `run`, `block_on` and `turn`.
    pub turns: u64,
    /// Counter: polls of tasks and of main futures, without those of the turn that is under way.
    pub polls: u64,
    /// Counter: calls of `select` or of the kernel's queue in which the loop may have waited.
    pub waits: u64,
    /// Counter: waits that another thread ended, by a wake or a message.
    pub waits_ended_by_wake: u64,
    /// Counter: waits that a descriptor ended, and no wake at the same time.
    pub waits_ended_by_descriptor: u64,
    /// Counter: waits that ended by their time limit or by a signal. A wait with a limit of zero,
    /// of a loop that has more to do, counts here too.
    pub waits_ended_by_time: u64,
    /// Counter: wakers called because a descriptor was ready or a timer was due.
    pub wakers_called: u64,
    /// Counter: timers that were due.
    pub timers_fired: u64,
    /// Counter: tasks that were spawned, ended ones included.
    pub tasks_spawned: u64,
    /// Gauge: tasks that have not ended, or whose output was not taken yet.
    pub tasks: usize,
    /// Gauge: tasks that wait to be polled.
    pub tasks_queued: usize,
    /// Gauge: registered descriptors that are in `select` while a task waits for them.
    pub descriptors_young: usize,
    /// Gauge: registered descriptors in the kernel's queue.
    pub descriptors_tenured: usize,
    /// Gauge: timers that have not fired yet.
    pub timers_armed: usize,
    /// Gauge: threads of the blocking pool.
    pub blocking_threads: usize,
    /// Gauge: threads of the blocking pool that run a job.
    pub blocking_threads_busy: usize,
    /// Gauge: blocking jobs that no thread has begun yet.
    pub blocking_jobs_queued: usize,
    /// What needs a clock; `None` unless [`Builder::track`](crate::Builder::track) was set.
    #[cfg(feature = "dump")]
    pub tracked: Option<Tracked>,
}

/// Returns counters and gauges of this thread's loop.
///
/// Takes about a microsecond, and 2 ns more for each task and each registered descriptor. All zero
/// if the thread is ending.
///
/// # Examples
/// ```
/// fahrenheit::run(async {
///     fahrenheit::yield_now().await;
///     assert_eq!(fahrenheit::metrics().polls, 0, "those of this turn are not counted yet");
/// });
/// assert_eq!(fahrenheit::metrics().polls, 2);
/// ```
pub fn metrics() -> Metrics {
    let mut metrics = Metrics::default();
    COUNTS.with(|counts| {
        metrics.turns = counts.turns.get();
        metrics.polls = counts.polls.get();
        metrics.waits = counts.waits.get();
        metrics.waits_ended_by_wake = counts.ended_by_wake.get();
        metrics.waits_ended_by_descriptor = counts.ended_by_fd.get();
        metrics.wakers_called = counts.wakers_called.get();
        metrics.timers_fired = counts.timers_fired.get();
    });
    let others = metrics.waits_ended_by_wake + metrics.waits_ended_by_descriptor;
    metrics.waits_ended_by_time = metrics.waits.saturating_sub(others);
    (metrics.tasks, metrics.tasks_queued) = task::n_listed_and_queued();
    with(|l| {
        metrics.tasks_spawned = l.tasks.n_spawned();
        let fds = l.reactor.n_fds();
        metrics.descriptors_young = fds.n_young;
        metrics.descriptors_tenured = fds.n_tenured;
        metrics.timers_armed = l.timers.len();
        let pool = l.pool.counts();
        metrics.blocking_threads = pool.n_threads;
        metrics.blocking_threads_busy = pool.n_busy;
        metrics.blocking_jobs_queued = pool.n_queued;
    });
    #[cfg(feature = "dump")]
    {
        metrics.tracked = tracking::tracked();
    }
    metrics
}
