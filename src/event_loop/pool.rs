//! The blocking pool: the threads that run blocking jobs for one loop.
//!
//! No thread is started before a job needs one, and an idle thread ends after a while. Jobs queue
//! up when all threads are busy. Name look-ups may use half of the threads, and other work all but
//! one, so that neither a dead name server nor jobs that never end can take all threads from the
//! other kind. With a single thread both kinds share it. Knows no task and no loop: a job is a
//! closure.
//!
//! **Invariant.** A job that was accepted runs: while it is queued, there is a thread that will get
//! to it. All counting happens under one mutex, and no job runs under it.

use super::boundary::{self, contain, drop_payload, drop_value};
use crate::sys::fork;
use crate::sys::sync::{Condvar, Mutex, MutexGuard, thread};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Maximum number of threads unless `Builder::blocking_threads` sets another.
const DEFAULT_LIMIT: usize = 32;

/// How long an idle thread waits for another job before it ends.
const IDLE_TIME: Duration = Duration::from_secs(5);

/// What a job is for. Each kind has its own queue and its own share of the threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Blocking jobs of the program, and operations on files.
    Work,
    /// Look-ups of host names.
    Name,
}

type Job = Box<dyn FnOnce() + Send>;

/// The pool of one loop. Dropping it ends idle threads; busy threads finish their jobs first.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// What the loop shares with its threads. `None` until the first job.
    shared: Option<Arc<Shared>>,
    /// Maximum number of threads, if the program has set one.
    limit: Option<usize>,
    /// Value of [`fork::count`] when `shared` was made.
    n_forks: usize,
}

/// Numbers of threads and jobs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PoolCounts {
    /// Threads that have not ended.
    pub(crate) n_threads: usize,
    /// Threads that run a job.
    pub(crate) n_busy: usize,
    /// Jobs that no thread has begun yet.
    pub(crate) n_queued: usize,
}

/// What a loop and its blocking threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Notified when a job is queued, and when the pool is closed.
    work: Condvar,
}

struct State {
    /// Jobs that no thread has begun yet, by kind.
    work: VecDeque<Job>,
    names: VecDeque<Job>,
    /// Maximum number of threads that this loop may start.
    limit: usize,
    /// How long an idle thread waits for another job before it ends.
    idle_time: Duration,
    /// Number of threads that have not ended.
    n_threads: usize,
    /// Number of threads that wait for a job, or were started for one and have not taken it yet.
    n_idle: usize,
    /// Number of threads that run a job, by kind.
    n_busy_with_work: usize,
    n_busy_with_names: usize,
    /// Number of threads started so far; names the next one.
    n_started: usize,
    /// The loop has ended. Threads end as soon as no job is queued.
    closed: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("n_threads", &self.n_threads)
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// Sets the maximum number of threads from now on.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = Some(limit);
        self.after_fork();
        if let Some(shared) = &self.shared {
            lock(&shared.state).limit = limit;
        }
    }

    /// Leaves the threads to the parent if this is a forked child. One of them may have held the
    /// lock while the process forked, so the lock is left to the parent as well. Called before each
    /// use, because a job may be submitted before the loop of the child turns for the first time.
    fn after_fork(&mut self) {
        if self.n_forks != fork::count() {
            // Its threads are the parent's, and so is the mutex, which one of them may have held.
            std::mem::forget(self.shared.take());
            self.n_forks = fork::count();
        }
    }

    /// Counts threads and jobs, for metrics.
    pub(crate) fn counts(&mut self) -> PoolCounts {
        self.after_fork();
        let Some(shared) = &self.shared else {
            return PoolCounts::default();
        };
        let state = lock(&shared.state);
        PoolCounts {
            n_threads: state.n_threads,
            n_busy: state.n_busy_with_work + state.n_busy_with_names,
            n_queued: state.work.len() + state.names.len(),
        }
    }

    /// Returns what jobs are submitted to, or an error if the program allows no threads.
    pub(crate) fn shared(&mut self) -> io::Result<Arc<Shared>> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if limit == 0 {
            let text = "there are no blocking threads: `Builder::blocking_threads` is 0";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        self.after_fork();
        Ok(Arc::clone(
            self.shared
                .get_or_insert_with(|| Arc::new(Shared::new(limit))),
        ))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.after_fork();
        if let Some(shared) = &self.shared {
            // First the mark, then the notification: a thread that wakes up has to see the mark.
            lock(&shared.state).closed = true;
            shared.work.notify_all();
        }
    }
}

impl State {
    fn queue(&mut self, kind: Kind) -> &mut VecDeque<Job> {
        match kind {
            Kind::Work => &mut self.work,
            Kind::Name => &mut self.names,
        }
    }

