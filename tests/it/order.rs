//! In which order things are dropped, and what a destructor may do.

use crate::util::{Count, OnDrop, counted, echo, round_trip, tcp_pair, within};
use fahrenheit::prelude::*;
use fahrenheit::task::JoinHandle;
use fahrenheit::time::{Sleep, sleep};
use fahrenheit::{AsyncTcpStream, block_on, run, spawn, task, yield_now};
use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

async fn own_waker() -> Waker {
    poll_fn(|cx| Poll::Ready(cx.waker().clone())).await
}

/// Runs `test` on a thread that has ended, with its loop, when this returns.
fn on_a_thread(test: impl FnOnce() + Send + 'static) {
    thread::spawn(test).join().unwrap();
}

#[test]
fn a_ring_of_destructors_that_wake_each_other_ends() {
    within(30, || {
        for at_thread_end in [false, true] {
            let dropped = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&dropped);
            on_a_thread(move || {
                let wakers: Rc<RefCell<Vec<Waker>>> = Rc::default();
                let tasks: Vec<_> = (0..10)
                    .map(|i| {
                        let (wakers, count) = (Rc::clone(&wakers), Arc::clone(&count));
                        spawn(async move {
                            let own = own_waker().await;
                            wakers.borrow_mut().push(own);
                            let _guard = OnDrop(move || {
                                count.fetch_add(1, Ordering::SeqCst);
                                wakers.borrow()[(i + 1) % 10].wake_by_ref();
                            });
                            pending::<()>().await;
                        })
                    })
                    .collect();
                block_on(yield_now());
                if !at_thread_end {
                    tasks.iter().for_each(JoinHandle::abort);
                    run(async {});
                }
            });
            assert_eq!(dropped.load(Ordering::SeqCst), 10);
        }
    });
}

#[test]
fn a_destructor_may_spawn_and_its_task_runs() {
    within(30, || {
        let done = Rc::new(Cell::new(0));
        let inner = Rc::clone(&done);
        let guard = OnDrop(move || {
            let done = Rc::clone(&inner);
            drop(spawn(async move { done.set(done.get() + 1) }));
        });
        let aborted = spawn(async move {
            let _guard = guard;
            pending::<()>().await;
        });
        run(async {
            yield_now().await;
            aborted.abort();
        });
        assert_eq!(done.get(), 1);
    });
}

#[test]
fn what_a_destructor_spawns_at_the_end_of_the_thread_is_dropped_and_cancelled() {
    within(30, || {
        let dropped = Arc::new(AtomicUsize::new(0));
        let (outer, cancelled) = (Arc::clone(&dropped), Arc::new(AtomicUsize::new(0)));
        let theirs = Arc::clone(&cancelled);
        on_a_thread(move || {
            let guard = OnDrop(move || {
                let inner = counted(&outer);
                let mut task = spawn(async move { drop(inner) });
                task.abort();
                assert!(task.is_finished() && task.abort_handle().is_finished());
                if let Poll::Ready(Err(error)) = crate::util::poll_with(&mut task, Waker::noop()) {
                    theirs.fetch_add(usize::from(error.is_cancelled()), Ordering::SeqCst);
                }
            });
            let spawn_later = async move {
                let _guard = guard;
                pending::<()>().await;
            };
            drop(spawn(spawn_later));
            block_on(yield_now());
        });
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        assert_eq!(cancelled.load(Ordering::SeqCst), 1);
    });
}

/// Makes 100,000 tasks, each of which wakes and aborts the next from its destructor; aborts the
/// first of them, or all. Returns how many were dropped.
fn drop_a_chain(all_at_once: bool) -> usize {
    const N: usize = 100_000;
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped);
    let small = thread::Builder::new().stack_size(128 * 1024);
    let thread = small.spawn(move || {
        let wakers: Rc<RefCell<Vec<Waker>>> = Rc::default();
        let handles: Rc<RefCell<Vec<JoinHandle<()>>>> = Rc::default();
        for next in 1..=N {
            let (wakers, all) = (Rc::clone(&wakers), Rc::downgrade(&handles));
            let count = Arc::clone(&count);
            let task = spawn(async move {
                let own = own_waker().await;
                wakers.borrow_mut().push(own);
                let _guard = OnDrop(move || {
                    count.fetch_add(1, Ordering::SeqCst);
                    if let (Some(all), true) = (all.upgrade(), next < N) {
                        wakers.borrow()[next].wake_by_ref();
                        all.borrow()[next].abort();
                    }
                });
                pending::<()>().await;
            });
            handles.borrow_mut().push(task);
        }
        block_on(yield_now());
        for handle in handles
            .borrow()
            .iter()
            .take(if all_at_once { N } else { 1 })
        {
            handle.abort();
        }
        run(async {});
    });
    thread.unwrap().join().unwrap();
    dropped.load(Ordering::SeqCst)
}

#[test]
fn a_chain_of_100_000_tasks_is_dropped_on_a_stack_of_128_kib() {
    within(60, || {
        let begun = std::time::Instant::now();
        assert_eq!(drop_a_chain(true), 100_000);
        println!("100,000 tasks dropped in {:?}", begun.elapsed());
        assert_eq!(drop_a_chain(false), 100_000);
    });
}

