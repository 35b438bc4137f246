//! The blocking pool where no thread may or can be started. How many threads there are and how much
//! address space they find is a matter of the whole process, so each test gets one of its own.
#![cfg(all(target_os = "linux", feature = "fs"))]
#![allow(unsafe_code)]

use crate::util::{alone, poll_with, record};
use fahrenheit::net::lookup_host;
use fahrenheit::prelude::*;
use fahrenheit::{AsyncTcpListener, AsyncTcpStream, Builder, fs, run, spawn_blocking};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::ForkResult;
use std::io::ErrorKind;
use std::sync::mpsc::channel;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// How many threads there are but for the one of the test harness, which waits for the test.
fn n_threads() -> usize {
    let n_all = std::fs::read_dir("/proc/self/task").unwrap().count();
    let main = nix::unistd::Pid::this() == nix::unistd::gettid();
    if main { n_all } else { n_all - 1 }
}

/// Runs `f` with too little address space for the stack of another thread.
fn without_room_for_a_thread<R>(f: impl FnOnce() -> R) -> R {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = size.unwrap().trim().trim_end_matches(" kB");
    let size: nix::libc::rlim_t = kib.parse::<nix::libc::rlim_t>().unwrap() << 10;
    let (soft, hard) = getrlimit(Resource::RLIMIT_AS).unwrap();
    // A stack is 2 MiB.
    setrlimit(Resource::RLIMIT_AS, size + (1 << 20), hard).unwrap();
    let value = f();
    setrlimit(Resource::RLIMIT_AS, soft, hard).unwrap();
    value
}

#[test]
fn a_job_for_which_no_thread_can_be_started_is_an_error_and_the_next_works() {
    let name = test_name!();
    alone(name, || {
        run(async {
            let job = without_room_for_a_thread(|| spawn_blocking(|| 1));
            let error = job.await.unwrap_err();
            assert!(!error.is_panic() && !error.is_cancelled());
            let text = error.to_string();
            assert!(text.contains("cannot start a blocking thread: "), "{text}");
            assert_eq!(std::io::Error::from(error).kind(), ErrorKind::Other);
            assert_eq!(n_threads(), 1);
            assert_eq!(spawn_blocking(|| 2).await.unwrap(), 2);
            assert_eq!(n_threads(), 2);
        });
    });
}

#[test]
fn readers_and_writers_never_say_would_block_when_no_thread_can_be_started() {
    let name = test_name!();
    alone(name, || {
        run(async {
            let mut file = fs::File::from_std(std::fs::File::open("Cargo.toml").unwrap());
            // The traits of futures-io forbid `WouldBlock`: there, the future has to wait instead,
            // and combinators that meet it may wait for a wake-up that never comes. Each future is
            // polled, and so submits its job, while there is no room.
            let mut buffer = [0; 3];
            let mut read = file.read(&mut buffer);
            let read_polled = without_room_for_a_thread(|| poll_with(&mut read, Waker::noop()));
            let mut metadata = Box::pin(fs::metadata("/"));
            let metadata_polled =
                without_room_for_a_thread(|| poll_with(&mut metadata, Waker::noop()));
            let outcomes = [
                match read_polled {
                    Poll::Ready(outcome) => outcome.map(drop),
                    Poll::Pending => read.await.map(drop),
                },
                match metadata_polled {
                    Poll::Ready(outcome) => outcome.map(drop),
                    Poll::Pending => metadata.await.map(drop),
                },
            ];
            for outcome in outcomes {
                let error = outcome.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Other, "{error}");
                let text = error.to_string();
                assert!(text.contains("cannot start a blocking thread: "), "{text}");
            }
            let n_read = file.read(&mut buffer).await.unwrap();
            assert_eq!(n_read, 3);
        });
    });
}

#[test]
fn a_thread_ends_after_five_idle_seconds_and_the_process_has_none_left() {
    let name = test_name!();
    /// Longer than any thread has to wait for a processor.
    const SLOW: Duration = Duration::from_secs(60);
    alone(name, || {
        run(async {
            spawn_blocking(|| ()).await.unwrap();
            let start = Instant::now();
            fahrenheit::time::sleep(Duration::from_millis(4_500)).await;
            // Unless this thread has slept for longer.
            assert!(n_threads() == 2 || start.elapsed() >= Duration::from_secs(5));
            while n_threads() == 2 {
                fahrenheit::time::sleep(Duration::from_millis(20)).await;
                assert!(start.elapsed() < SLOW, "the thread does not end");
            }
            let elapsed = start.elapsed();
            println!("an idle thread has ended after {elapsed:?}");
            assert!(elapsed < Duration::from_millis(9_000), "{elapsed:?}");
        });
    });
}

