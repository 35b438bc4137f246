//! Unit tests of the blocking pool.

use super::*;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

fn pool(limit: usize, idle_time: Duration) -> (Pool, Arc<Shared>) {
    let mut pool = Pool::default();
    pool.set_limit(limit);
    let shared = pool.shared().unwrap();
    lock(&shared.state).idle_time = idle_time;
    (pool, shared)
}

/// Waits until `condition` holds, by asking again: no event says that a thread has ended.
fn until(shared: &Shared, condition: impl Fn(&State) -> bool) {
    let start = Instant::now();
    while !condition(&lock(&shared.state)) {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
}

/// A job that sends a message when it begins, and then waits until the sender is dropped.
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
fn idle_threads_end_and_the_next_job_starts_another() {
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
fn names_use_half_of_the_threads_and_given_up_ones_start_no_more() {
    let (_pool, shared) = pool(4, IDLE_TIME);
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
    // The other half runs work, however many look-ups wait.
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
fn work_that_never_ends_leaves_one_thread_for_names() {
    let (_pool, shared) = pool(4, IDLE_TIME);
    let (begun, begins) = channel();
    let mut releases = Vec::new();
    for _ in 0..100 {
        let (job, release) = stuck(&begun);
        shared.submit(Kind::Work, job).unwrap();
        releases.push(release);
    }
    (0..3).for_each(|_| begins.recv().unwrap());
    for _ in 0..100 {
        let (done, wait) = channel();
        let job = move || done.send(()).unwrap();
        shared.submit(Kind::Name, Box::new(job)).unwrap();
        wait.recv_timeout(Duration::from_secs(60)).unwrap();
    }
    assert!(begins.try_recv().is_err(), "a fourth job has begun");
    drop(releases);
    (0..97).for_each(|_| begins.recv().unwrap());
    until(&shared, |state| state.n_busy_with_work == 0);
}

#[test]
fn a_single_thread_is_shared_by_work_and_names() {
    let (_pool, shared) = pool(1, IDLE_TIME);
    for kind in [Kind::Work, Kind::Name, Kind::Work] {
        let (done, wait) = channel();
        let job = move || done.send(()).unwrap();
        shared.submit(kind, Box::new(job)).unwrap();
        wait.recv_timeout(Duration::from_secs(60)).unwrap();
    }
    assert_eq!(lock(&shared.state).n_started, 1);
}

#[test]
fn accepted_names_run_even_if_the_limit_is_lowered_to_zero() {
    let (mut pool, shared) = pool(2, IDLE_TIME);
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

/// Two threads submit jobs while the threads of the pool end all the time.
#[test]
fn no_job_that_meets_an_ending_thread_is_lost() {
    let (_pool, shared) = pool(4, Duration::from_micros(20));
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
    assert_eq!(
        (
            state.n_idle,
            state.n_busy_with_work,
            state.n_busy_with_names
        ),
        (0, 0, 0)
    );
}

#[test]
fn threads_end_with_the_pool_after_the_jobs_that_were_taken_in() {
    let (pool, shared) = pool(1, IDLE_TIME);
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
