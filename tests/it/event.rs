//! Signals from outside of the loop: `Event` and `Notifier`.

use crate::util::{Count, poll_with, within};
use fahrenheit::time::{sleep, timeout};
use fahrenheit::{Event, Notifier, block_on, run, spawn, turn, yield_now};
use futures_util::future::{join, join_all};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::cell::Cell;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::pin;
use std::process::Command;
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// Whether `event` is not signalled, and stays so for a moment.
async fn is_quiet(event: &Event) -> bool {
    timeout(Duration::from_millis(5), event.wait())
        .await
        .is_err()
}

#[test]
fn none_of_10_000_signals_between_two_threads_is_lost() {
    within(60, || {
        let (send, receive) = channel::<Notifier>();
        let there = Event::new().unwrap();
        let to_here = there.notifier();
        let peer = thread::spawn(move || {
            let here = Event::new().unwrap();
            send.send(here.notifier()).unwrap();
            run(async {
                for _ in 0..10_000 {
                    here.wait().await.unwrap();
                    to_here.notify().unwrap();
                }
            });
        });
        let to_peer = receive.recv().unwrap();
        run(async {
            for _ in 0..10_000 {
                to_peer.notify().unwrap();
                there.wait().await.unwrap();
            }
            assert!(is_quiet(&there).await);
        });
        peer.join().unwrap();
    });
}

#[test]
fn signals_that_come_before_a_wait_are_one() {
    within(60, || {
        run(async {
            let event = Event::new().unwrap();
            assert!(is_quiet(&event).await);
            // The second time more than a pipe holds: a signal too many neither waits nor fails.
            for n_signals in [2, 70_000] {
                for _ in 0..n_signals {
                    event.notifier().notify().unwrap();
                }
                event.wait().await.unwrap();
                assert!(is_quiet(&event).await, "after {n_signals}");
            }
        });
    });
}

#[test]
fn any_byte_from_c_code_or_from_another_program_signals() {
    within(30, || {
        run(async {
            let event = Event::new().unwrap();
            let notifier = event.notifier();
            for byte in [0, b'x', 255] {
                // What C does with the number: one call of write(2).
                assert_eq!(nix::unistd::write(&notifier, &[byte]), Ok(1));
                event.wait().await.unwrap();
                assert!(is_quiet(&event).await);
            }
            assert_eq!(nix::unistd::write(&notifier, &[7; 10_000]), Ok(10_000));
            event.wait().await.unwrap();
            assert!(is_quiet(&event).await);
            let duplicate = notifier.as_fd().try_clone_to_owned().unwrap();
            let mut echo = Command::new("echo").stdout(duplicate).spawn().unwrap();
            event.wait().await.unwrap();
            assert!(echo.wait().unwrap().success());
        });
    });
}

#[test]
fn a_wait_that_was_given_up_loses_no_signal() {
    within(30, || {
        run(async {
            let event = Event::new().unwrap();
            for _ in 0..100 {
                let mut given_up = Box::pin(event.wait());
                let (_, waker) = Count::waker();
                assert!(poll_with(&mut given_up, &waker).is_pending());
                event.notifier().notify().unwrap();
                drop(given_up);
                event.wait().await.unwrap();
            }
            assert!(is_quiet(&event).await);
        });
    });
}

#[test]
fn a_signal_lets_one_of_several_waiting_tasks_go_on() {
    within(30, || {
        let n_gone_on = Rc::new(Cell::new(0));
        run(async {
            let event = Rc::new(Event::new().unwrap());
            let tasks: Vec<_> = (0..10)
                .map(|_| {
                    let (event, n_gone_on) = (Rc::clone(&event), Rc::clone(&n_gone_on));
                    spawn(async move {
                        event.wait().await.unwrap();
                        n_gone_on.set(n_gone_on.get() + 1);
                    })
                })
                .collect();
            yield_now().await;
            for n_signals in 1..=10 {
                event.notifier().notify().unwrap();
                sleep(Duration::from_millis(3)).await;
                assert_eq!(n_gone_on.get(), n_signals);
            }
            for task in tasks {
                task.await.unwrap();
            }
        });
    });
}

#[test]
fn only_the_task_whose_event_was_signalled_is_polled() {
    within(30, || {
        run(async {
            let events: Vec<_> = (0..50).map(|_| Event::new().unwrap()).collect();
            let counts: Vec<_> = events.iter().map(|_| Count::waker()).collect();
            let mut waits: Vec<_> = events.iter().map(|event| Box::pin(event.wait())).collect();
            for (wait, (_, waker)) in waits.iter_mut().zip(&counts) {
                assert!(poll_with(wait, waker).is_pending());
            }
            let mut expected = vec![0; 50];
            for n in [31, 0, 49] {
                events[n].notifier().notify().unwrap();
                sleep(Duration::from_millis(2)).await;
                let woken: Vec<_> = counts.iter().map(|(count, _)| count.get()).collect();
                expected[n] = 1;
                assert_eq!(woken, expected);
                assert!(poll_with(&mut waits[n], &counts[n].1).is_ready());
            }
        });
    });
}

