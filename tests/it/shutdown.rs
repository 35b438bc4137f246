//! [`fahrenheit::task::Shutdown`]: ending in good order.

use crate::util::{Count, OnDrop, counted, poll_with, within};
use fahrenheit::task::Shutdown;
use fahrenheit::time::sleep;
use fahrenheit::{run, spawn, yield_now};
use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn all_who_wait_are_told_and_those_who_come_later_at_once() {
    run(async {
        let shutdown = Shutdown::new();
        let n_told = Rc::new(Cell::new(0));
        for _ in 0..5 {
            let (told, n_told) = (shutdown.requested(), Rc::clone(&n_told));
            spawn(async move {
                told.await;
                n_told.set(n_told.get() + 1);
            })
            .detach();
        }
        yield_now().await;
        assert_eq!((n_told.get(), shutdown.is_requested()), (0, false));
        shutdown.clone().request();
        shutdown.request();
        yield_now().await;
        assert_eq!((n_told.get(), shutdown.is_requested()), (5, true));
        shutdown.requested().await;
        shutdown.guard().requested().await;
    });
}

#[test]
fn finish_waits_for_guards_and_tasks_and_no_longer() {
    within(30, || {
        run(async {
            let shutdown = Shutdown::new();
            assert_eq!(shutdown.finish(Duration::ZERO).await, 0, "there is no work");
            let shutdown = Shutdown::new();
            let (guard, told) = (shutdown.guard(), shutdown.requested());
            let copy = guard.clone();
            spawn(async move {
                told.await;
                drop(guard);
                sleep(Duration::from_millis(2)).await;
                drop(copy);
            })
            .detach();
            let inner = shutdown.clone();
            let task = shutdown.spawn(async move {
                inner.requested().await;
                // Work that begins after the request counts, too.
                inner.spawn(sleep(Duration::from_millis(5))).detach();
                "done"
            });
            assert_eq!(shutdown.n_in_progress(), 3);
            assert_eq!(shutdown.finish(LONG).await, 0);
            assert_eq!(shutdown.n_in_progress(), 0);
            assert_eq!(task.await.unwrap(), "done");
        });
    });
}

#[test]
fn what_takes_longer_than_the_limit_is_aborted_and_counted() {
    within(30, || {
        let n_drops = Arc::new(AtomicUsize::new(0));
        run(async {
            let shutdown = Shutdown::new();
            let tasks: Vec<_> = (0..3)
                .map(|_| {
                    let capture = counted(&n_drops);
                    shutdown.spawn(async move {
                        let _capture = capture;
                        pending::<()>().await;
                    })
                })
                .collect();
            let _guard = shutdown.guard();
            let begun = Instant::now();
            assert_eq!(shutdown.finish(Duration::from_millis(20)).await, 4);
            assert!(begun.elapsed() >= Duration::from_millis(20));
            assert_eq!(
                n_drops.load(Ordering::SeqCst),
                3,
                "dropped before it returns"
            );
            // The guard is not a task, so it cannot be aborted.
            assert_eq!(shutdown.n_in_progress(), 1);
            for task in tasks {
                assert!(task.await.unwrap_err().is_cancelled());
            }
        });
    });
}

#[test]
fn a_task_that_panics_or_is_aborted_is_no_work_any_more() {
    within(30, || {
        run(async {
            let shutdown = Shutdown::new();
            let panics = shutdown.spawn(async { panic!("on purpose") });
            let aborted = shutdown.spawn(pending::<()>());
            aborted.abort();
            assert_eq!(shutdown.finish(LONG).await, 0);
            assert!(panics.await.unwrap_err().is_panic());
        });
    });
}

#[test]
fn a_task_that_was_never_polled_drops_its_future_before_it_counts_as_ended() {
    let shutdown = Shutdown::new();
    let seen = Rc::new(Cell::new(0));
    let (inner, theirs) = (shutdown.clone(), Rc::clone(&seen));
    let capture = OnDrop(move || theirs.set(inner.n_in_progress()));
    let task = shutdown.spawn(async move {
        let _capture = &capture;
        pending::<()>().await;
    });
    task.abort();
    fahrenheit::block_on(yield_now());
    assert_eq!((seen.get(), shutdown.n_in_progress()), (1, 0));
}

#[test]
fn a_future_that_is_dropped_leaves_no_waker_behind() {
    let shutdown = Shutdown::new();
    let (count, waker) = Count::waker();
    let n_wakers = || Arc::strong_count(&count);
    let before = n_wakers();
    let mut told = shutdown.requested();
    assert!(poll_with(&mut told, &waker).is_pending());
    assert!(poll_with(&mut told, &waker).is_pending());
    assert_eq!(n_wakers(), before + 1);
    drop(told);
    assert_eq!(n_wakers(), before);
    shutdown.request();
    assert_eq!(count.get(), 0);
}
