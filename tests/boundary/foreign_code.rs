//! Foreign code that panics or calls back where the loop drops it, wakes it or logs through it. It
//! never ends the loop, never takes another task along, and never ends the process. The cases that
//! change the whole process run in a process of their own.
#![cfg(feature = "fs")]

use crate::util::{OnDrop, again, alone, is_alone, wait, within};
use fahrenheit::{Builder, block_on, run, spawn, spawn_blocking, yield_now};
use std::future::pending;
use std::panic::panic_any;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// A value whose destructor panics, as often as the number says: the payload of each panic is such
/// a value again.
struct Bomb(usize);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 > 0 {
            panic_any(Bomb(self.0 - 1));
        }
    }
}

#[test]
fn a_payload_whose_destructor_panics_stays_in_its_detached_task() {
    within(20, || {
        for depth in 1..=3 {
            let n_done = Arc::new(AtomicUsize::new(0));
            for _ in 0..3 {
                let n_done = Arc::clone(&n_done);
                drop(spawn(async move { panic_any(Bomb(depth)) }));
                drop(spawn(async move {
                    yield_now().await;
                    n_done.fetch_add(1, Ordering::SeqCst);
                }));
            }
            assert_eq!(run(async { 1 }), 1);
            assert_eq!(n_done.load(Ordering::SeqCst), 3);
            assert_eq!(run(async { 2 }), 2);
        }
    });
}

#[test]
fn a_payload_whose_destructor_panics_is_one_line_in_the_log() {
    within(20, || {
        let ((), lines) =
            crate::util::record(|| run(async { drop(spawn(async { panic_any(Bomb(1)) })) }));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("ERROR task "), "{lines:?}");
        assert!(lines[0].ends_with(" panicked"), "{lines:?}");
    });
}

#[test]
fn an_output_and_a_capture_whose_destructors_panic_stay_in_their_task() {
    within(20, || {
        drop(spawn(async { Bomb(2) }));
        let aborted = spawn(async {
            let _bomb = Bomb(2);
            pending::<()>().await;
        });
        let bomb = Bomb(2);
        let never_polled = spawn(async move {
            let _bomb = bomb;
        });
        never_polled.abort();
        drop(never_polled);
        block_on(yield_now());
        aborted.abort();
        drop(aborted);
        assert_eq!(run(async { 1 }), 1);
    });
}

/// A thread that ends drops the tasks that are left. A panic of their destructors, or of the
/// destructors of the payloads, would end the process.
#[test]
fn payloads_and_futures_whose_destructors_panic_do_not_abort_a_thread_that_ends() {
    let name = test_name!();
    alone(name, || {
        let thread = std::thread::spawn(|| {
            drop(spawn(async {
                let _on_drop = OnDrop(|| panic_any(Bomb(2)));
                pending::<()>().await;
            }));
            drop(spawn(async { Bomb(2) }));
            drop(spawn(async {
                let _bomb = Bomb(1);
                pending::<()>().await;
            }));
            block_on(yield_now());
            block_on(yield_now());
            7
        });
        assert_eq!(thread.join().unwrap(), 7);
        assert_eq!(run(async { 1 }), 1);
    });
}

/// With the only thread of the pool gone, or still counted as busy, the next job would never run.
fn pool_goes_on() {
    let job = spawn_blocking(|| 42);
    assert_eq!(block_on(job).unwrap(), 42);
    let (begun, begins) = mpsc::channel::<()>();
    drop(spawn_blocking(move || drop(begun)));
    assert!(begins.recv_timeout(Duration::from_secs(20)).is_err());
    let metadata = block_on(fahrenheit::fs::metadata("/"));
    assert!(metadata.unwrap().is_dir());
}