#[test]
fn code_outside_waits_for_what_a_task_signals() {
    within(30, || {
        let event = Event::new().unwrap();
        let outside = event.as_fd().try_clone_to_owned().unwrap();
        let notifier = event.notifier();
        let (told, tell) = channel();
        let outside = thread::spawn(move || {
            let mut entries = [PollFd::new(outside.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut entries, PollTimeout::ZERO), Ok(0));
            told.send(()).unwrap();
            assert_eq!(poll(&mut entries, PollTimeout::NONE), Ok(1));
            assert_eq!(nix::unistd::read(&outside, &mut [0; 8]), Ok(1));
        });
        tell.recv().unwrap();
        run(async {
            spawn(async move { notifier.notify() })
                .await
                .unwrap()
                .unwrap();
        });
        outside.join().unwrap();
        // The thread has taken the signal.
        assert!(run(is_quiet(&event)));
    });
}

#[test]
fn turn_returns_that_one_waiter_was_woken_and_is_not_called_again_for_it() {
    within(30, || {
        let event = Event::new().unwrap();
        let notifier = event.notifier();
        let task = spawn(async move {
            event.wait().await.unwrap();
            event
        });
        assert_eq!(turn(Some(Duration::ZERO)).unwrap(), 0);
        notifier.notify().unwrap();
        assert_eq!(turn(None).unwrap(), 1);
        assert_eq!(turn(Some(Duration::ZERO)).unwrap(), 0);
        assert!(task.is_finished());
    });
}

#[test]
fn notifiers_that_outlive_their_event_and_its_thread_are_harmless() {
    within(30, || {
        let notifier = thread::spawn(|| {
            let event = Event::new().unwrap();
            let notifier = event.notifier();
            run(async {
                notifier.notify().unwrap();
                event.wait().await.unwrap();
            });
            notifier
        });
        let notifier = notifier.join().unwrap();
        for _ in 0..70_000 {
            notifier.notify().unwrap();
        }
        drop(notifier.clone());
        notifier.notify().unwrap();
    });
}

#[test]
fn the_last_owner_closes_both_ends() {
    within(30, || {
        let event = Event::new().unwrap();
        let notifier = event.notifier();
        let read = event.as_fd().try_clone_to_owned().unwrap();
        let write = notifier.as_fd().try_clone_to_owned().unwrap();
        drop(event);
        assert_eq!(nix::unistd::write(&notifier, b"x"), Ok(1));
        drop(notifier);
        // Each of the duplicates is the last of its end.
        drop(write);
        let mut read = std::fs::File::from(read);
        let mut bytes = Vec::new();
        assert_eq!(read.read_to_end(&mut bytes).unwrap(), 1);

        let event = Event::new().unwrap();
        let write = event.notifier().as_fd().try_clone_to_owned().unwrap();
        drop(event);
        // Another test may be starting a program, which has all descriptors for a moment.
        while nix::unistd::write(&write, b"x") != Err(Errno::EPIPE) {
            thread::yield_now();
        }
    });
}

#[test]
fn an_event_stops_a_loop_that_waits_for_ever_and_may_stop_it_again() {
    within(30, || {
        for _ in 0..20 {
            let stop = Event::new().unwrap();
            let notifier = stop.notifier();
            let thread = thread::spawn(move || notifier.notify());
            block_on(async {
                // A descriptor that is never ready, so that the loop waits without limit.
                let never = Event::new().unwrap();
                let (never, stopped) = (pin!(never.wait()), pin!(stop.wait()));
                let first = futures_util::future::select(never, stopped).await;
                assert!(matches!(first, futures_util::future::Either::Right(_)));
            });
            thread.join().unwrap().unwrap();
        }
    });
}

#[test]
fn a_notifier_may_cross_threads_and_both_may_be_shown() {
    fn crosses<T: Send + Sync + Clone + 'static>(_: &T) {}
    within(30, || {
        let event = Event::new().unwrap();
        let notifier = event.notifier();
        crosses(&notifier);
        let fd = event.as_raw_fd();
        assert_eq!(format!("{event:?}"), format!("Event {{ fd: {fd}, .. }}"));
        assert!(format!("{notifier:?}").starts_with("Notifier { fd: "));
        assert_ne!(notifier.as_raw_fd(), fd);
    });
}

#[test]
fn an_event_that_is_always_signalled_does_not_starve_other_tasks() {
    within(30, || {
        run(async {
            let event = Event::new().unwrap();
            let notifier = event.notifier();
            let n_waits = Cell::new(0_u64);
            let busy = async {
                loop {
                    notifier.notify().unwrap();
                    event.wait().await.unwrap();
                    n_waits.set(n_waits.get() + 1);
                }
            };
            let timers = join_all((0..20).map(|n| sleep(Duration::from_millis(n))));
            let timers = async { drop(timers.await) };
            let busy = timeout(Duration::from_millis(60), busy);
            let (busy, ()) = join(busy, timers).await;
            assert!(busy.is_err() && n_waits.get() > 100, "{}", n_waits.get());
        });
    });
}
