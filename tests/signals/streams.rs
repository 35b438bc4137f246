//! Listening to signals. Most tests run again in a process of their own, because handlers belong to
//! the process, and a signal without a listener ends it.
#![cfg(feature = "signal")]
#![allow(
    unsafe_code,
    reason = "to fork, and to install handlers as a C library would"
)]

use crate::util::{again, alone, go, is_alone, watchdog};
use fahrenheit::prelude::*;
use fahrenheit::signal::{Signal, Signals, ctrl_c};
use fahrenheit::{spawn, yield_now};
use nix::errno::Errno;
use nix::libc;
use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::signal::{self as sys, SaFlags, SigAction, SigHandler, SigSet, kill, raise};
use nix::unistd::getpid;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// What is done about a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Default,
    Ignore,
    /// The handler [`foreign`].
    Foreign,
    /// Any other handler.
    Other,
}

static N_FOREIGN: AtomicUsize = AtomicUsize::new(0);

extern "C" fn foreign(_: libc::c_int) {
    N_FOREIGN.fetch_add(1, Ordering::SeqCst);
}

/// Sets what is done about a signal, and returns what was done before.
fn set(signal: sys::Signal, action: Action) -> Action {
    let handler = match action {
        Action::Default => SigHandler::SigDfl,
        Action::Ignore => SigHandler::SigIgn,
        Action::Foreign | Action::Other => SigHandler::Handler(foreign),
    };
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler only adds to an atomic, which any handler may.
    match unsafe { sys::sigaction(signal, &action) }
        .unwrap()
        .handler()
    {
        SigHandler::SigDfl => Action::Default,
        SigHandler::SigIgn => Action::Ignore,
        SigHandler::Handler(f) if std::ptr::fn_addr_eq(f, foreign as extern "C" fn(_)) => {
            Action::Foreign
        }
        _ => Action::Other,
    }
}

/// Ends the test process by a signal, and says by which, or `None` if it went on and exited.
fn ended_by(name: &str) -> Option<i32> {
    again(name).status().unwrap().signal()
}

/// The system pushes a frame for each on the same stack, several KiB each, unless one handler keeps
/// the others out. The alternate stacks of std have 8 KiB.
#[test]
fn many_signals_at_once_fit_on_the_alternate_stack() {
    alone(test_name!(), || {
        let _dog = watchdog();
        let kinds = [
            sys::Signal::SIGHUP,
            sys::Signal::SIGINT,
            sys::Signal::SIGQUIT,
            sys::Signal::SIGUSR1,
            sys::Signal::SIGUSR2,
            sys::Signal::SIGALRM,
            sys::Signal::SIGTERM,
            sys::Signal::SIGWINCH,
        ];
        // Threads of std have an alternate stack, and so has the main thread.
        let hears = thread::spawn(move || {
            fahrenheit::run(async move {
                let listened = kinds.map(|kind| Signal::from(kind as i32));
                let mut signals = Signals::new(listened).unwrap();
                let all: sys::SigSet = kinds.into_iter().collect();
                all.thread_block().unwrap();
                for kind in kinds {
                    sys::raise(kind).unwrap();
                }
                all.thread_unblock().unwrap();
                for _ in kinds {
                    signals.next().await.unwrap();
                }
            });
        });
        hears.join().unwrap();
    });
}

#[test]
fn a_thousand_raises_of_two_kinds_reach_three_loops_on_three_threads() {
    alone(test_name!(), || {
        let _dog = watchdog();
        let (heard, hears) = channel();
        let threads: Vec<_> = (0..3)
            .map(|n| {
                let heard = heard.clone();
                thread::spawn(move || {
                    fahrenheit::run(async move {
                        let mut signals = Signals::new([Signal::USR1, Signal::USR2]).unwrap();
                        heard.send((n, None)).unwrap();
                        for _ in 0..1_000 {
                            heard.send((n, signals.next().await)).unwrap();
                        }
                    });
                })
            })
            .collect();
        for _ in 0..3 {
            assert_eq!(hears.recv().unwrap().1, None);
        }
        for round in 0..500 {
            // Both at once in one half of the rounds, one after the other in the other half.
            let both = [sys::Signal::SIGUSR1, sys::Signal::SIGUSR2];
            let batches = if round % 2 == 0 {
                vec![&both[..]]
            } else {
                vec![&both[..1], &both[1..]]
            };
            for batch in batches {
                for &signal in batch {
                    kill(getpid(), signal).unwrap();
                }
                let mut got: Vec<_> = (0..3 * batch.len())
                    .map(|_| hears.recv().unwrap())
                    .collect();
                got.sort();
                let all = (0..3).flat_map(|n| {
                    let kinds = batch.iter();
                    kinds.map(move |&kind| (n, Some(Signal::from_raw(kind as i32))))
                });
                assert!(got.iter().copied().eq(all), "round {round}: {got:?}");
            }
        }
        threads.into_iter().for_each(|t| t.join().unwrap());
    });
}