#[test]
fn a_job_waits_for_a_thread_that_is_there_if_another_cannot_be_started() {
    let name = test_name!();
    alone(name, || {
        run(async {
            let (release, busy) = channel::<()>();
            let (started, wait) = channel();
            let first = spawn_blocking(move || {
                started.send(()).unwrap();
                busy.recv().is_err()
            });
            wait.recv().unwrap();
            let (second, lines) = without_room_for_a_thread(|| record(|| spawn_blocking(|| 2)));
            assert_eq!(lines.len(), 1, "{lines:?}");
            let warned = lines[0].starts_with("WARN cannot start another blocking thread: ");
            assert!(warned, "{lines:?}");
            assert_eq!(n_threads(), 2);
            drop(release);
            assert!(first.await.unwrap());
            assert_eq!(second.await.unwrap(), 2);
        });
    });
}

#[test]
fn without_blocking_threads_the_loop_has_one_thread_whatever_is_asked_for() {
    let name = test_name!();
    alone(name, || {
        // One, and what an emulator adds.
        let before = n_threads();
        let builder = Builder::new().blocking_threads(0);
        builder
            .run(async {
                let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
                let addr = listener.local_addr().unwrap();
                let by_name = format!("localhost:{}", addr.port());
                let mut file = fs::File::from_std(std::fs::File::open("Cargo.toml").unwrap());
                let errors = [
                    spawn_blocking(|| ()).await.unwrap_err().into(),
                    lookup_host(&by_name).await.map(drop).unwrap_err(),
                    AsyncTcpStream::connect(&by_name)
                        .await
                        .map(drop)
                        .unwrap_err(),
                    fs::read("Cargo.toml").await.map(drop).unwrap_err(),
                    file.read(&mut [0]).await.map(drop).unwrap_err(),
                ];
                for error in errors {
                    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                    let text = error.to_string();
                    assert!(text.contains("`Builder::blocking_threads` is 0"), "{text}");
                }
                // What needs no thread goes on.
                AsyncTcpStream::connect(addr).await.unwrap();
                assert_eq!(n_threads(), before);
            })
            .unwrap();
    });
}

#[test]
fn a_file_that_is_being_written_when_the_process_forks_goes_on_in_both() {
    let file = format!("pool-{}", std::process::id());
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    alone(test_name!(), || {
        let builder = Builder::new().blocking_threads(1);
        let main = builder.run(async {
            let mut file = fs::File::create(&path).await.unwrap();
            let (release, busy) = channel::<()>();
            let (started, wait) = channel();
            let stuck = spawn_blocking(move || {
                started.send(()).unwrap();
                busy.recv().is_err()
            });
            wait.recv().unwrap();
            // It cannot be written before the other job has ended.
            file.write_all(b"parent").await.unwrap();
            // SAFETY: the other threads of this process hold no lock that the child takes, and
            // the child leaves by `_exit`.
            let child = match unsafe { nix::unistd::fork() }.unwrap() {
                ForkResult::Parent { child } => child,
                ForkResult::Child => {
                    let lost = file.flush().await.is_err();
                    // The error is also returned by one more operation, whichever that is.
                    let told_again = file.write_all(b"lost").await.is_err();
                    file.write_all(b"child").await.unwrap();
                    let written = file.flush().await.is_ok();
                    let code = if lost && told_again && written { 7 } else { 1 };
                    // SAFETY: it ends the process, and touches no memory.
                    unsafe { nix::libc::_exit(code) }
                }
            };
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 7)));
            assert_eq!(std::fs::read(&path).unwrap(), b"child");
            drop(release);
            assert!(stuck.await.unwrap());
            file.close().await.unwrap();
            // They share the place at which they write.
            assert_eq!(std::fs::read(&path).unwrap(), b"childparent");
            std::fs::remove_file(&path).unwrap();
        });
        main.unwrap();
    });
}
