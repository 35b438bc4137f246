//! What is logged: a process has one logger.

use crate::util::{alone, go};
use fahrenheit::AsyncFd;
use fahrenheit::prelude::*;
use log::{LevelFilter, Log, Metadata, Record};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

/// Keeps what the crate logs. Once the loop says that it waits to read, writes a byte: so that
/// happens always at the same moment.
struct Recorder {
    lines: Mutex<Vec<(log::Level, String)>>,
    trigger: Mutex<Option<UnixStream>>,
}

static RECORDER: Recorder = Recorder {
    lines: Mutex::new(Vec::new()),
    trigger: Mutex::new(None),
};

impl Log for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("fahrenheit")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = record.args().to_string();
        if line.starts_with("select: 1 to read") {
            if let Some(mut peer) = self.trigger.lock().unwrap().take() {
                peer.write_all(b"x").unwrap();
            }
        }
        self.lines.lock().unwrap().push((record.level(), line));
    }

    fn flush(&self) {}
}

fn record(level: LevelFilter) {
    log::set_logger(&RECORDER).unwrap();
    log::set_max_level(level);
}

/// What was recorded at `level` or above.
fn lines(level: log::Level) -> Vec<String> {
    let lines = RECORDER.lines.lock().unwrap();
    let lines = lines.iter().filter(|line| line.0 <= level);
    lines.map(|line| line.1.clone()).collect()
}

/// A registered socket, and its peer.
fn pair() -> (AsyncFd<UnixStream>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (AsyncFd::new(ours).unwrap(), theirs)
}

#[test]
fn the_life_of_one_read_is_in_the_log() {
    let name = test_name!();
    alone(name, || {
        record(LevelFilter::Trace);
        let (mut fd, theirs) = pair();
        let number = fd.as_raw_fd();
        *RECORDER.trigger.lock().unwrap() = Some(theirs);
        let id = go(async {
            let read = fahrenheit::spawn(async move { fd.read(&mut [0; 8]).await.unwrap() });
            let id = read.id();
            assert_eq!(read.await.unwrap(), 1);
            id
        });
        let expected = [
            format!("register descriptor {number}"),
            "run: 0 tasks are waiting to start".to_owned(),
            "poll the main future".to_owned(),
            format!("the main future spawned task {id}"),
            format!("poll task {id}"),
            format!("descriptor {number}: would block"),
            format!("interest: descriptor {number}, to read, task {id}"),
            "select: 1 to read, 0 to write, 0 exceptional, 0 tenured; 1 tasks; no time limit"
                .to_owned(),
            format!("ready: descriptor {number}, to read"),
            "wake 1 waiters".to_owned(),
            format!("poll task {id}"),
            format!("deregister descriptor {number}"),
            format!("task {id} has ended"),
            "poll the main future".to_owned(),
            "run: finished".to_owned(),
        ];
        assert_eq!(lines(log::Level::Trace), expected);
    });
}

#[test]
fn nothing_is_logged_when_the_level_is_off() {
    alone(test_name!(), || {
        record(LevelFilter::Off);
        go(crate::util::exchange(2, 2)).unwrap();
        assert_eq!(lines(log::Level::Trace), [""; 0]);
        // The same work does log something, if asked.
        log::set_max_level(LevelFilter::Trace);
        go(crate::util::exchange(2, 2)).unwrap();
        assert!(lines(log::Level::Trace).len() > 20);
    });
}