#[test]
fn tasks_that_await_each_other_are_dropped_with_their_thread() {
    within(30, || {
        let dropped = Arc::new(AtomicUsize::new(0));
        let guards: [_; 2] = std::array::from_fn(|_| counted(&dropped));
        on_a_thread(move || {
            let handles: Rc<RefCell<Vec<Option<JoinHandle<()>>>>> = Rc::default();
            for (i, guard) in guards.into_iter().enumerate() {
                let theirs = Rc::clone(&handles);
                let task = spawn(async move {
                    let _guard = guard;
                    yield_now().await;
                    let other = theirs.borrow_mut()[1 - i].take().unwrap();
                    other.await.unwrap();
                });
                handles.borrow_mut().push(Some(task));
            }
            block_on(async {
                for _ in 0..5 {
                    yield_now().await;
                }
            });
            assert!(handles.borrow().iter().all(Option::is_none), "both wait");
        });
        assert_eq!(dropped.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_joiner_is_let_go_when_the_task_has_ended_and_when_its_handle_is_dropped() {
    within(30, || {
        run(async {
            let (count, waker) = Count::waker();
            let mut ended = spawn(yield_now());
            let mut given_up = task::Builder::new().daemon(true).spawn(pending::<()>());
            for _ in 0..2 {
                assert!(crate::util::poll_with(&mut ended, &waker).is_pending());
            }
            assert!(crate::util::poll_with(&mut given_up, &waker).is_pending());
            drop(waker);
            assert_eq!(Arc::strong_count(&count), 3);
            drop(given_up);
            assert_eq!((Arc::strong_count(&count), count.get()), (2, 0));
            yield_now().await;
            yield_now().await;
            assert_eq!((Arc::strong_count(&count), count.get()), (1, 1));
            ended.await.unwrap();
        });
    });
}

#[test]
fn sockets_and_waiting_tasks_outlive_a_run() {
    within(30, || {
        let (mut near, far) = tcp_pair();
        let echo = task::Builder::new().daemon(true).spawn(echo(far));
        for _ in 0..3 {
            run(round_trip(&mut near));
        }
        let mut byte = [0];
        let waiting = task::Builder::new().daemon(true).spawn({
            let (mut here, there) = tcp_pair();
            async move {
                let _there = there;
                here.read(&mut [0]).await
            }
        });
        run(yield_now());
        waiting.abort();
        block_on(async {
            near.write_all(b"z").await.unwrap();
            near.read_exact(&mut byte).await.unwrap();
            near.close().await.unwrap();
            echo.await.unwrap().unwrap();
            assert!(waiting.await.unwrap_err().is_cancelled());
        });
        assert_eq!(byte, *b"z");
    });
}

/// What is kept in a thread-local of a test beyond the end of the loop, or is there before it.
#[derive(Default)]
struct Kept {
    sockets: Option<(AsyncTcpStream, AsyncTcpStream)>,
    sleep: Option<Sleep>,
    task: Option<JoinHandle<()>>,
    waker: Option<Waker>,
    dropped: Option<Arc<Mutex<Vec<&'static str>>>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake_by_ref();
        }
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.is_finished();
        }
        drop((self.sockets.take(), self.sleep.take()));
        drop(spawn(async {}));
        let _ = fahrenheit::interest();
        let _ = fahrenheit::turn(Some(Duration::ZERO));
        if let Some(dropped) = self.dropped.take() {
            dropped.lock().unwrap().push("kept");
        }
    }
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

fn fill(dropped: &Arc<Mutex<Vec<&'static str>>>) {
    let sockets = tcp_pair();
    let mut sleep = sleep(Duration::from_secs(3_600));
    assert!(crate::util::poll_with(&mut sleep, Waker::noop()).is_pending());
    let record = Arc::clone(dropped);
    let guard = OnDrop(move || record.lock().unwrap().push("task"));
    let task = spawn(async move {
        let _guard = guard;
        pending::<()>().await;
    });
    let waker = block_on(async {
        let mut byte = [0];
        // Interests of tasks, so that the reactor has something to drop as well.
        let (mut near, far) = tcp_pair();
        drop(spawn(async move {
            let _far = far;
            near.read(&mut byte).await
        }));
        yield_now().await;
        own_waker().await
    });
    KEPT.with_borrow_mut(|kept| {
        kept.sockets = Some(sockets);
        kept.sleep = Some(sleep);
        kept.task = Some(task);
        kept.waker = Some(waker);
        kept.dropped = Some(Arc::clone(dropped));
    });
}

#[test]
fn what_is_kept_in_thread_locals_is_dropped_before_or_after_the_loop_on_100_threads() {
    within(60, || {
        for i in 0..100 {
            let dropped = Arc::new(Mutex::new(Vec::new()));
            let theirs = Arc::clone(&dropped);
            on_a_thread(move || {
                // Thread-locals are destroyed in the reverse order of their first use, or in that
                // order, as the system has it; so both are tried.
                if i % 2 == 0 {
                    KEPT.with(|_| ());
                    fill(&theirs);
                } else {
                    block_on(async {});
                    fill(&theirs);
                }
            });
            let mut dropped = dropped.lock().unwrap().clone();
            dropped.sort_unstable();
            assert_eq!(dropped, ["kept", "task"]);
        }
    });
}

#[test]
fn run_in_a_destructor_at_the_end_of_the_thread_is_an_error() {
    within(30, || {
        let said = Arc::new(Mutex::new(String::new()));
        let theirs = Arc::clone(&said);
        on_a_thread(move || {
            let guard = OnDrop(move || {
                let error = fahrenheit::Builder::new().run(async {}).unwrap_err();
                *theirs.lock().unwrap() = error.to_string();
                let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                assert!(fahrenheit::AsyncTcpListener::from_std(socket).is_err());
            });
            drop(spawn(async move {
                let _guard = guard;
                pending::<()>().await;
            }));
            block_on(yield_now());
        });
        assert!(said.lock().unwrap().contains("ending"), "{said:?}");
    });
}
