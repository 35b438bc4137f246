//! Jobs on the blocking pool.

use crate::util::{OnDrop, counted, record, round_trips_in, text, within};
use fahrenheit::time::sleep;
use fahrenheit::{Builder, run, spawn_blocking};
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

fn thread_name() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}

#[test]
fn a_job_runs_on_a_named_thread_and_returns_any_value() {
    within(20, || {
        run(async {
            let (name, id) = spawn_blocking(|| (thread_name(), thread::current().id()))
                .await
                .unwrap();
            assert_eq!(name, "fahrenheit-blocking-0");
            assert_ne!(id, thread::current().id());
            assert_eq!(spawn_blocking(|| vec![1, 2]).await.unwrap(), [1, 2]);
            spawn_blocking(|| ()).await.unwrap();
        });
    });
}

#[test]
fn a_thread_that_is_idle_is_used_again() {
    within(20, || {
        let names: BTreeSet<_> = run(async {
            let mut names = BTreeSet::new();
            for _ in 0..50 {
                names.insert(spawn_blocking(thread_name).await.unwrap());
                // Long enough, nearly always, for the thread to have gone idle.
                sleep(Duration::from_millis(1)).await;
            }
            names
        });
        assert!(names.len() <= 5, "{names:?}");
    });
}

#[test]
fn jobs_run_at_the_same_time() {
    within(20, || {
        let barrier = Arc::new(Barrier::new(4));
        run(async {
            let jobs = (0..4).map(|_| {
                let barrier = Arc::clone(&barrier);
                // All four have to be there for one to go on.
                spawn_blocking(move || barrier.wait().is_leader())
            });
            for job in join_all(jobs).await {
                job.unwrap();
            }
        });
    });
}

#[test]
fn more_jobs_than_threads_wait_for_their_turn() {
    within(30, || {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let outputs = Builder::new().blocking_threads(3).run(async {
            let jobs = (0..200).map(|i| {
                let (now, most) = (Arc::clone(&now), Arc::clone(&most));
                spawn_blocking(move || {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::yield_now();
                    now.fetch_sub(1, Ordering::SeqCst);
                    i
                })
            });
            join_all(jobs).await
        });
        let outputs = outputs.unwrap().into_iter().map(Result::unwrap);
        assert!(outputs.eq(0..200));
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
    });
}

/// The largest number of jobs that run at the same time, of `n_jobs` that wait for each other for a
/// second at most.
async fn n_at_the_same_time(n_jobs: usize) -> usize {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let jobs = (0..n_jobs).map(|_| {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        spawn_blocking(move || {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let start = Instant::now();
            while most.load(Ordering::SeqCst) < n_jobs && start.elapsed() < GIVE_UP {
                thread::sleep(Duration::from_millis(1));
            }
            now.fetch_sub(1, Ordering::SeqCst);
        })
    });
    join_all(jobs).await;
    most.load(Ordering::SeqCst)
}

/// How long a job waits for others to start beside it. A quarter of a second is long for starting
/// threads that may start; a slow machine gets more attempts.
const GIVE_UP: Duration = Duration::from_millis(250);

#[test]
fn the_limit_of_threads_of_each_run_counts_from_then_on() {
    within(60, || {
        let most = |n_threads, n_jobs| {
            let builder = Builder::new().blocking_threads(n_threads);
            builder.run(n_at_the_same_time(n_jobs)).unwrap()
        };
        // One thread is kept for look-ups.
        assert_eq!(most(2, 3), 1);
        assert!((0..20).any(|_| most(4, 3) == 3), "the limit was not raised");
        assert_eq!(most(3, 4), 2, "the limit was not lowered");
    });
}

#[test]
fn at_most_31_jobs_run_at_the_same_time_by_default() {
    within(60, || {
        let run = || run(n_at_the_same_time(31));
        assert!((0..20).any(|_| run() == 31), "fewer than documented");
        assert_eq!(fahrenheit::run(n_at_the_same_time(33)), 31);
    });
}

#[test]
fn the_loop_goes_on_while_a_job_computes() {
    within(30, || {
        run(async {
            let stop = Arc::new(AtomicBool::new(false));
            let theirs = Arc::clone(&stop);
            let job = spawn_blocking(move || {
                let mut n = 0_u64;
                while !theirs.load(Ordering::Relaxed) {
                    n = n.wrapping_mul(31).wrapping_add(7);
                }
                n
            });
            let n_trips = round_trips_in(Duration::from_millis(50)).await;
            stop.store(true, Ordering::Relaxed);
            job.await.unwrap();
            assert!(n_trips > 0);
        });
    });
}

#[test]
fn with_no_threads_a_job_is_an_error_that_says_why() {
    within(20, || {
        let dropped = Arc::new(AtomicUsize::new(0));
        let guard = counted(&dropped);
        let error = Builder::new()
            .blocking_threads(0)
            .run(async { spawn_blocking(move || drop(guard)).await.unwrap_err() });
        let error = error.unwrap();
        assert!(!error.is_cancelled() && !error.is_panic());
        assert!(
            error.to_string().contains("could not be started"),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains("`Builder::blocking_threads` is 0")
        );
        let error = std::io::Error::from(error);
        assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        // A later run may allow them again.
        let again = Builder::new().blocking_threads(1);
        assert_eq!(
            again
                .run(async { spawn_blocking(|| 5).await.unwrap() })
                .unwrap(),
            5
        );
    });
}