#[test]
fn orderly_work_logs_nothing_above_debug() {
    alone(test_name!(), || {
        record(LevelFilter::Trace);
        go(crate::util::exchange(5, 5)).unwrap();
        assert_eq!(lines(log::Level::Info), [""; 0]);
        assert!(lines(log::Level::Debug).len() >= 2);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_descriptor_closed_behind_the_loop_concerns_its_owner_only() {
    use fahrenheit::time::sleep;
    use std::time::Duration;

    let name = test_name!();
    alone(name, || {
        record(LevelFilter::Debug);
        go(async {
            let (victim, _peer) = pair();
            let number = victim.as_raw_fd();
            let (mut other, mut theirs) = pair();
            let cost = crate::util::Cost::begin();
            let reads = async {
                for _ in 0..5 {
                    assert_eq!(other.read(&mut [0; 8]).await.unwrap(), 1);
                }
            };
            let writes = async {
                for _ in 0..5 {
                    sleep(Duration::from_millis(100)).await;
                    theirs.write_all(b"x").unwrap();
                }
            };
            let closes = async {
                sleep(Duration::from_millis(50)).await;
                nix::unistd::close(number).unwrap();
            };
            let waits = fahrenheit::task::Builder::new()
                .name("patient")
                .spawn(async {
                    let failed = victim.readable().await;
                    (victim, failed)
                });
            let (waited, ..) = futures_util::join!(waits, reads, writes, closes);
            let (victim, failed) = waited.unwrap();
            cost.check(
                "500 ms beside a closed descriptor",
                Duration::from_millis(20),
            );
            let errno = failed.unwrap_err().raw_os_error();
            assert_eq!(errno, Some(nix::libc::EBADF));
            // It stays like that, and the number is not closed again.
            let errno = victim.writable().await.unwrap_err().raw_os_error();
            assert_eq!(errno, Some(nix::libc::EBADF));
            std::mem::forget(victim.into_inner());
            let named = format!("descriptor {number}, registered at tests/boundary/logging.rs:");
            let lines = lines(log::Level::Warn);
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].starts_with(&named), "{lines:?}");
            let (_, who) = lines[0]
                .split_once("closed while still registered; task ")
                .unwrap();
            assert!(
                who.contains("(\"patient\", spawned at tests/boundary/logging.rs:"),
                "{lines:?}"
            );
            assert!(who.ends_with(") was waiting for it"), "{lines:?}");
        });
    });
}

/// It is in several sets of `select`, and stands for itself in each.
#[cfg(target_os = "linux")]
#[test]
fn a_closed_descriptor_that_was_waited_for_in_all_ways_is_reported_once() {
    alone(test_name!(), || {
        record(LevelFilter::Warn);
        go(async {
            let (victim, _peer) = pair();
            let full = [0; 4_096];
            while (&mut victim.get_ref()).write(&full).is_ok() {}
            let close = async {
                // The others wait by then.
                fahrenheit::time::sleep(std::time::Duration::from_millis(50)).await;
                nix::unistd::close(victim.as_raw_fd()).unwrap();
            };
            let (read, written, urgent, ()) = futures_util::join!(
                victim.readable(),
                victim.writable(),
                victim.exceptional(),
                close
            );
            for ended in [read, written, urgent] {
                let errno = ended.unwrap_err().raw_os_error();
                assert_eq!(errno, Some(nix::libc::EBADF));
            }
            std::mem::forget(victim.into_inner());
        });
        let lines = lines(log::Level::Warn);
        assert_eq!(lines.len(), 1, "{lines:?}");
    });
}

/// The queue of the kernel, if there is one, forgets such a descriptor without a word.
#[cfg(target_os = "linux")]
#[test]
fn a_tenured_descriptor_closed_behind_the_loop_is_found_as_well() {
    use fahrenheit::time::{interval, sleep};
    use std::time::Duration;

    alone(test_name!(), || {
        record(LevelFilter::Debug);
        go(async {
            let mut bytes = [0; 8];
            let (mut victim, mut peer) = pair();
            let number = victim.as_raw_fd();
            for _ in 0..20 {
                let writes = async {
                    sleep(Duration::from_millis(1)).await;
                    peer.write_all(b"x").unwrap();
                };
                let (n, ()) = futures_util::join!(victim.read(&mut bytes), writes);
                assert_eq!(n.unwrap(), 1);
            }
            let cost = crate::util::Cost::begin();
            let mut ticks = interval(Duration::from_millis(100));
            let mut read = victim.read(&mut bytes);
            let closes = async {
                sleep(Duration::from_millis(50)).await;
                nix::unistd::close(number).unwrap();
                // Whatever else the loop does goes on meanwhile.
                loop {
                    ticks.tick().await;
                }
            };
            let closes = std::pin::pin!(closes);
            let failed = match futures_util::future::select(&mut read, closes).await {
                futures_util::future::Either::Left((outcome, _)) => outcome,
                futures_util::future::Either::Right((never, _)) => never,
            };
            cost.check("a closed tenured descriptor", Duration::from_millis(50));
            let errno = failed.unwrap_err().raw_os_error();
            assert_eq!(errno, Some(nix::libc::EBADF));
            std::mem::forget(victim.into_inner());
            let lines = lines(log::Level::Warn);
            assert_eq!(lines.len(), 1, "{lines:?}");
            let named = format!("descriptor {number}, ");
            assert!(lines[0].starts_with(&named), "{lines:?}");
            assert!(
                lines[0].ends_with("; the main future was waiting for it"),
                "{lines:?}"
            );
        });
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_wake_up_pipe_closed_behind_the_loop_is_warned_about_with_fd_and_errno() {
    let name = test_name!();
    alone(name, || {
        record(LevelFilter::Warn);
        let numbers = std::thread::spawn(|| {
            let before = crate::util::open_fds();
            fahrenheit::block_on(async {});
            let pipe: Vec<i32> = crate::util::open_fds()
                .difference(&before)
                .copied()
                .collect();
            assert_eq!(pipe.len(), 2);
            pipe.iter().for_each(|&fd| nix::unistd::close(fd).unwrap());
            pipe
        });
        let numbers = numbers.join().unwrap();
        let lines = lines(log::Level::Warn);
        assert_eq!(lines.len(), 2, "{lines:?}");
        for fd in numbers {
            let text = format!("closing descriptor {fd} of the wake-up pipe failed: EBADF");
            assert!(
                lines.iter().any(|line| line.starts_with(&text)),
                "{lines:?}"
            );
        }
    });
}

#[test]
fn a_loop_that_ends_in_order_warns_of_nothing() {
    alone(test_name!(), || {
        record(LevelFilter::Warn);
        let thread = std::thread::spawn(|| go(crate::util::exchange(2, 2)));
        thread.join().unwrap().unwrap();
        assert_eq!(lines(log::Level::Warn), [""; 0]);
    });
}

#[test]
fn a_loop_that_waits_for_ever_says_so_once() {
    alone(test_name!(), || {
        record(LevelFilter::Warn);
        // It never ends, unlike the process.
        std::thread::spawn(|| fahrenheit::run(std::future::pending::<()>()));
        let begun = std::time::Instant::now();
        while lines(log::Level::Warn).is_empty() {
            assert!(begun.elapsed() < std::time::Duration::from_secs(20));
            std::thread::yield_now();
        }
        let lines = lines(log::Level::Warn);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].contains("the main future was pending"),
            "{lines:?}"
        );
    });
}

#[test]
fn a_slow_poll_is_logged_with_its_task_if_that_was_asked_for() {
    let name = test_name!();
    alone(name, || {
        record(LevelFilter::Warn);
        let slow = || async {
            let nap = async { std::thread::sleep(std::time::Duration::from_millis(5)) };
            let task = fahrenheit::task::Builder::new().name("napper").spawn(nap);
            task.await.unwrap();
        };
        fahrenheit::run(slow());
        assert!(lines(log::Level::Warn).is_empty());
        let limit = std::time::Duration::from_millis(2);
        let run = fahrenheit::Builder::new().slow_poll(limit).run(slow());
        run.unwrap();
        let lines = lines(log::Level::Warn);
        let of_task = |line: &&String| line.contains("napper") && line.contains("logging.rs");
        assert_eq!(lines.iter().filter(of_task).count(), 1, "{lines:?}");
    });
}

/// Polls `future` once, as another executor would. It has to wait.
fn poll_elsewhere(future: impl Future) {
    let mut future = std::pin::pin!(future);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(future.as_mut().poll(&mut cx).is_pending());
}

#[test]
fn a_future_that_waits_without_a_running_loop_says_so_once_per_thread() {
    use fahrenheit::{spawn, time::sleep, turn};
    use std::thread::spawn as thread;
    use std::time::Duration;
    let long = Duration::from_secs(3_600);
    let name = test_name!();
    alone(name, || {
        record(LevelFilter::Warn);
        let n_lines = || lines(log::Level::Warn).len();
        // Each kind of wait, on a thread of its own.
        let waits: [fn(Duration); 3] = [
            |long| poll_elsewhere(sleep(long)),
            |long| poll_elsewhere(spawn(sleep(long))),
            |_| {
                let (ours, _theirs) = pair();
                poll_elsewhere(ours.readable());
            },
        ];
        for (n_before, wait) in waits.into_iter().enumerate() {
            assert_eq!(n_lines(), n_before);
            thread(move || (0..3).for_each(|_| wait(long)))
                .join()
                .unwrap();
        }
        assert_eq!(n_lines(), 3);
        for line in lines(log::Level::Warn) {
            assert!(
                line.contains("`fahrenheit::run`, `block_on` or `turn`"),
                "{line}"
            );
        }
        // Not where the loop runs, nor where the program turns it.
        thread(move || {
            fahrenheit::block_on(async { poll_elsewhere(sleep(long)) });
            turn(Some(Duration::ZERO)).unwrap();
            poll_elsewhere(sleep(long));
        })
        .join()
        .unwrap();
        thread(move || {
            let _interest = fahrenheit::interest();
            poll_elsewhere(sleep(long));
        })
        .join()
        .unwrap();
        assert_eq!(n_lines(), 3);
    });
}

/// Panics when it is dropped.
struct BadDrop;

impl Drop for BadDrop {
    fn drop(&mut self) {
        panic!("a bad destructor");
    }
}

#[test]
fn a_panic_at_the_end_of_a_thread_is_logged_with_the_name_of_its_task() {
    alone(test_name!(), || {
        record(LevelFilter::Error);
        let thread = std::thread::spawn(|| {
            let bad = BadDrop;
            let named = fahrenheit::task::Builder::new().name("left over");
            // The handle is dropped, so no other code learns of the panic.
            drop(named.spawn(async move {
                let _bad = bad;
                std::future::pending::<()>().await;
            }));
            fahrenheit::block_on(fahrenheit::yield_now());
        });
        thread.join().unwrap();
        let lines = lines(log::Level::Error);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let end = "panicked: a bad destructor (its name is \"left over\")";
        assert!(lines[0].ends_with(end), "{lines:?}");
    });
}