#[test]
fn outcomes_of_aborted_jobs_whose_destructors_panic_leave_the_pool_working() {
    within(30, || {
        for _ in 0..3 {
            let (release, wait_for_release) = mpsc::channel::<()>();
            let (begun, begins) = mpsc::channel();
            let builder = Builder::new().blocking_threads(1);
            let done = builder.block_on(async move {
                let job = spawn_blocking(move || {
                    begun.send(()).unwrap();
                    let _ = wait_for_release.recv();
                    Bomb(2)
                });
                // The task has to be polled, so that the job is submitted and begins.
                yield_now().await;
                begins.recv().unwrap();
                job.abort();
                yield_now().await;
                drop(job);
                yield_now().await;
                drop(release);
            });
            done.unwrap();
            pool_goes_on();
        }
    });
}

#[test]
fn captures_and_payloads_of_jobs_whose_destructors_panic_leave_the_pool_working() {
    within(30, || {
        let limit = Builder::new().blocking_threads(1).run(async {});
        limit.unwrap();
        let bomb = Bomb(2);
        let captured = spawn_blocking(move || {
            let _keep = &bomb;
            1
        });
        let error = block_on(captured).unwrap_err();
        assert!(error.is_panic());
        // Whoever takes the payload out of a handle has to deal with its destructor.
        std::mem::forget(error);
        pool_goes_on();
        drop(spawn_blocking(|| panic_any(Bomb(2))));
        run(async {});
        pool_goes_on();
        let aborted = spawn_blocking(|| panic_any(Bomb(2)));
        aborted.abort();
        drop(aborted);
        run(async {});
        pool_goes_on();
    });
}

/// A logger that panics at every record, once armed, or only at the first one.
struct PanickingLogger {
    is_armed: AtomicBool,
    panics_once: AtomicBool,
    n_records: AtomicUsize,
}

static LOGGER: PanickingLogger = PanickingLogger {
    is_armed: AtomicBool::new(false),
    panics_once: AtomicBool::new(false),
    n_records: AtomicUsize::new(0),
};

impl log::Log for PanickingLogger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.n_records.fetch_add(1, Ordering::SeqCst);
        let once = self.panics_once.load(Ordering::SeqCst);
        let panics = match once {
            true => self.is_armed.swap(false, Ordering::SeqCst),
            false => self.is_armed.load(Ordering::SeqCst),
        };
        assert!(!panics, "the logger refuses {record:?}");
    }

    fn flush(&self) {}
}

/// Tasks that wake each other, wait for timers, descriptors and blocking jobs, and one that panics.
fn busy_program(n_done: &Arc<AtomicUsize>) {
    for i in 0..10_u64 {
        let n_done = Arc::clone(n_done);
        drop(spawn(async move {
            yield_now().await;
            fahrenheit::time::sleep(Duration::from_millis(i)).await;
            let (mut near, mut far) = crate::util::tcp_pair();
            let write = spawn(async move {
                fahrenheit::time::sleep(Duration::from_millis(1)).await;
                fahrenheit::prelude::AsyncWriteExt::write_all(&mut far, b"x").await
            });
            let mut byte = [0];
            let read = fahrenheit::prelude::AsyncReadExt::read_exact(&mut near, &mut byte);
            read.await.unwrap();
            write.await.unwrap().unwrap();
            spawn_blocking(|| ()).await.unwrap();
            n_done.fetch_add(1, Ordering::SeqCst);
        }));
    }
    drop(spawn(async { panic!("a task of the test") }));
}

#[test]
fn a_logger_that_panics_once_stops_no_task() {
    alone(test_name!(), || {
        log::set_logger(&LOGGER).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        LOGGER.panics_once.store(true, Ordering::SeqCst);
        // The first record that is refused is another one in each round.
        for round in 0..60 {
            let n_done = Arc::new(AtomicUsize::new(0));
            busy_program(&n_done);
            let n_before = LOGGER.n_records.load(Ordering::SeqCst);
            let arm = spawn(async move {
                for _ in 0..round {
                    yield_now().await;
                }
                LOGGER.is_armed.store(true, Ordering::SeqCst);
            });
            assert_eq!(run(async { 1 }), 1);
            assert!(arm.is_finished());
            assert_eq!(n_done.load(Ordering::SeqCst), 10, "in round {round}");
            assert!(LOGGER.n_records.load(Ordering::SeqCst) > n_before);
        }
    });
}