#[test]
fn run_returns_while_a_job_is_still_busy() {
    let start = Instant::now();
    within(20, || {
        let (release, busy) = channel::<()>();
        let (started, wait) = channel();
        run(async {
            drop(spawn_blocking(move || {
                started.send(()).unwrap();
                // Until the test is over.
                let _ = busy.recv_timeout(Duration::from_secs(60));
            }));
            spawn_blocking(move || wait.recv().unwrap()).await.unwrap();
        });
        // Kept beyond the end of this thread, and so of its loop.
        std::mem::forget(release);
    });
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "it waited for the job"
    );
}

#[test]
fn the_output_of_a_job_that_was_given_up_is_dropped_on_its_own_thread() {
    within(20, || {
        let (send, receive) = channel();
        let (go, wait) = channel::<()>();
        run(async {
            let (started, has_started) = futures_channel::oneshot::channel();
            let job = spawn_blocking(move || {
                started.send(()).unwrap();
                let _ = wait.recv();
                OnDrop(move || send.send(thread_name()).unwrap())
            });
            has_started.await.unwrap();
            job.abort();
            assert!(job.await.is_err_and(|error| error.is_cancelled()));
        });
        drop(go);
        assert_eq!(receive.recv().unwrap(), "fahrenheit-blocking-0");
    });
}

#[test]
fn an_aborted_job_that_has_not_begun_never_runs() {
    within(20, || {
        let ran = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&ran);
        let run = Builder::new().blocking_threads(1).run(async {
            let (started, wait) = futures_channel::oneshot::channel();
            let (release, busy) = channel::<()>();
            let first = spawn_blocking(move || {
                started.send(()).unwrap();
                busy.recv().is_err()
            });
            wait.await.unwrap();
            let second = spawn_blocking(move || theirs.store(true, Ordering::SeqCst));
            second.abort();
            assert!(second.await.unwrap_err().is_cancelled());
            drop(release);
            assert!(first.await.unwrap());
            // The same thread has passed the place of the second by now.
            spawn_blocking(|| ()).await.unwrap();
        });
        run.unwrap();
        assert!(!ran.load(Ordering::SeqCst));
    });
}

#[test]
fn a_panic_of_a_job_comes_out_and_its_thread_goes_on() {
    within(20, || {
        let one = Builder::new().blocking_threads(1);
        one.run(async {
            let name = spawn_blocking(thread_name).await.unwrap();
            let error = spawn_blocking(|| panic!("a bad job")).await.unwrap_err();
            assert!(error.is_panic());
            assert_eq!(text(&*error.into_panic()), "a bad job");
            assert_eq!(spawn_blocking(thread_name).await.unwrap(), name);
        })
        .unwrap();
    });
}

#[test]
fn a_panic_of_a_job_whose_handle_is_gone_is_logged() {
    within(20, || {
        let ((), lines) = record(|| {
            run(async {
                let job = spawn_blocking(|| panic!("nobody listens"));
                while !job.is_finished() {
                    sleep(Duration::from_millis(1)).await;
                }
                drop(job);
            });
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].ends_with("panicked: nobody listens"), "{lines:?}");
    });
}

#[test]
fn stuck_jobs_below_the_limit_hold_up_no_other_job() {
    within(30, || {
        let released = Arc::new(Mutex::new(()));
        let guard = released.lock().unwrap();
        let stuck = Builder::new().blocking_threads(8).run(async {
            // One of the eight threads is kept for look-ups, and one is left.
            let stuck: Vec<_> = (0..6)
                .map(|_| {
                    let released = Arc::clone(&released);
                    spawn_blocking(move || drop(released.lock()))
                })
                .collect();
            for _ in 0..20 {
                spawn_blocking(|| ()).await.unwrap();
            }
            // Addresses need no thread at all.
            let listener = fahrenheit::AsyncTcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            fahrenheit::AsyncTcpStream::connect(addr).await.unwrap();
            stuck
        });
        drop(guard);
        for job in stuck.unwrap() {
            run(job).unwrap();
        }
    });
}

#[test]
fn jobs_of_a_loop_that_has_ended_are_harmless() {
    for _ in 0..20 {
        let (release, busy) = channel::<()>();
        let (done, wait) = channel();
        within(20, move || {
            run(async {
                let (started, has_started) = futures_channel::oneshot::channel();
                drop(spawn_blocking(move || {
                    started.send(()).unwrap();
                    let _ = busy.recv();
                    done.send(()).unwrap();
                }));
                has_started.await.unwrap();
            });
        });
        drop(release);
        wait.recv().unwrap();
    }
}

/// All threads that jobs may use are stuck. A look-up has a thread of its own.
#[test]
fn jobs_that_never_end_leave_host_names_to_be_looked_up() {
    within(60, || {
        let stuck = Arc::new(Mutex::new(()));
        let held = stuck.lock().unwrap();
        fahrenheit::block_on(async {
            let listener = fahrenheit::AsyncTcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let (begun, begins) = channel();
            for _ in 0..40 {
                let (stuck, begun) = (Arc::clone(&stuck), begun.clone());
                drop(spawn_blocking(move || {
                    begun.send(()).unwrap();
                    drop(stuck.lock());
                }));
            }
            (0..31).for_each(|_| begins.recv().unwrap());
            // A thread that is left would begin the next job now.
            sleep(Duration::from_millis(50)).await;
            let stream = fahrenheit::AsyncTcpStream::connect(format!("localhost:{port}"));
            stream.await.unwrap();
        });
        drop(held);
    });
}
