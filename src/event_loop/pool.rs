//! The blocking pool: a few threads.
//!
//! No thread is started before a job needs one, and an idle one leaves after a while. Jobs queue up
//! when all threads are busy. Name look-ups may use half of the threads at most, so that a dead
//! name server cannot hold up everything else. Knows no task and no loop: a job is a closure.
//!
//! **Invariant.** A job that was taken in runs: while it is queued, there is a thread that will get
//! to it. All counting happens under one mutex.

use super::boundary::{self, contain, drop_payload, drop_value};
use crate::sys::fork;
use crate::sys::sync::{Condvar, Mutex, MutexGuard, thread};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How many threads there may be unless the user says otherwise.
const DEFAULT_LIMIT: usize = 32;

/// How long a thread waits for another job before it ends, outside of tests.
const IDLE: Duration = Duration::from_secs(5);

/// What a job is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Work,
    Name,
}

type Job = Box<dyn FnOnce() + Send>;

/// The threads of one loop. Dropping it lets the idle ones go; busy ones finish their job.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    shared: Option<Arc<Shared>>,
    limit: Option<usize>,
    /// How many forks had been counted when `shared` was made.
    n_forks: usize,
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    work: VecDeque<Job>,
    names: VecDeque<Job>,
    limit: usize,
    /// How long a thread waits for another job before it ends.
    idle: Duration,
    n_threads: usize,
    /// Those that wait for work, or have been started for it and are on their way.
    n_idle: usize,
    n_busy_with_names: usize,
    n_started: usize,
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
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = Some(limit);
        self.after_fork();
        if let Some(shared) = &self.shared {
            lock(&shared.state).limit = limit;
        }
    }

    /// In the child of a fork, the threads are the parent's, and so is the lock that one of them
    /// may have held. A job may come before the loop has turned once.
    fn after_fork(&mut self) {
        if self.n_forks != fork::count() {
            std::mem::forget(self.shared.take());
            self.n_forks = fork::count();
        }
    }

    /// What jobs are given to; an error if there are to be no threads.
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

    fn name_limit(&self) -> usize {
        // One, even if there are to be no threads any more: names that wait have been taken in.
        self.limit.div_ceil(2).max(1)
    }

    fn start_thread(&mut self, shared: &Arc<Shared>) -> io::Result<()> {
        let shared = Arc::clone(shared);
        let name = format!("fahrenheit-blocking-{}", self.n_started);
        thread::Builder::new()
            .name(name)
            .spawn(move || shared.serve())?;
        self.n_started += 1;
        self.n_threads += 1;
        self.n_idle += 1;
        Ok(())
    }

    fn take_job(&mut self) -> Option<(Kind, Job)> {
        if self.n_busy_with_names < self.name_limit() {
            if let Some(job) = self.names.pop_front() {
                self.n_busy_with_names += 1;
                return Some((Kind::Name, job));
            }
        }
        Some((Kind::Work, self.work.pop_front()?))
    }
}

impl Shared {
    /// Takes `job` in, and starts a thread if that is needed and allowed.
    ///
    /// If it cannot be started, the job waits for one that runs already; if there is none, it is
    /// given up, and the error says so.
    pub(crate) fn submit(self: &Arc<Self>, kind: Kind, job: Job) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.queue(kind).push_back(job);
        // Names beyond their share wait for a thread that is busy with names.
        let share = state.name_limit().saturating_sub(state.n_busy_with_names);
        let wanted = state.work.len() + state.names.len().min(share);
        if wanted <= state.n_idle || state.n_threads >= state.limit {
            // The thread that wakes up wants the lock.
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
            idle: IDLE,
            n_threads: 0,
            n_idle: 0,
            n_busy_with_names: 0,
            n_started: 0,
            closed: false,
        };
        Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
        }
    }

    /// The life of one thread.
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
                if kind == Kind::Name {
                    state.n_busy_with_names -= 1;
                }
            }
            if state.closed || state.n_threads > state.limit {
                break;
            }
            state.n_idle += 1;
            let idle = state.idle;
            let waited = self.work.wait_timeout(state, idle);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.n_idle -= 1;
            let nothing = state.work.is_empty() && state.names.is_empty();
            if timeout.timed_out() && nothing {
                break;
            }
        }
        state.n_threads -= 1;
    }
}

