//! Forks of a process whose other threads are in the middle of something. A binary of its own,
//! whose test runs itself again in a process of its own.
#![allow(clippy::unwrap_used, reason = "test code")]
#![allow(unsafe_code, reason = "to fork")]
#![cfg(target_os = "linux")]

#[path = "it/net_util.rs"]
mod net_util;

use fahrenheit::prelude::*;
use fahrenheit::process::AsyncCommand;
use fahrenheit::signal::{Signal, Signals};
use net_util::alone;
use nix::libc;
use nix::sys::signal::{Signal as Kind, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

static IS_OVER: AtomicBool = AtomicBool::new(false);

/// How many forks: few, unless the environment asks for more.
fn n_forks() -> usize {
    let asked = std::env::var("FAHRENHEIT_TEST_FORKS");
    asked.map_or(300, |n| n.parse().unwrap())
}

fn until_it_is_over(mut work: impl FnMut() + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        while !IS_OVER.load(Ordering::Relaxed) {
            work();
        }
    })
}

/// What a forked child does with the crate: a turn of the loop, a task, signals, an event. It
/// prints nothing and starts no thread: std's own locks may be held.
async fn child() -> bool {
    let mut signals = Signals::new([Signal::USR1, Signal::USR2]).unwrap();
    raise(Kind::SIGUSR2).unwrap();
    let heard = fahrenheit::spawn(async move { signals.next().await });
    let event = fahrenheit::Event::new().unwrap();
    event.notifier().notify().unwrap();
    event.wait().await.unwrap();
    fahrenheit::time::sleep(Duration::from_millis(1)).await;
    heard.await.unwrap() == Some(Signal::USR2)
}

#[test]
fn no_child_of_a_fork_hangs_beside_threads_that_listen_to_signals_and_start_children() {
    let name = "no_child_of_a_fork_hangs_beside_threads_that_listen_to_signals_and_start_children";
    let text = alone(name, || {
        let mut threads: Vec<_> = (0..3)
            .map(|_| until_it_is_over(|| drop(Signals::new([Signal::USR1, Signal::HUP]).unwrap())))
            .collect();
        threads.push(until_it_is_over(|| {
            let status = fahrenheit::block_on(AsyncCommand::new("true").status());
            assert!(status.unwrap().success());
        }));
        threads.push(until_it_is_over(|| {
            // Abandoned by each thread, taken over by the next.
            let orphan = || drop(AsyncCommand::new("true").spawn().unwrap());
            thread::spawn(orphan).join().unwrap();
        }));
        fahrenheit::block_on(fahrenheit::yield_now());
        let mut n_hangs = 0;
        for _ in 0..n_forks() {
            // SAFETY: the child uses nothing that another thread may have locked but this crate and
            // the allocator, which the C library keeps usable, and leaves by `_exit`.
            match unsafe { fork() }.unwrap() {
                ForkResult::Child => {
                    let good = fahrenheit::block_on(child());
                    // SAFETY: ends the process at once.
                    unsafe { libc::_exit(if good { 7 } else { 8 }) };
                }
                ForkResult::Parent { child } => {
                    let begun = Instant::now();
                    let mut ended = WaitStatus::StillAlive;
                    while ended == WaitStatus::StillAlive {
                        ended = waitpid(child, Some(WaitPidFlag::WNOHANG)).unwrap();
                        if begun.elapsed() > Duration::from_secs(20) {
                            n_hangs += 1;
                            kill(child, Kind::SIGKILL).unwrap();
                            waitpid(child, None).unwrap();
                            break;
                        }
                        thread::sleep(Duration::from_micros(200));
                    }
                    if ended != WaitStatus::StillAlive {
                        assert_eq!(ended, WaitStatus::Exited(child, 7));
                    }
                    // Not a whole run of them.
                    assert!(n_hangs < 3, "three children hang");
                }
            }
        }
        IS_OVER.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        println!("{n_hangs} of {} children of forks hang", n_forks());
        assert_eq!(n_hangs, 0);
    });
    let lines = text.iter().flat_map(|text| text.lines());
    let lines = lines.filter(|line| line.ends_with("hang"));
    lines.for_each(|line| println!("{line}"));
}
