//! `run`, `block_on`, `spawn` and what a handle can do.

use crate::util::{Count, OnDrop, Trace, counted, echo, poll_with, round_trip, tcp_pair, within};
use fahrenheit::task::{self, AbortHandle, JoinError, JoinHandle};
use fahrenheit::time::sleep;
use fahrenheit::{block_on, run, spawn, yield_now};
use futures_util::future::{join_all, poll_fn};
use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

#[test]
fn a_handle_is_a_future_for_every_type_so_wrappers_need_no_static() {
    async fn outcome<T>(handle: JoinHandle<T>) -> Option<T> {
        handle.await.ok()
    }
    fn borrowed<T>(handle: JoinHandle<&T>) -> impl Future<Output = Result<&T, JoinError>> {
        handle
    }
    within(10, || {
        run(async {
            assert_eq!(outcome(spawn(async { 7 })).await, Some(7));
            assert_eq!(borrowed(spawn(async { &7 })).await.unwrap(), &7);
        });
    });
}

#[test]
fn run_returns_the_value_of_a_main_that_borrows_and_is_not_send() {
    within(10, || {
        let text = String::from("borrowed");
        let shared = Rc::new(Cell::new(1));
        let len = run(async {
            shared.set(2);
            yield_now().await;
            text.len()
        });
        assert_eq!((len, shared.get()), (8, 2));
    });
}

#[test]
fn spawn_before_run_starts_with_run_and_is_never_polled_inline() {
    within(10, || {
        let trace = Trace::default();
        let add = |what: &'static str| {
            let trace = trace.clone();
            async move { trace.add(what) }
        };
        drop(spawn(add("before")));
        trace.add("run");
        run(async {
            trace.add("main");
            drop(spawn(add("inside")));
            trace.add("spawned");
        });
        assert_eq!(trace.take(), ["run", "before", "main", "spawned", "inside"]);
    });
}

#[test]
fn run_ends_when_main_and_all_tasks_have_ended() {
    within(10, || {
        let trace = Trace::default();
        run(async {
            let (outer, inner) = (trace.clone(), trace.clone());
            drop(spawn(async move {
                drop(spawn(async move {
                    sleep(Duration::from_millis(5)).await;
                    inner.add("grandchild");
                }));
                outer.add("child");
            }));
            trace.add("main");
        });
        assert_eq!(trace.take(), ["main", "child", "grandchild"]);
    });
}

#[test]
fn block_on_returns_at_once_and_the_others_go_on_in_the_next_run() {
    within(10, || {
        let done = Rc::new(Cell::new(0));
        let theirs = Rc::clone(&done);
        drop(spawn(async move {
            for _ in 0..1_000 {
                yield_now().await;
            }
            theirs.set(1);
        }));
        assert_eq!(block_on(async { 5 }), 5);
        assert_eq!(done.get(), 0);
        run(async {});
        assert_eq!(done.get(), 1);
    });
}

#[test]
fn main_is_dropped_as_soon_as_it_is_ready_while_tasks_go_on() {
    within(10, || {
        let trace = Trace::default();
        let (mains, tasks) = (trace.clone(), trace.clone());
        let guard = OnDrop(move || mains.add("main is dropped"));
        drop(spawn(async move {
            yield_now().await;
            yield_now().await;
            tasks.add("task");
        }));
        run(async move {
            let _guard = guard;
        });
        assert_eq!(trace.take(), ["main is dropped", "task"]);
    });
}

#[test]
fn b_daemons_are_not_waited_for_and_go_on_in_the_next_run() {
    within(10, || {
        let ticks = Rc::new(Cell::new(0));
        let theirs = Rc::clone(&ticks);
        let daemon = task::Builder::new().daemon(true).spawn(async move {
            loop {
                theirs.set(theirs.get() + 1);
                yield_now().await;
            }
        });
        run(yield_now());
        let first = ticks.get();
        assert!(first > 0);
        run(yield_now());
        assert!(ticks.get() > first);
        assert!(!daemon.is_finished());
    });
}