/// Locks, whatever happened to the last who did: no job runs under a lock of ours.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Instant;

    fn pool(limit: usize, idle: Duration) -> (Pool, Arc<Shared>) {
        let mut pool = Pool::default();
        pool.set_limit(limit);
        let shared = pool.shared().unwrap();
        lock(&shared.state).idle = idle;
        (pool, shared)
    }

    /// Waits until `condition` holds; nothing tells when a thread has done its last.
    fn until(shared: &Shared, condition: impl Fn(&State) -> bool) {
        let start = Instant::now();
        while !condition(&lock(&shared.state)) {
            assert!(start.elapsed() < Duration::from_secs(60));
            std::thread::yield_now();
        }
    }

    /// A job that says so when it begins, and then waits for the sender to be dropped.
    fn stuck(begun: &Sender<()>) -> (Job, Sender<()>) {
        let (release, wait): (_, Receiver<()>) = channel();
        let begun = begun.clone();
        let job = move || {
            let _ = begun.send(());
            let _ = wait.recv();
        };
        (Box::new(job), release)
    }

    #[test]
    fn sn6_idle_threads_end_and_the_next_job_starts_another() {
        let (_pool, shared) = pool(4, Duration::from_millis(1));
        for round in 1..=3 {
            let (done, wait) = channel();
            let job = move || done.send(()).unwrap();
            shared.submit(Kind::Work, Box::new(job)).unwrap();
            wait.recv().unwrap();
            until(&shared, |state| state.n_threads == 0);
            assert_eq!(lock(&shared.state).n_started, round);
        }
    }

    #[test]
    fn h5_h6_names_use_half_of_the_threads_and_given_up_ones_start_no_more() {
        let (_pool, shared) = pool(4, IDLE);
        let (begun, begins) = channel();
        let mut releases = Vec::new();
        for _ in 0..100 {
            let (job, release) = stuck(&begun);
            shared.submit(Kind::Name, job).unwrap();
            releases.push(release);
        }
        begins.recv().unwrap();
        begins.recv().unwrap();
        assert_eq!(lock(&shared.state).n_threads, 2);
        // The other half is there for work, however many names wait.
        for _ in 0..100 {
            let (done, wait) = channel();
            let job = move || done.send(()).unwrap();
            shared.submit(Kind::Work, Box::new(job)).unwrap();
            wait.recv().unwrap();
        }
        assert!(begins.try_recv().is_err(), "a third name has begun");
        assert!(lock(&shared.state).n_started <= 4);
        drop(releases);
        (0..98).for_each(|_| begins.recv().unwrap());
        until(&shared, |state| state.n_busy_with_names == 0);
    }

    #[test]
    fn h5_names_that_wait_run_even_if_there_are_to_be_no_threads_from_now_on() {
        let (mut pool, shared) = pool(2, IDLE);
        let (begun, begins) = channel();
        let (first, release) = stuck(&begun);
        shared.submit(Kind::Name, first).unwrap();
        let (second, release_second) = stuck(&begun);
        shared.submit(Kind::Name, second).unwrap();
        begins.recv().unwrap();
        pool.set_limit(0);
        drop((release, release_second));
        begins.recv_timeout(Duration::from_secs(60)).unwrap();
        until(&shared, |state| state.n_threads == 0);
    }

    /// Threads that end at the very moment at which a job comes, from two sides.
    #[test]
    fn h4_of_jobs_that_meet_ending_threads_none_is_lost() {
        let (_pool, shared) = pool(3, Duration::from_micros(20));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for round in 0..5_000 {
                        let (done, wait) = channel();
                        let job = move || done.send(round).unwrap();
                        let kind = [Kind::Work, Kind::Name][round % 2];
                        shared.submit(kind, Box::new(job)).unwrap();
                        let limit = Duration::from_secs(60);
                        assert_eq!(wait.recv_timeout(limit), Ok(round));
                    }
                });
            }
        });
        until(&shared, |state| state.n_threads == 0);
        let state = lock(&shared.state);
        assert!(state.n_idle == 0 && state.n_busy_with_names == 0);
    }

    #[test]
    fn sn6_threads_end_with_the_pool_after_the_jobs_that_were_taken_in() {
        let (pool, shared) = pool(1, IDLE);
        let (begun, begins) = channel();
        let (job, release) = stuck(&begun);
        shared.submit(Kind::Work, job).unwrap();
        begins.recv().unwrap();
        let (done, wait) = channel();
        let job = move || done.send(()).unwrap();
        shared.submit(Kind::Work, Box::new(job)).unwrap();
        drop(pool);
        drop(release);
        wait.recv().unwrap();
        until(&shared, |state| state.n_threads == 0);
    }
}
