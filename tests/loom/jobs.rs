//! The queue of the blocking pool: every job that is taken in runs, and every thread ends.
//!
//! A job that never runs leaves the main thread waiting for it for ever, and so does a thread of
//! the pool that never ends; loom reports both as a deadlock.

use crate::Model;
use crate::event_loop::pool::{Kind, Pool, Shared};
use crate::sys::sync::{Clock, thread};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) const MODELS: &[Model] = &[
    (
        "pool_a_job_submitted_while_an_idle_thread_ends_runs",
        idle_thread_ends,
    ),
    (
        "pool_jobs_submitted_before_its_end_run_and_all_threads_end",
        pool_ends,
    ),
    (
        "pool_name_lookups_beyond_their_share_run_beside_other_jobs",
        names,
    ),
    (
        "pool_jobs_run_on_existing_threads_if_no_other_can_be_started",
        no_more_threads,
    ),
];

fn pool(limit: usize) -> (Pool, Arc<Shared>) {
    let mut pool = Pool::default();
    pool.set_limit(limit);
    let shared = pool.shared().unwrap();
    (pool, shared)
}

/// Jobs that have been given away, and wait for to have run. Its count is the model's own, and not
/// to be tried in every order.
struct Jobs {
    n_done: Arc<AtomicUsize>,
    n_taken: usize,
}

impl Jobs {
    fn new() -> Jobs {
        Jobs {
            n_done: Arc::new(AtomicUsize::new(0)),
            n_taken: 0,
        }
    }

    fn submit(&mut self, shared: &Arc<Shared>, kind: Kind) -> io::Result<()> {
        let (n_done, main) = (Arc::clone(&self.n_done), loom::thread::current());
        let job = move || {
            n_done.fetch_add(1, Ordering::SeqCst);
            main.unpark();
        };
        shared.submit(kind, Box::new(job))?;
        self.n_taken += 1;
        Ok(())
    }

    /// Waits until all have run.
    fn join(&self) {
        while self.n_done.load(Ordering::SeqCst) < self.n_taken {
            loom::thread::park();
        }
    }
}

/// The time for which the thread waits may be over at any moment, while jobs come.
fn idle_thread_ends() {
    let (_pool, shared) = pool(1);
    let clock = Clock::here();
    loom::thread::spawn(move || clock.pass());
    let mut jobs = Jobs::new();
    jobs.submit(&shared, Kind::Work).unwrap();
    jobs.submit(&shared, Kind::Work).unwrap();
    jobs.join();
}

fn pool_ends() {
    let (pool, shared) = pool(2);
    let mut jobs = Jobs::new();
    jobs.submit(&shared, Kind::Work).unwrap();
    jobs.submit(&shared, Kind::Work).unwrap();
    drop(pool);
    jobs.join();
}

/// Of two threads, one may be busy with names.
fn names() {
    let (_pool, shared) = pool(2);
    let mut jobs = Jobs::new();
    for kind in [Kind::Name, Kind::Name, Kind::Work] {
        jobs.submit(&shared, kind).unwrap();
    }
    jobs.join();
}

fn no_more_threads() {
    let (_pool, shared) = pool(2);
    thread::allow(1);
    let clock = Clock::here();
    loom::thread::spawn(move || clock.pass());
    let mut jobs = Jobs::new();
    jobs.submit(&shared, Kind::Work).unwrap();
    // An error is an answer, too: the job is not taken in.
    let _ = jobs.submit(&shared, Kind::Work);
    jobs.join();
}
