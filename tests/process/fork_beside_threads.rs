//! Forks of a process whose other threads are in the middle of something. Each
//! test runs again in a process of its own.
#![cfg(all(target_os = "linux", feature = "process"))]
#![allow(unsafe_code, reason = "to fork")]

use crate::util::alone;
use fahrenheit::prelude::*;
use fahrenheit::process::AsyncCommand;
use fahrenheit::signal::{Signal, Signals};
use nix::libc;
use nix::sys::signal::{Signal as Kind, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

/// Exit status of a child in which all went well.
const GOOD: i32 = 7;

static IS_OVER: AtomicBool = AtomicBool::new(false);

/// How many forks: few, unless the environment asks for more.
fn n_forks() -> usize {
    let asked = std::env::var("FAHRENHEIT_TEST_FORKS");
    asked.map_or(300, |n| n.parse().unwrap())
}

/// Maximum number of forks of one process, so that it ends within the limit of `alone`.
const MAX_FORKS: usize = 2_000;

/// Has processes of their own run `body`, which gets the number of forks to make.
fn in_processes(name: &str, body: impl Fn(usize)) {
    for _ in 0..n_forks().div_ceil(MAX_FORKS) {
        let Some(text) = alone(name, || body(n_forks().min(MAX_FORKS))) else {
            return;
        };
        let lines = text.lines().filter(|line| line.ends_with("hang"));
        lines.for_each(|line| println!("{line}"));
    }
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

/// Returns `None` in the child.
fn fork_once() -> Option<Pid> {
    // SAFETY: the child uses nothing that another thread may have locked but this crate and the
    // allocator, which the C library keeps usable, and leaves by `_exit`.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => None,
        ForkResult::Parent { child } => Some(child),
    }
}

/// Waits for a child, which has to end with `GOOD`. Returns false if it hangs.
fn ends_well(child: Pid) -> bool {
    let begun = Instant::now();
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)).unwrap() {
            WaitStatus::StillAlive if begun.elapsed() > Duration::from_secs(20) => {
                kill(child, Kind::SIGKILL).unwrap();
                waitpid(child, None).unwrap();
                return false;
            }
            WaitStatus::StillAlive => thread::sleep(Duration::from_micros(200)),
            ended => {
                assert_eq!(ended, WaitStatus::Exited(child, GOOD));
                return true;
            }
        }
    }
}

#[test]
fn no_child_of_a_fork_hangs_beside_threads_that_listen_to_signals_and_start_children() {
    let name = test_name!();
    in_processes(name, |n_forks| {
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
        for _ in 0..n_forks {
            match fork_once() {
                None => {
                    let good = fahrenheit::block_on(child());
                    // SAFETY: ends the process at once.
                    unsafe { libc::_exit(if good { GOOD } else { 8 }) };
                }
                Some(child) => n_hangs += usize::from(!ends_well(child)),
            }
            // Not a whole run of them.
            assert!(n_hangs < 3, "three children hang");
        }
        IS_OVER.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        println!("{n_hangs} of {n_forks} children of forks hang");
        assert_eq!(n_hangs, 0);
    });
}

const N_TASKS: usize = 8;

/// Spawns tasks that only count how often they are polled, and returns the counters.
async fn counting_tasks() -> (Vec<Rc<Cell<usize>>>, Vec<Waker>) {
    let (mut counts, mut wakers) = (Vec::new(), Vec::new());
    for _ in 0..N_TASKS {
        let (count, waker) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(None)));
        let (theirs, slot) = (Rc::clone(&count), Rc::clone(&waker));
        drop(fahrenheit::spawn(poll_fn::<(), _>(move |cx| {
            if theirs.replace(theirs.get() + 1) == 0 {
                slot.set(Some(cx.waker().clone()));
            }
            Poll::Pending
        })));
        fahrenheit::yield_now().await;
        counts.push(count);
        wakers.extend(waker.take());
    }
    assert_eq!(wakers.len(), N_TASKS);
    (counts, wakers)
}

/// In a child, each task has to be polled again although its waking thread is gone, perhaps in the
/// middle of a wake, and has to hear the wakes of the child.
///
/// Returns the exit status that says what went wrong, or `GOOD`.
async fn all_are_polled(counts: &[Rc<Cell<usize>>], wakers: &[Waker]) -> i32 {
    let at_fork: Vec<_> = counts.iter().map(|count| count.get()).collect();
    let polled = |before: &[usize]| (0..N_TASKS).all(|i| counts[i].get() > before[i]);
    // The first sleep may be over before it begins, if the machine pauses this process.
    let mut n_sleeps = 0;
    while !polled(&at_fork) && n_sleeps < 100 {
        fahrenheit::time::sleep(Duration::from_millis(1)).await;
        n_sleeps += 1;
    }
    let after_fork = polled(&at_fork);
    let before_wake: Vec<_> = counts.iter().map(|count| count.get()).collect();
    wakers.iter().for_each(Waker::wake_by_ref);
    fahrenheit::yield_now().await;
    match (after_fork, polled(&before_wake)) {
        (false, _) => 9,
        (true, false) => 10,
        (true, true) => GOOD,
    }
}

#[test]
fn no_child_of_a_fork_hangs_or_loses_a_task_beside_threads_that_wake() {
    let name = test_name!();
    in_processes(name, |n_forks| {
        // `block_on`, as the tasks never end.
        let n_hangs = fahrenheit::block_on(async {
            let (counts, wakers) = counting_tasks().await;
            let mut threads: Vec<_> = (0..3)
                .map(|_| {
                    let (wakers, mut n) = (wakers.clone(), 0);
                    until_it_is_over(move || {
                        n += 1;
                        // By value, which is a way of its own.
                        let waker = wakers[n % N_TASKS].clone();
                        waker.wake();
                    })
                })
                .collect();
            threads.push(until_it_is_over(|| {
                drop(Signals::new([Signal::USR1, Signal::HUP]).unwrap());
            }));
            threads.push(until_it_is_over(|| {
                let status = fahrenheit::block_on(AsyncCommand::new("true").status());
                assert!(status.unwrap().success());
            }));
            let mut n_hangs = 0;
            for n in 0..n_forks {
                // The loop turns, so that the fork comes at any stage of a wake.
                fahrenheit::yield_now().await;
                if n % 10 == 0 {
                    fahrenheit::time::sleep(Duration::from_micros(100)).await;
                }
                match fork_once() {
                    None => {
                        let status = match all_are_polled(&counts, &wakers).await {
                            GOOD if !child().await => 8,
                            status => status,
                        };
                        // SAFETY: ends the process at once.
                        unsafe { libc::_exit(status) }
                    }
                    Some(child) => n_hangs += usize::from(!ends_well(child)),
                }
                assert!(n_hangs < 3, "three children hang");
            }
            IS_OVER.store(true, Ordering::Relaxed);
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            n_hangs
        });
        println!("{n_hangs} of {n_forks} children of forks hang");
        assert_eq!(n_hangs, 0);
    });
}
