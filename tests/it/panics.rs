//! A panic stays in its task.

use crate::util::{OnDrop, counted, echo, record, round_trip, tcp_pair, text, within};
use fahrenheit::{run, spawn, yield_now};
use futures_util::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Wake, Waker};

#[test]
fn siblings_of_a_task_that_panics_finish_and_the_payload_is_readable() {
    within(10, || {
        let finished = Arc::new(AtomicUsize::new(0));
        run(async {
            let siblings: Vec<_> = (0..10)
                .map(|_| {
                    let finished = Arc::clone(&finished);
                    spawn(async move {
                        yield_now().await;
                        yield_now().await;
                        finished.fetch_add(1, Ordering::SeqCst);
                    })
                })
                .collect();
            let bad = spawn(async {
                yield_now().await;
                std::panic::panic_any(42_u32);
            });
            let error = bad.await.unwrap_err();
            assert!(error.is_panic() && !error.is_cancelled());
            assert_eq!(error.into_panic().downcast_ref(), Some(&42_u32));
            for sibling in siblings {
                sibling.await.unwrap();
            }
        });
        assert_eq!(finished.load(Ordering::SeqCst), 10);
        assert_eq!(run(async { 1 }), 1);
    });
}

#[test]
fn a_panic_whose_handle_is_gone_is_logged_once_as_an_error() {
    within(10, || {
        let named = fahrenheit::task::Builder::new().name("the bad one");
        let (id, lines) = record(|| {
            run(async {
                let task = named.spawn(async { panic!("boom") });
                task.id()
            })
        });
        let line = format!("ERROR task {id} panicked: boom (its name is \"the bad one\")");
        assert_eq!(lines, [line]);
        // Dropped after the task has ended: the same. Read: nothing.
        let (id, lines) = record(|| {
            run(async {
                let task = spawn(async { panic!("late") });
                let id = task.id();
                yield_now().await;
                yield_now().await;
                assert!(task.is_finished());
                drop(task);
                spawn(async { panic!("read") }).await.unwrap_err();
                id
            })
        });
        assert_eq!(lines, [format!("ERROR task {id} panicked: late")]);
    });
}

#[test]
fn ten_tasks_are_dropped_though_the_destructor_of_the_fifth_panics() {
    for how in ["aborted", "ended", "left to the end of the thread"] {
        let dropped = Arc::new(AtomicUsize::new(0));
        let theirs = Arc::clone(&dropped);
        within(10, move || {
            let tasks: Vec<_> = (1..=10)
                .map(|i| {
                    let dropped = Arc::clone(&theirs);
                    let guard = OnDrop(move || {
                        dropped.fetch_add(1, Ordering::SeqCst);
                        assert_ne!(i, 5, "a bad destructor");
                    });
                    spawn(async move {
                        let _guard = guard;
                        if how != "ended" {
                            std::future::pending::<()>().await;
                        }
                    })
                })
                .collect();
            fahrenheit::block_on(yield_now());
            if how == "left to the end of the thread" {
                return;
            }
            run(async {
                for (i, task) in (1..).zip(tasks) {
                    task.abort();
                    match task.await {
                        Err(error) if i == 5 => {
                            let payload = error.into_panic();
                            assert!(text(&*payload).contains("a bad destructor"));
                        }
                        Err(error) => assert!(how == "aborted" && error.is_cancelled()),
                        Ok(()) => assert!(how == "ended" && i != 5),
                    }
                }
            });
        });
        assert_eq!(dropped.load(Ordering::SeqCst), 10, "{how}");
    }
}

#[test]
fn an_output_that_is_never_read_may_panic_when_it_is_dropped() {
    within(10, || {
        let ((), lines) = record(|| {
            run(async {
                drop(spawn(async { OnDrop(|| panic!("bad output")) }));
                let task = spawn(async { OnDrop(|| panic!("bad output, later")) });
                yield_now().await;
                yield_now().await;
                drop(task);
            });
        });
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with("panicked: bad output"), "{lines:?}");
        assert!(
            lines[1].ends_with("panicked: bad output, later"),
            "{lines:?}"
        );
    });
}

#[test]
fn after_a_panic_of_main_tasks_and_descriptors_go_on_in_the_next_run() {
    within(10, || {
        let (mut near, far) = tcp_pair();
        let echo = spawn(echo(far));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            run(async {
                round_trip(&mut near).await;
                panic!("main is bad");
            })
        }));
        assert_eq!(text(&*panicked.unwrap_err()), "main is bad");
        assert!(!echo.is_finished());
        run(async {
            for _ in 0..10 {
                round_trip(&mut near).await;
            }
            drop(near);
            echo.await.unwrap().unwrap();
        });
    });
}

#[test]
fn a_destructor_of_main_that_panics_is_a_panic_of_run_and_no_more() {
    within(10, || {
        let dropped = Arc::new(AtomicUsize::new(0));
        let count = counted(&dropped);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            run(async {
                let _count = count;
                let _bad = OnDrop(|| panic!("bad end"));
                yield_now().await;
            })
        }));
        assert_eq!(text(&*panicked.unwrap_err()), "bad end");
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        assert_eq!(run(async { spawn(async { 2 }).await.unwrap() }), 2);
    });
}

#[test]
fn a_waker_that_panics_takes_no_other_wake_with_it() {
    struct Bad;
    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            panic!("a bad waker");
        }
    }
    within(10, || {
        let pairs: Vec<_> = (0..3).map(|_| tcp_pair()).collect();
        let (mut near, mut far): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let ((), lines) = record(|| {
            run(async move {
                let mut middle = far.remove(1);
                let tasks: Vec<_> = far
                    .into_iter()
                    .map(|mut far| {
                        spawn(async move {
                            use fahrenheit::prelude::*;
                            let mut byte = [0];
                            far.read_exact(&mut byte).await.unwrap();
                            byte[0]
                        })
                    })
                    .collect();
                let waker = Waker::from(Arc::new(Bad));
                let mut cx = std::task::Context::from_waker(&waker);
                let mut byte = [0];
                use futures_util::io::AsyncRead;
                let read = std::pin::Pin::new(&mut middle).poll_read(&mut cx, &mut byte);
                assert!(read.is_pending());
                yield_now().await;
                for near in &mut near {
                    use fahrenheit::prelude::*;
                    near.write_all(b"y").await.unwrap();
                }
                for task in tasks {
                    assert_eq!(task.await.unwrap(), b'y');
                }
            });
        });
        assert_eq!(lines, ["ERROR a waker panicked"]);
    });
}

#[test]
#[should_panic(expected = "polled again after it was ready")]
fn a_handle_that_is_polled_after_it_was_ready_panics_and_says_so() {
    within(10, || {
        run(async {
            let mut task = spawn(async {});
            (&mut task).await.unwrap();
            let _ = (&mut task).await;
        });
    });
}

#[test]
fn into_panic_of_a_task_that_did_not_panic_gives_the_error_back() {
    within(10, || {
        run(async {
            let task = spawn(poll_fn(|_| Poll::<()>::Pending));
            task.abort();
            let error = task.await.unwrap_err().try_into_panic().unwrap_err();
            assert!(error.is_cancelled());
            let error = std::io::Error::from(error);
            assert_eq!(error.kind(), std::io::ErrorKind::Other);
        });
    });
}
