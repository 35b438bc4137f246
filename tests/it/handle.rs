//! [`fahrenheit::task::Handle`]: tasks that other threads spawn.

use crate::util::{Count, OnDrop, counted, poll_with, record, text, within};
use fahrenheit::task::{Handle, RemoteJoinHandle};
use fahrenheit::{block_on, run, spawn, yield_now};
use std::cell::RefCell;
use std::future::pending;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

/// Another executor, which knows nothing of this crate: polls and parks the thread.
fn park_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// A thread whose loop runs until the process ends, and its first task.
fn running_loop() -> (Handle, thread::JoinHandle<()>, RemoteJoinHandle<()>) {
    let (sender, receiver) = channel();
    let thread = thread::spawn(move || {
        sender.send(Handle::current()).unwrap();
        block_on(async { pending::<()>().await });
    });
    let handle = receiver.recv().unwrap();
    let ready = handle.spawn(async {});
    (handle, thread, ready)
}

#[test]
fn handles_may_be_shared_whatever_the_future_is() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    fn sent<T: Send + Sync + 'static>() {}
    shared::<Handle>();
    // An output has to be `Send`, and no more.
    sent::<RemoteJoinHandle<std::cell::Cell<i32>>>();
}

#[test]
fn a_task_of_another_thread_wakes_a_sleeping_loop_and_answers_any_executor() {
    within(30, || {
        let (handle, _thread, ready) = running_loop();
        park_on(ready).unwrap();
        for n in 0..100 {
            // The loop has nothing to do but this, so it sleeps without a limit in between.
            assert_eq!(park_on(handle.spawn(async move { n })).unwrap(), n);
            let task = handle.spawn(async move {
                yield_now().await;
                n + 1
            });
            assert_eq!(run(task).unwrap(), n + 1);
        }
    });
}

#[test]
fn what_is_made_by_spawn_with_lives_on_the_thread_of_the_handle() {
    within(30, || {
        let (handle, thread, _ready) = running_loop();
        let task = handle.spawn_with(|| {
            let made_on = thread::current().id();
            let shared = Rc::new(RefCell::new(vec![made_on]));
            async move {
                let inner = Rc::clone(&shared);
                spawn(async move { inner.borrow_mut().push(thread::current().id()) })
                    .await
                    .unwrap();
                shared.take()
            }
        });
        let home = thread.thread().id();
        assert_eq!(park_on(task).unwrap(), [home, home]);
    });
}

#[test]
fn panics_stay_in_their_task_and_come_out_of_the_handle() {
    within(30, || {
        let (handle, _thread, _ready) = running_loop();
        let in_future = handle.spawn(async { panic!("in the future") });
        #[expect(unreachable_code, reason = "the closure has to return a future")]
        let in_closure = handle.spawn_with(|| {
            panic!("in the closure");
            async {}
        });
        let bomb = OnDrop(|| panic!("in a destructor"));
        let in_destructor = handle.spawn(async move {
            let _bomb = &bomb;
            yield_now().await;
        });
        let payload = |error: fahrenheit::task::JoinError| {
            assert!(error.is_panic() && !error.is_cancelled(), "{error}");
            text(&*error.into_panic()).to_owned()
        };
        let error = park_on(in_future).unwrap_err();
        assert_eq!(payload(error), "in the future");
        assert_eq!(payload(park_on(in_closure).unwrap_err()), "in the closure");
        let error = park_on(in_destructor).unwrap_err();
        assert_eq!(payload(error), "in a destructor");
        assert_eq!(park_on(handle.spawn(async { 1 })).unwrap(), 1);
    });
}