    fn n_busy(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Work => &mut self.n_busy_with_work,
            Kind::Name => &mut self.n_busy_with_names,
        }
    }

    /// Number of further jobs of `kind` that may begin now, as far as the share of the kind goes.
    fn n_allowed(&self, kind: Kind) -> usize {
        let (share, n_busy) = match kind {
            Kind::Work => (self.limit.saturating_sub(1), self.n_busy_with_work),
            Kind::Name => (self.limit.div_ceil(2), self.n_busy_with_names),
        };
        // At least one, even if the limit was lowered to 0: jobs that were accepted have to run.
        share.max(1).saturating_sub(n_busy)
    }

    /// Number of queued jobs that may begin now.
    fn n_startable(&self) -> usize {
        let n_work = self.work.len().min(self.n_allowed(Kind::Work));
        n_work + self.names.len().min(self.n_allowed(Kind::Name))
    }

    fn start_thread(&mut self, shared: &Arc<Shared>) -> io::Result<()> {
        let shared = Arc::clone(shared);
        let name = format!("fahrenheit-blocking-{}", self.n_started);
        thread::Builder::new()
            .name(name)
            .spawn(move || shared.serve())?;
        self.n_started += 1;
        self.n_threads += 1;
        // Counted as idle from now on, so that a job that comes before the thread is running does
        // not start another one. The thread takes this back when it begins.
        self.n_idle += 1;
        Ok(())
    }

    /// Takes the next job that may begin. Look-ups come first, because their share is smaller.
    fn take_job(&mut self) -> Option<(Kind, Job)> {
        // Look-ups first: they are few, and a connection usually waits for one.
        for kind in [Kind::Name, Kind::Work] {
            if self.n_allowed(kind) == 0 {
                continue;
            }
            if let Some(job) = self.queue(kind).pop_front() {
                *self.n_busy(kind) += 1;
                return Some((kind, job));
            }
        }
        None
    }
}

impl Shared {
    /// Accepts `job`, and starts a thread if one is needed and allowed.
    ///
    /// If no thread can be started, the job waits for one that is running already. If there is
    /// none, the job is dropped and the error is returned.
    pub(crate) fn submit(self: &Arc<Self>, kind: Kind, job: Job) -> io::Result<()> {
        let mut state = lock(&self.state);
        // Queued before a thread is started, so that the thread finds it.
        state.queue(kind).push_back(job);
        // Jobs beyond the share of their kind wait for a thread that is busy with that kind.
        if state.n_startable() <= state.n_idle || state.n_threads >= state.limit {
            // Unlocked first, because the thread that is notified takes the lock.
            drop(state);
            self.work.notify_one();
            return Ok(());
        }
        let Err(error) = state.start_thread(self) else {
            return Ok(());
        };
        if state.n_threads > 0 {
            drop(state);
            boundary::warning!(
                "cannot start another blocking thread: {error}; the job waits for its turn"
            );
            return Ok(());
        }
        // It is still the last one: the lock was held all the time.
        let job = state.queue(kind).pop_back();
        drop(state);
        drop_value(job);
        Err(io::Error::new(
            error.kind(),
            format!("cannot start a blocking thread: {error}"),
        ))
    }

    fn new(limit: usize) -> Shared {
        let state = State {
            work: VecDeque::new(),
            names: VecDeque::new(),
            limit,
            idle_time: IDLE_TIME,
            n_threads: 0,
            n_idle: 0,
            n_busy_with_work: 0,
            n_busy_with_names: 0,
            n_started: 0,
            closed: false,
        };
        Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
        }
    }

    /// Runs jobs on a thread of the pool until the thread has been idle for long enough.
    fn serve(&self) {
        let mut state = lock(&self.state);
        state.n_idle -= 1;
        loop {
            while let Some((kind, job)) = state.take_job() {
                drop(state);
                // Also drops what the job has captured. A panic that got out of here would end this
                // thread while it is still counted.
                if let Err(payload) = contain(job) {
                    drop_payload(payload);
                }
                state = lock(&self.state);
                *state.n_busy(kind) -= 1;
            }
            // Jobs that are still queued are beyond the share of their kind. The threads that are
            // busy with that kind take them.
            if state.closed || state.n_threads > state.limit {
                break;
            }
            state.n_idle += 1;
            let idle_time = state.idle_time;
            let waited = self.work.wait_timeout(state, idle_time);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.n_idle -= 1;
            // A job may have been queued at the moment of the timeout, for this thread to take.
            let nothing = state.n_startable() == 0;
            if timeout.timed_out() && nothing {
                break;
            }
        }
        state.n_threads -= 1;
    }
}

/// Locks, ignoring poisoning: no foreign code runs under a lock of this crate.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