#[test]
fn tasks_run_in_the_order_they_were_woken_and_late_wakes_are_ignored() {
    within(10, || {
        let kept = Rc::new(RefCell::new(None));
        let theirs = Rc::clone(&kept);
        run(async move {
            let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone()));
            drop(spawn(async move { theirs.replace(Some(waker.await)) }));
        });
        let waker = kept.take().unwrap();
        let trace = Trace::default();
        for i in 0..3 {
            let trace = trace.clone();
            drop(spawn(async move {
                trace.add(format!("a{i}"));
                yield_now().await;
                trace.add(format!("b{i}"));
            }));
        }
        // The slot of the first task has been given away; its name has not.
        waker.wake_by_ref();
        run(async {});
        assert_eq!(trace.take(), ["a0", "a1", "a2", "b0", "b1", "b2"]);
    });
}

#[test]
fn several_futures_progress_at_once() {
    within(10, || {
        let (n_waiting, n_at_once) = (Cell::new(0), Cell::new(0));
        let (mut trips, start) = (Vec::new(), Instant::now());
        run(async {
            let clients = (0..3).map(|_| async {
                let (mut near, far) = tcp_pair();
                drop(spawn(async move {
                    sleep(Duration::from_millis(200)).await;
                    echo(far).await.unwrap();
                }));
                n_waiting.set(n_waiting.get() + 1);
                n_at_once.set(n_at_once.get().max(n_waiting.get()));
                round_trip(&mut near).await;
                n_waiting.set(n_waiting.get() - 1);
            });
            trips = join_all(clients).await;
        });
        assert_eq!(trips.len(), 3);
        assert!(start.elapsed() >= Duration::from_millis(200));
        assert_eq!(n_at_once.get(), 3, "one by one");
    });
}