#[test]
fn a_panic_that_no_handle_returns_is_logged_and_an_output_is_dropped_once() {
    let ((), lines) = record(|| {
        let handle = Handle::current();
        let n_drops = Arc::new(AtomicUsize::new(0));
        let theirs = Arc::clone(&n_drops);
        let thread = thread::spawn(move || {
            handle.spawn(async { panic!("unheard") }).detach();
            let guards = [counted(&theirs), counted(&theirs)];
            let [kept, dropped] = guards.map(|guard| handle.spawn(async move { guard }));
            drop(dropped);
            // Dropped once the task has ended.
            kept
        });
        let kept = thread.join().unwrap();
        run(async {});
        assert!(kept.is_finished());
        assert_eq!(n_drops.load(Ordering::SeqCst), 1);
        drop(kept);
        assert_eq!(n_drops.load(Ordering::SeqCst), 2);
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("ERROR") && lines[0].contains("unheard"));
}

#[test]
fn run_waits_for_tasks_that_other_threads_have_spawned_and_keeps_their_order() {
    let done = Arc::new(std::sync::Mutex::new(Vec::new()));
    let handle = Handle::current();
    for n in 0..10 {
        let (handle, done) = (handle.clone(), Arc::clone(&done));
        let spawner = move || {
            handle
                .spawn(async move {
                    yield_now().await;
                    done.lock().unwrap().push(n);
                })
                .detach();
        };
        thread::spawn(spawner).join().unwrap();
    }
    run(async {});
    assert_eq!(*done.lock().unwrap(), (0..10).collect::<Vec<_>>());
}

#[test]
fn run_waits_for_a_task_that_comes_in_the_last_poll_of_a_turn() {
    // About 200 polls make a turn, and the one after which the loop does not look again is among
    // these.
    for n_polls in 180..220 {
        let handle = Handle::current();
        let has_run = Arc::new(AtomicUsize::new(0));
        let theirs = Arc::clone(&has_run);
        run(async move {
            for _ in 0..n_polls {
                yield_now().await;
            }
            let spawner = move || {
                let task = handle.spawn(async move { theirs.fetch_add(1, Ordering::SeqCst) });
                task.detach();
            };
            thread::spawn(spawner).join().unwrap();
        });
        assert_eq!(has_run.load(Ordering::SeqCst), 1, "after {n_polls} polls");
    }
}

#[test]
fn a_task_is_aborted_before_and_after_it_has_arrived() {
    within(30, || {
        let n_drops = Arc::new(AtomicUsize::new(0));
        let handle = Handle::current();
        let task = |guard| {
            handle.spawn(async move {
                let _guard = guard;
                pending::<()>().await;
            })
        };
        let early = task(counted(&n_drops));
        early.abort();
        assert!(!early.is_finished() && early.id().is_none());
        assert!(block_on(early).unwrap_err().is_cancelled());
        assert_eq!(n_drops.load(Ordering::SeqCst), 1);
        let late = task(counted(&n_drops));
        block_on(yield_now());
        assert!(late.id().is_some() && !late.is_finished());
        let thread = thread::spawn(move || {
            late.abort();
            late.abort();
            late
        });
        let mut late = thread.join().unwrap();
        let error = block_on(&mut late).unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(Some(error.id()), late.id());
        assert_eq!(n_drops.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn after_the_loop_has_ended_spawning_is_an_error_that_says_so() {
    let n_drops = Arc::new(AtomicUsize::new(0));
    let capture = counted(&n_drops);
    let (handle, in_mailbox) = thread::spawn(move || {
        let handle = Handle::current();
        let task = handle.spawn_with(move || async move { drop(capture) });
        (handle, task)
    })
    .join()
    .unwrap();
    let (errors, lines) = record(|| {
        let capture = counted(&n_drops);
        let late = handle.spawn(async move { drop(capture) });
        assert!(late.is_finished() && in_mailbox.is_finished());
        handle.spawn(async {}).detach();
        [block_on(late), block_on(in_mailbox)].map(Result::unwrap_err)
    });
    for error in errors {
        assert!(!error.is_panic() && !error.is_cancelled());
        assert_eq!(
            error.to_string(),
            "the task could not be started: the loop of its thread has ended"
        );
    }
    assert_eq!(n_drops.load(Ordering::SeqCst), 2);
    // Of the one whose handle was dropped.
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("WARN the task could not be started"));
}

#[test]
fn a_task_that_is_dropped_with_its_loop_is_cancelled() {
    let (sender, receiver) = channel();
    let thread = thread::spawn(move || {
        sender.send(Handle::current()).unwrap();
        // Polled at least once before the thread ends.
        block_on(async {
            while TASK_RUNS.compare_exchange(1, 2, ORDER, ORDER).is_err() {
                yield_now().await;
            }
        });
    });
    static TASK_RUNS: AtomicUsize = AtomicUsize::new(0);
    const ORDER: Ordering = Ordering::SeqCst;
    let task = receiver.recv().unwrap().spawn(async {
        TASK_RUNS.store(1, ORDER);
        pending::<()>().await;
    });
    assert!(park_on(task).unwrap_err().is_cancelled());
    thread.join().unwrap();
}

#[test]
fn in_a_thread_that_is_ending_a_handle_starts_nothing() {
    struct Last(std::sync::mpsc::Sender<RemoteJoinHandle<()>>);
    impl Drop for Last {
        fn drop(&mut self) {
            let task = Handle::current().spawn(async {});
            self.0.send(task).unwrap();
        }
    }
    thread_local! { static LAST: RefCell<Option<Last>> = const { RefCell::new(None) }; }
    let (sender, receiver) = channel();
    let thread = thread::spawn(move || {
        // Registered before the loop, and so dropped after it.
        LAST.set(Some(Last(sender)));
        block_on(async {});
    });
    thread.join().unwrap();
    let error = park_on(receiver.recv().unwrap()).unwrap_err();
    assert!(
        error.to_string().contains("could not be started"),
        "{error}"
    );
}

#[test]
fn large_futures_and_outputs_arrive_whole() {
    within(30, || {
        let (handle, _thread, _ready) = running_loop();
        let bytes = [7_u8; 20_000];
        let task = handle.spawn(async move {
            yield_now().await;
            bytes
        });
        assert!(park_on(task).unwrap() == [7; 20_000]);
    });
}

#[test]
fn only_the_waker_of_the_last_poll_is_woken() {
    let mut task = Handle::current().spawn(async {});
    let ((first, first_waker), (second, second_waker)) = (Count::waker(), Count::waker());
    assert!(poll_with(&mut task, &first_waker).is_pending());
    assert!(poll_with(&mut task, &second_waker).is_pending());
    run(async {});
    assert_eq!((first.get(), second.get()), (0, 1));
    assert!(poll_with(&mut task, &first_waker).is_ready());
}

/// Many threads spawn on a loop that ends meanwhile: each handle returns an output or an error, and
/// each future is dropped.
#[test]
fn no_spawn_is_lost_while_the_loop_ends() {
    const N_THREADS: usize = 4;
    for round in 0..30 {
        within(60, move || {
            let (n_drops, n_run) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let (sender, receiver) = channel();
            let home = thread::spawn(move || {
                for _ in 0..N_THREADS {
                    sender.send(Handle::current()).unwrap();
                }
                block_on(async {
                    for _ in 0..round {
                        fahrenheit::time::sleep(std::time::Duration::from_micros(50)).await;
                    }
                });
            });
            let threads: Vec<_> = receiver
                .iter()
                .map(|handle| {
                    let (n_drops, n_run) = (Arc::clone(&n_drops), Arc::clone(&n_run));
                    thread::spawn(move || {
                        let mut tasks = Vec::new();
                        for _ in 0..200 {
                            let (guard, n_run) = (counted(&n_drops), Arc::clone(&n_run));
                            tasks.push(handle.spawn(async move {
                                let _guard = guard;
                                n_run.fetch_add(1, Ordering::SeqCst);
                            }));
                        }
                        tasks.into_iter().map(park_on).filter(Result::is_ok).count()
                    })
                })
                .collect();
            home.join().unwrap();
            let n_ok: usize = threads.into_iter().map(|t| t.join().unwrap()).sum();
            assert_eq!(n_ok, n_run.load(Ordering::SeqCst));
            assert_eq!(n_drops.load(Ordering::SeqCst), N_THREADS * 200);
        });
    }
}