#[test]
fn a_flood_of_one_signal_displaces_no_other_and_does_not_block() {
    alone(test_name!(), || {
        go(async {
            let mut signals = Signals::new([Signal::USR1, Signal::USR2]).unwrap();
            // More than a pipe has room for, and errno must not tell.
            for _ in 0..70_000 {
                Errno::set_raw(77);
                raise(sys::Signal::SIGUSR1).unwrap();
                assert_eq!(Errno::last_raw(), 77, "b9: the handler has changed errno");
            }
            raise(sys::Signal::SIGUSR2).unwrap();
            let first = signals.next().await.unwrap();
            let second = signals.next().await.unwrap();
            assert_eq!([first, second], [Signal::USR1, Signal::USR2]);
            let third = signals.next().now_or_never();
            assert_eq!(third, None, "a flood is one signal");
            raise(sys::Signal::SIGUSR1).unwrap();
            assert_eq!(signals.next().await, Some(Signal::USR1));
        });
    });
}

#[test]
fn a_stream_that_is_flooded_by_one_signal_also_yields_the_other() {
    alone(test_name!(), || {
        go(async {
            let mut signals = Signals::new([Signal::HUP, Signal::TERM]).unwrap();
            raise(sys::Signal::SIGTERM).unwrap();
            let mut got = Vec::new();
            // Whenever it looks, there is a new SIGHUP, whose number is the lower one.
            for _ in 0..2 {
                raise(sys::Signal::SIGHUP).unwrap();
                got.push(signals.next().await.unwrap());
            }
            assert_eq!(got, [Signal::HUP, Signal::TERM]);
        });
    });
}

#[test]
fn the_default_comes_back_with_the_last_listener_and_not_before() {
    let name = test_name!();
    if is_alone(name) {
        go(async {
            let mut first = Signals::new([Signal::TERM]).unwrap();
            let second = Signals::new([Signal::TERM, Signal::USR1]).unwrap();
            drop(second);
            raise(sys::Signal::SIGTERM).unwrap();
            assert_eq!(first.next().await, Some(Signal::TERM));
            // The other signal of the second listener has its default back already.
            assert_eq!(set(sys::Signal::SIGUSR1, Action::Ignore), Action::Default);
            drop(first);
        });
        raise(sys::Signal::SIGTERM).unwrap();
        return;
    }
    assert_eq!(ended_by(name), Some(libc::SIGTERM));
}

#[test]
fn the_second_ctrl_c_ends_the_program() {
    let name = test_name!();
    if is_alone(name) {
        // A shell has its background jobs ignore it.
        set(sys::Signal::SIGINT, Action::Default);
        go(async {
            let pressed = ctrl_c();
            // Heard from the call on, though nobody has polled it.
            kill(getpid(), sys::Signal::SIGINT).unwrap();
            pressed.await.unwrap();
        });
        kill(getpid(), sys::Signal::SIGINT).unwrap();
        thread::sleep(Duration::from_secs(10));
        return;
    }
    assert_eq!(ended_by(name), Some(libc::SIGINT));
}