#[test]
fn a_logger_that_always_panics_stops_no_task() {
    alone(test_name!(), || {
        log::set_logger(&LOGGER).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        LOGGER.is_armed.store(true, Ordering::SeqCst);
        std::panic::set_hook(Box::new(|_| ()));
        for _ in 0..3 {
            let n_done = Arc::new(AtomicUsize::new(0));
            busy_program(&n_done);
            assert_eq!(run(async { 1 }), 1);
            assert_eq!(n_done.load(Ordering::SeqCst), 10);
        }
        assert!(LOGGER.n_records.load(Ordering::SeqCst) > 100);
    });
}

/// Ends the process with `exit(3)` while another task holds a value whose destructor needs a lock
/// that the exiting task holds. Returns the exit code and what was printed.
#[track_caller]
fn exits(name: &str, exit: impl FnOnce()) -> (Option<i32>, String) {
    if is_alone(name) {
        exit();
        unreachable!("the process ends in `exit`");
    }
    let mut command = again(name);
    command.stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut errors = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut errors, &mut text).unwrap();
        text
    });
    let (status, text) = wait(child);
    (status.code(), text + &reader.join().unwrap())
}

fn exit_with_a_lock_held(exit_in: fn(Box<dyn FnOnce()>)) {
    let lock = Arc::new(Mutex::new(()));
    let theirs = Arc::clone(&lock);
    drop(spawn(async move {
        let _on_drop = OnDrop(move || {
            println!("the destructor of another task runs");
            drop(theirs.lock());
        });
        pending::<()>().await;
    }));
    block_on(yield_now());
    exit_in(Box::new(move || {
        let _guard = lock.lock().unwrap();
        std::process::exit(3);
    }));
}

#[test]
fn exit_inside_a_task_runs_no_destructor_of_another_task() {
    let name = test_name!();
    let (code, text) = exits(name, || {
        exit_with_a_lock_held(|exit| {
            drop(spawn(async move { exit() }));
            run(pending::<()>());
        });
    });
    assert_eq!(code, Some(3), "{text}");
    assert!(!text.contains("destructor of another task"), "{text}");
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn exit_inside_the_main_future_runs_no_destructor_of_a_task() {
    let name = test_name!();
    let (code, text) = exits(name, || {
        exit_with_a_lock_held(|exit| run(async move { exit() }));
    });
    assert_eq!(code, Some(3), "{text}");
    assert!(!text.contains("destructor of another task"), "{text}");
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn exit_inside_a_waker_and_a_destructor_panics_nowhere() {
    struct ExitOnWake;
    impl std::task::Wake for ExitOnWake {
        fn wake(self: Arc<Self>) {
            std::process::exit(3);
        }
    }
    let name = test_name!();
    let (code, text) = exits(name, || {
        exit_with_a_lock_held(|exit| {
            let waker = std::task::Waker::from(Arc::new(ExitOnWake));
            let mut sleep = Box::pin(fahrenheit::time::sleep(Duration::from_millis(5)));
            let mut cx = std::task::Context::from_waker(&waker);
            assert!(sleep.as_mut().poll(&mut cx).is_pending());
            drop(exit);
            run(pending::<()>());
        });
    });
    assert_eq!(code, Some(3), "{text}");
    assert!(!text.contains("destructor of another task"), "{text}");
    assert!(!text.contains("panicked"), "{text}");
}

/// A thread that ends with its loop at rest drops the tasks that are left, as before.
#[test]
fn a_thread_that_returns_runs_the_destructors_of_its_tasks() {
    let dropped = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&dropped);
    let thread = std::thread::spawn(move || {
        drop(spawn(async move {
            let _on_drop = OnDrop(move || theirs.store(true, Ordering::SeqCst));
            pending::<()>().await;
        }));
        block_on(yield_now());
    });
    thread.join().unwrap();
    assert!(dropped.load(Ordering::SeqCst));
}