#[test]
fn a_hand_written_std_future_runs() {
    struct Countdown(u32);
    impl Future for Countdown {
        type Output = String;
        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<String> {
            if self.0 == 0 {
                return Poll::Ready("liftoff".to_owned());
            }
            self.0 -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    within(10, || {
        assert_eq!(run(Countdown(3)), "liftoff");
        assert_eq!(run(async { spawn(Countdown(3)).await.unwrap() }), "liftoff");
    });
}

#[test]
fn every_thread_has_a_loop_of_its_own() {
    let outputs = within(10, || {
        let threads: Vec<_> = (0..4)
            .map(|i| {
                thread::spawn(move || run(async move { spawn(async move { i }).await.unwrap() }))
            })
            .collect();
        threads
            .into_iter()
            .map(|t| t.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert_eq!(outputs, [0, 1, 2, 3]);
}

#[test]
fn a_dropped_handle_detaches_its_task() {
    within(10, || {
        let done = Rc::new(Cell::new(false));
        let theirs = Rc::clone(&done);
        run(async move {
            let handle = spawn(async move {
                yield_now().await;
                theirs.set(true);
            });
            yield_now().await;
            drop(handle);
        });
        assert!(done.get());
    });
}

#[test]
fn a_handle_says_whether_its_task_has_ended_and_what_it_is_called() {
    within(10, || {
        run(async {
            let (one, two) = (spawn(yield_now()), spawn(yield_now()));
            assert_ne!(one.id(), two.id());
            let abort = one.abort_handle();
            assert_eq!((abort.id(), abort.is_finished()), (one.id(), false));
            assert!(!one.is_finished());
            two.await.unwrap();
            assert!(one.is_finished() && abort.is_finished());
            assert!(format!("{one:?}").contains("is_finished: true"));
            one.await.unwrap();
            assert!(abort.is_finished());
        });
    });
}

#[test]
fn a_builder_names_a_task_and_makes_it_a_daemon() {
    within(10, || {
        let builder = task::Builder::new().name("counter").daemon(true);
        let task = builder.clone().spawn(async { 7 });
        assert!(format!("{builder:?}").contains("counter"));
        assert_eq!(run(task).unwrap(), 7);
    });
}

/// Spawns a task that waits for ever and remembers in which thread it was dropped.
fn endless(dropped: &Arc<Mutex<Vec<ThreadId>>>) -> JoinHandle<()> {
    let dropped = Arc::clone(dropped);
    let guard = OnDrop(move || dropped.lock().unwrap().push(thread::current().id()));
    spawn(async move {
        let _guard = guard;
        pending().await
    })
}

#[test]
fn abort_from_here_from_another_thread_twice_and_before_the_first_poll() {
    within(10, || {
        let dropped = Arc::default();
        run(async {
            for (started, elsewhere) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let task = endless(&dropped);
                if started == 1 {
                    yield_now().await;
                }
                let abort = task.abort_handle();
                if elsewhere == 1 {
                    let abort = abort.clone();
                    thread::spawn(move || abort.abort());
                } else {
                    task.abort();
                    task.abort();
                }
                let id = task.id();
                let error = task.await.unwrap_err();
                assert!(error.is_cancelled() && !error.is_panic());
                assert_eq!(error.id(), id);
                assert_eq!(error.to_string(), format!("task {id} was cancelled"));
                assert_eq!(format!("{error:?}"), format!("JoinError({error})"));
                assert!(abort.is_finished());
                abort.abort();
            }
        });
        // On the thread of the loop, whoever asked.
        assert_eq!(*dropped.lock().unwrap(), [thread::current().id(); 4]);
    });
}

#[test]
fn a_task_that_has_ended_keeps_its_output_when_it_is_aborted() {
    within(10, || {
        run(async {
            let task = spawn(async { 5 });
            yield_now().await;
            yield_now().await;
            assert!(task.is_finished());
            task.abort();
            task.abort_handle().abort();
            yield_now().await;
            assert_eq!(task.await.unwrap(), 5);
        });
    });
}

#[test]
fn a_task_may_abort_itself_and_is_dropped_at_its_next_turn() {
    within(10, || {
        run(async {
            let own: Rc<RefCell<Option<AbortHandle>>> = Rc::default();
            let (theirs, count) = (Rc::clone(&own), Rc::new(Cell::new(0)));
            let steps = Rc::clone(&count);
            let task = spawn(async move {
                theirs.borrow().as_ref().unwrap().abort();
                steps.set(1);
                yield_now().await;
                steps.set(2);
            });
            own.replace(Some(task.abort_handle()));
            assert!(task.await.unwrap_err().is_cancelled());
            assert_eq!(count.get(), 1);
            // And one that ends in the very poll in which it does so has its output.
            let theirs = Rc::clone(&own);
            let task = spawn(async move {
                theirs.borrow().as_ref().unwrap().abort();
                9
            });
            own.replace(Some(task.abort_handle()));
            assert_eq!(task.await.unwrap(), 9);
        });
    });
}

#[test]
fn aborts_that_race_with_the_end_of_the_task_are_harmless() {
    within(60, || {
        let dropped = Arc::new(AtomicUsize::new(0));
        let (send, receive) = std::sync::mpsc::channel::<AbortHandle>();
        let aborter = thread::spawn(move || receive.iter().for_each(|handle| handle.abort()));
        run(async {
            for i in 0..2_000 {
                let guard = counted(&dropped);
                let task = spawn(async move {
                    let _guard = guard;
                    for _ in 0..i % 20 {
                        yield_now().await;
                    }
                });
                let handle = task.abort_handle();
                send.send(handle.clone()).unwrap();
                match task.await {
                    Ok(()) => {}
                    Err(error) => assert!(error.is_cancelled()),
                }
                assert!(handle.is_finished());
            }
        });
        drop(send);
        aborter.join().unwrap();
        assert_eq!(dropped.load(Ordering::SeqCst), 2_000);
    });
}

#[test]
fn an_aborted_task_whose_handle_is_gone_is_dropped_and_not_waited_for() {
    within(10, || {
        let dropped = Arc::default();
        run(async {
            let task = endless(&dropped);
            yield_now().await;
            let abort = task.abort_handle();
            drop(task);
            abort.abort();
        });
        assert_eq!(dropped.lock().unwrap().len(), 1);
    });
}

#[test]
fn a_task_is_polled_once_at_first_and_once_for_every_wake() {
    within(10, || {
        let polls = Rc::new(Cell::new(0));
        let theirs = Rc::clone(&polls);
        let waker = Rc::new(RefCell::new(None));
        let kept = Rc::clone(&waker);
        run(async move {
            let task = spawn(poll_fn(move |cx| {
                theirs.set(theirs.get() + 1);
                kept.replace(Some(cx.waker().clone()));
                if theirs.get() == 11 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            }));
            yield_now().await;
            for n_wakes in 1..=10 {
                assert_eq!(polls.get(), n_wakes);
                // Several wakes before the poll are one.
                for _ in 0..3 {
                    waker.borrow().as_ref().unwrap().wake_by_ref();
                }
                yield_now().await;
                yield_now().await;
            }
            assert_eq!(polls.get(), 11);
            waker.borrow().as_ref().unwrap().wake_by_ref();
            yield_now().await;
            task.await.unwrap();
            assert_eq!(polls.get(), 11, "polled after it was ready");
        });
    });
}

#[test]
fn main_is_not_polled_while_only_others_are_woken() {
    within(10, || {
        let polls = Cell::new(0);
        let mut task = spawn(async {
            for _ in 0..500 {
                yield_now().await;
            }
            sleep(Duration::from_millis(5)).await;
        });
        run(poll_fn(|cx| {
            polls.set(polls.get() + 1);
            Pin::new(&mut task).poll(cx)
        }))
        .unwrap();
        assert_eq!(polls.get(), 2);
    });
}

#[test]
fn a_handle_may_be_awaited_by_reference_and_by_one_task_after_another() {
    within(10, || {
        run(async {
            let mut task = spawn(async {
                sleep(Duration::from_millis(2)).await;
                3
            });
            let (count, first) = Count::waker();
            assert!(poll_with(&mut task, &first).is_pending());
            assert_eq!((&mut task).await.unwrap(), 3);
            assert_eq!(count.get(), 0, "the latest poll is the one to be woken");
            assert!(task.is_finished());
        });
    });
}

#[test]
fn a_future_of_512_kib_is_spawned_from_a_thread_of_1_mib() {
    struct Large([u8; 512 * 1024]);
    impl Future for Large {
        type Output = u8;
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u8> {
            Poll::Ready(self.0[77])
        }
    }
    #[inline(never)]
    fn spawn_large() -> JoinHandle<u8> {
        spawn(Large([1; 512 * 1024]))
    }
    // Without optimization every move is a copy: `Box::pin` alone takes three, and more where the
    // processor's calling convention passes such a thing by a copy of its own.
    let n_mib = if cfg!(debug_assertions) { 4 } else { 1 };
    let thread = thread::Builder::new().stack_size(n_mib * 1024 * 1024);
    let thread = thread.spawn(|| run(async { spawn_large().await.unwrap() }));
    assert_eq!(thread.unwrap().join().unwrap(), 1);
}

#[test]
fn what_may_cross_threads_may_and_handles_are_unwind_safe() {
    fn crosses<T: Send + Sync + Unpin + 'static>() {}
    fn unwinds<T: std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    crosses::<std::task::Waker>();
    crosses::<AbortHandle>();
    crosses::<JoinError>();
    crosses::<task::Id>();
    crosses::<task::Builder>();
    crosses::<fahrenheit::Builder>();
    crosses::<fahrenheit::CreateError>();
    crosses::<fahrenheit::RegisterError>();
    crosses::<fahrenheit::Interest>();
    crosses::<fahrenheit::time::Elapsed>();
    unwinds::<AbortHandle>();
    unwinds::<JoinHandle<()>>();
    unwinds::<task::Id>();
    unwinds::<fahrenheit::time::Elapsed>();
}

/// `false` for what is `Send` or `Sync`: then there are two answers, and it does not compile.
macro_rules! stays {
    ($($local:ty),+ $(,)?) => {
        $({
            trait Ambiguous<A> { fn some() {} }
            impl<T: ?Sized> Ambiguous<()> for T {}
            impl<T: ?Sized + Send> Ambiguous<u8> for T {}
            impl<T: ?Sized + Sync> Ambiguous<u16> for T {}
            <$local as Ambiguous<_>>::some();
        })+
    };
}

#[test]
fn what_is_known_to_one_loop_is_neither_send_nor_sync() {
    stays!(
        JoinHandle<()>,
        fahrenheit::AsyncFd<std::fs::File>,
        fahrenheit::AsyncTcpStream,
        fahrenheit::AsyncTcpListener,
        fahrenheit::net::OwnedReadHalf,
        fahrenheit::net::OwnedWriteHalf,
        fahrenheit::time::Sleep,
        fahrenheit::time::Interval,
        fahrenheit::time::Timeout<()>,
    );
}

#[test]
fn a_hundred_thousand_tasks_yield_and_end() {
    within(60, || {
        let begun = Instant::now();
        let sum: u64 = run(async {
            let tasks = (0..100_000_u64).map(|n| {
                spawn(async move {
                    yield_now().await;
                    n
                })
            });
            let tasks: Vec<_> = tasks.collect();
            let mut sum = 0;
            for task in tasks {
                sum += task.await.unwrap();
            }
            sum
        });
        assert_eq!(sum, 100_000 * 99_999 / 2);
        println!("100,000 tasks took {:?}", begun.elapsed());
    });
}