#[test]
fn a_handler_that_was_there_before_is_called_and_comes_back() {
    alone(test_name!(), || {
        let theirs = Action::Foreign;
        set(sys::Signal::SIGUSR1, theirs);
        set(sys::Signal::SIGUSR2, Action::Ignore);
        let mut signals = Signals::new([Signal::USR1, Signal::USR2]).unwrap();
        for signal in [sys::Signal::SIGUSR1, sys::Signal::SIGUSR2] {
            raise(signal).unwrap();
            let heard = go(signals.next());
            assert_eq!(heard, Some(Signal::from_raw(signal as i32)));
        }
        assert_eq!(N_FOREIGN.load(Ordering::SeqCst), 1);
        drop(signals);
        assert_eq!(set(sys::Signal::SIGUSR1, theirs), theirs);
        assert_eq!(set(sys::Signal::SIGUSR2, Action::Ignore), Action::Ignore);
    });
}

#[test]
fn a_handler_installed_over_ours_stays_and_new_listeners_still_hear() {
    let name = test_name!();
    alone(name, || {
        let early = Signals::new([Signal::USR1]).unwrap();
        let theirs = Action::Foreign;
        set(sys::Signal::SIGUSR1, theirs);
        drop(early);
        for n in 1..=3 {
            // Theirs does not call ours.
            let mut signals = Signals::new([Signal::USR1]).unwrap();
            raise(sys::Signal::SIGUSR1).unwrap();
            assert_eq!(go(signals.next()), Some(Signal::USR1));
            assert_eq!(N_FOREIGN.load(Ordering::SeqCst), n);
            drop(signals);
            assert_eq!(set(sys::Signal::SIGUSR1, theirs), theirs);
        }
        assert_eq!(set(sys::Signal::SIGUSR1, Action::Default), theirs);
        let mut signals = Signals::new([Signal::USR1]).unwrap();
        raise(sys::Signal::SIGUSR1).unwrap();
        assert_eq!(go(signals.next()), Some(Signal::USR1));
        assert_eq!(N_FOREIGN.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn what_cannot_be_listened_to_is_refused_and_nothing_is_changed() {
    alone(test_name!(), || {
        let forbidden = [
            libc::SIGKILL,
            libc::SIGSTOP,
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGILL,
            libc::SIGFPE,
            0,
            -1,
            127,
            128,
            i32::MAX,
        ];
        for signal in forbidden {
            let error = Signals::new([libc::SIGTERM, signal]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{signal}");
            let default = Action::Default;
            assert_eq!(set(sys::Signal::SIGTERM, default), default, "{signal}");
        }
        let error = Signals::new([Signal::KILL]).unwrap_err();
        assert_eq!(error.to_string(), "SIGKILL cannot be listened to");
    });
}

#[test]
fn signals_between_two_runs_are_heard_in_the_second() {
    alone(test_name!(), || {
        let mut signals = go(async { Signals::new([Signal::USR1]).unwrap() });
        raise(sys::Signal::SIGUSR1).unwrap();
        assert_eq!(go(signals.next()), Some(Signal::USR1));
    });
}

#[cfg(target_os = "linux")]
#[test]
fn real_time_signals_are_heard_too() {
    alone(test_name!(), || {
        let number = libc::SIGRTMIN() + 3;
        let mut signals = Signals::new([number]).unwrap();
        // SAFETY: takes a number.
        assert_eq!(unsafe { libc::raise(number) }, 0);
        let heard = go(signals.next()).unwrap();
        assert_eq!(heard.as_raw(), number);
        assert_eq!(heard.to_string(), format!("signal {number}"));
    });
}

#[test]
fn ten_thousand_signals_into_a_busy_loop_deadlock_nothing() {
    alone(test_name!(), || {
        // As a number, for with musl and on Cygwin it is a pointer, which stays in its thread.
        let busy = pthread_self() as usize;
        let (started, start) = channel();
        let storm = thread::spawn(move || {
            start.recv().unwrap();
            let begin = Instant::now();
            for n in 1..=10_000 {
                pthread_kill(busy as _, sys::Signal::SIGUSR1).unwrap();
                let due = begin + n * Duration::from_micros(100);
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            pthread_kill(busy as _, sys::Signal::SIGUSR2).unwrap();
            begin.elapsed()
        });
        let n_heard = go(async {
            let mut signals = Signals::new([Signal::USR1, Signal::USR2]).unwrap();
            let work = spawn(async {
                loop {
                    // Allocates, wakes, spawns and drops: what a handler must not do.
                    spawn(async { drop(vec![0_u8; 100]) }).await.unwrap();
                    yield_now().await;
                }
            });
            started.send(()).unwrap();
            let mut n_heard = 0;
            while signals.next().await != Some(Signal::USR2) {
                n_heard += 1;
            }
            work.abort();
            n_heard
        });
        println!("{n_heard} of 10,000 taken one by one");
        println!("in {:?}", storm.join().unwrap());
        assert!(n_heard > 0);
    });
}

#[test]
fn signal_listeners_that_come_and_go_under_fire_write_to_no_other_pipe() {
    alone(test_name!(), || {
        let _dog = watchdog();
        // Not dropped: the last signals may be on their way when the test has ended.
        std::mem::forget(Signals::new([Signal::USR1]).unwrap());
        let threads: Vec<_> = (0..3)
            .map(|_| {
                thread::spawn(|| {
                    for _ in 0..1_000 {
                        let signals = Signals::new([Signal::USR1]).unwrap();
                        drop(signals);
                        // Probably on the numbers that have just become free.
                        let (mut stranger, end) = std::os::unix::net::UnixStream::pair().unwrap();
                        thread::yield_now();
                        drop(end);
                        assert_eq!(stranger.read(&mut [0; 8]).unwrap(), 0);
                    }
                })
            })
            .collect();
        while !threads.iter().all(thread::JoinHandle::is_finished) {
            kill(getpid(), sys::Signal::SIGUSR1).unwrap();
        }
        threads.into_iter().for_each(|t| t.join().unwrap());
    });
}

#[cfg(target_os = "linux")]
#[test]
fn dropping_a_signal_listener_closes_its_descriptors() {
    alone(test_name!(), || {
        let n_open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let one_round = || {
            for _ in 0..10 {
                let signals = [Signal::USR1, Signal::HUP].map(|s| Signals::new([s]).unwrap());
                drop(signals);
                drop(ctrl_c());
                Signals::new([Signal::TERM, Signal::KILL]).unwrap_err();
            }
        };
        one_round();
        let before = n_open();
        one_round();
        assert_eq!(n_open(), before);
    });
}

#[test]
fn after_a_fork_each_side_hears_what_it_was_sent_and_no_more() {
    alone(test_name!(), || {
        let _dog = watchdog();
        let mut signals = Signals::new([Signal::USR1, Signal::USR2]).unwrap();
        let waits = spawn(async move { [signals.next().await, signals.next().await] });
        // Polled once, so that a waker waits for the pipe.
        fahrenheit::turn(Some(Duration::ZERO)).unwrap();
        // For the parent, which has not looked yet.
        raise(sys::Signal::SIGUSR2).unwrap();
        // SAFETY: the other thread of this process is the harness, which waits for the test and
        // holds no lock; the child leaves without returning to it.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {
                raise(sys::Signal::SIGUSR1).unwrap();
                let second = spawn(async {
                    fahrenheit::time::sleep(Duration::from_millis(100)).await;
                    raise(sys::Signal::SIGUSR1).unwrap();
                });
                let heard = fahrenheit::block_on(waits).unwrap();
                drop(second);
                // SAFETY: ends the process at once.
                unsafe {
                    libc::_exit(if heard == [Some(Signal::USR1); 2] {
                        7
                    } else {
                        8
                    })
                }
            }
            nix::unistd::ForkResult::Parent { child } => {
                let ended = nix::sys::wait::waitpid(child, None).unwrap();
                assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(child, 7));
                // One for the pipe that rang before the fork, none for what the child was sent.
                let turn = || fahrenheit::turn(Some(Duration::ZERO)).unwrap();
                let n_woken: usize = (0..5).map(|_| turn()).sum();
                assert_eq!(n_woken, 1);
                raise(sys::Signal::SIGUSR1).unwrap();
                let heard = fahrenheit::block_on(waits).unwrap();
                assert_eq!(heard, [Some(Signal::USR2), Some(Signal::USR1)]);
            }
        }
    });
}

#[test]
fn names_are_those_of_the_system() {
    assert_eq!(
        format!("{:>8}|{:?}", Signal::HUP, Signal::TERM),
        "  SIGHUP|SIGTERM"
    );
    assert_eq!(Signal::from(libc::SIGCHLD), Signal::CHLD);
    assert_eq!(i32::from(Signal::from_raw(99)), 99);
}
