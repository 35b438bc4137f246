//! A program that owns its loop: `turn` and `interest`.
#![allow(unsafe_code)]

use crate::util::{echo, round_trip, tcp_pair, text, within};
use fahrenheit::prelude::*;
use fahrenheit::time::sleep;
use fahrenheit::{interest, run, spawn, turn, yield_now};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::cell::Cell;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

/// Waits, by a `poll` of the test's own, for what the loop waits for.
fn wait_outside(fds: &[(BorrowedFd<'_>, RawFd)]) {
    let wanted = interest();
    let time_left = match (wanted.queued, wanted.deadline) {
        (true, _) => Duration::ZERO,
        (false, Some(deadline)) => deadline.saturating_duration_since(Instant::now()),
        (false, None) => Duration::from_secs(10),
    };
    let flags = |fd: RawFd| {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, wanted.read.contains(&fd));
        flags.set(PollFlags::POLLOUT, wanted.write.contains(&fd));
        flags.set(PollFlags::POLLPRI, wanted.except.contains(&fd));
        flags
    };
    let mut entries: Vec<_> = fds
        .iter()
        .map(|&(fd, number)| PollFd::new(fd, flags(number)))
        .collect();
    // Rounded up: `poll` counts in milliseconds.
    let limit = PollTimeout::try_from(time_left + Duration::from_millis(1)).unwrap();
    let limit = if wanted.queued {
        PollTimeout::ZERO
    } else {
        limit
    };
    poll(&mut entries, limit).unwrap();
}

#[test]
fn a_poll_loop_outside_drives_echoes_through_turn() {
    within(30, || {
        let (mut near, far) = tcp_pair();
        // Duplicates, so that the loop outside can name them while the tasks own the sockets.
        let dup = |stream: &fahrenheit::AsyncTcpStream| {
            use std::os::fd::AsFd;
            (
                stream.as_fd().try_clone_to_owned().unwrap(),
                stream.as_raw_fd(),
            )
        };
        let outside = [dup(&near), dup(&far)];
        drop(spawn(echo(far)));
        let client = spawn(async move {
            for _ in 0..100 {
                round_trip(&mut near).await;
            }
            sleep(Duration::from_millis(3)).await;
            near.close().await.unwrap();
        });
        let (mut n_woken, mut n_turns) = (0, 0);
        while !client.is_finished() {
            let fds: Vec<_> = outside
                .iter()
                .map(|(fd, number)| (std::os::fd::AsFd::as_fd(fd), *number))
                .collect();
            wait_outside(&fds);
            n_woken += turn(Some(Duration::ZERO)).unwrap();
            n_turns += 1;
        }
        assert!(n_woken >= 200, "{n_woken} wakers in {n_turns} turns");
        assert!(n_turns < 10_000, "the loop outside spins: {n_turns} turns");
        run(client).unwrap();
    });
}

#[test]
fn a_turn_waits_no_longer_than_it_may_and_counts_the_wakers() {
    within(30, || {
        let start = Instant::now();
        assert_eq!(turn(Some(Duration::from_millis(20))).unwrap(), 0);
        assert!(start.elapsed() >= Duration::from_millis(20));
        assert_eq!(turn(Some(Duration::ZERO)).unwrap(), 0);
        let task = spawn(sleep(Duration::from_millis(5)));
        let mut n_woken = 0;
        while !task.is_finished() {
            n_woken += turn(None).unwrap();
        }
        assert_eq!(n_woken, 1);
    });
}

#[test]
fn interest_says_what_is_waited_for() {
    within(30, || {
        assert!(!interest().queued);
        let (mut near, _far) = tcp_pair();
        let number = near.as_raw_fd();
        assert!(!interest().read.contains(&number));
        let reader = spawn(async move {
            let mut byte = [0];
            let read = near.read(&mut byte);
            fahrenheit::time::timeout(Duration::from_secs(60), read)
                .await
                .unwrap_err();
        });
        assert!(interest().queued);
        turn(Some(Duration::ZERO)).unwrap();
        let now = interest();
        assert!(!now.queued);
        assert!(now.read.contains(&number));
        assert_eq!(now.read.len(), 2, "the socket and the wake-up pipe");
        assert!(now.write.is_empty() && now.except.is_empty());
        let left = now.deadline.unwrap() - Instant::now();
        assert!(left > Duration::from_secs(1) && left <= Duration::from_secs(60));
        reader.abort();
        turn(Some(Duration::ZERO)).unwrap();
        let now = interest();
        assert_eq!((now.read.len(), now.deadline), (1, None));
    });
}

#[test]
fn a_wake_from_another_thread_ends_a_turn_and_a_poll_outside() {
    within(30, || {
        turn(Some(Duration::ZERO)).unwrap();
        let (send, receive) = futures_channel::oneshot::channel();
        let task = spawn(receive);
        turn(Some(Duration::ZERO)).unwrap();
        let sender = thread::spawn(move || {
            thread::sleep(Duration::from_millis(10));
            send.send(4).unwrap();
        });
        while !task.is_finished() {
            turn(None).unwrap();
        }
        sender.join().unwrap();
        assert_eq!(run(task).unwrap(), Ok(4));
    });
}

#[test]
fn turn_run_and_block_on_inside_a_task_are_refused_and_nothing_has_happened() {
    within(30, || {
        let touched = Rc::new(Cell::new(false));
        run(async {
            let (mut near, far) = tcp_pair();
            let echo = spawn(echo(far));
            round_trip(&mut near).await;
            for nested in [run::<futures_util::future::Ready<()>>, fahrenheit::block_on] {
                let other = Rc::clone(&touched);
                let waiting = spawn(async move { other.set(true) });
                let refused = catch_unwind(AssertUnwindSafe(|| {
                    nested(futures_util::future::ready(()));
                }));
                let message = refused.unwrap_err();
                assert!(text(&*message).contains("from inside a task"));
                let error = turn(None).unwrap_err();
                assert!(error.to_string().contains("from inside a task"));
                // No task has had a turn.
                assert!(!touched.replace(false));
                yield_now().await;
                assert!(touched.replace(false));
                waiting.await.unwrap();
                round_trip(&mut near).await;
            }
            drop(near);
            echo.await.unwrap().unwrap();
        });
    });
}

#[test]
fn a_nested_run_in_a_task_is_a_panic_of_that_task_only() {
    within(30, || {
        run(async {
            let task = spawn(async { run(async { 1 }) });
            let error = task.await.unwrap_err();
            assert!(error.to_string().contains("`.await` the future"), "{error}");
            assert_eq!(spawn(async { 2 }).await.unwrap(), 2);
        });
    });
}

/// Waits, by a `poll` of the test's own and as a program with nothing else to wait for would, until
/// `task` has ended. Every descriptor is taken from `interest` alone. Returns how often it waited.
fn drive_by_interest(task: &fahrenheit::task::JoinHandle<impl Sized + 'static>) -> usize {
    let mut n_waits = 0;
    while !task.is_finished() {
        let wanted = interest();
        // SAFETY: nothing runs on this thread, which owns the loop, until `poll` has returned, so
        // none of these descriptors is closed meanwhile.
        let borrow = |&fd: &RawFd| unsafe { BorrowedFd::borrow_raw(fd) };
        let lists = [
            (&wanted.read, PollFlags::POLLIN),
            (&wanted.write, PollFlags::POLLOUT),
            (&wanted.except, PollFlags::POLLPRI),
        ];
        let entries = lists
            .iter()
            .flat_map(|(fds, flags)| fds.iter().map(|fd| PollFd::new(borrow(fd), *flags)));
        let mut entries: Vec<_> = entries.collect();
        let limit = match wanted.time_left() {
            // The watchdog is not to be what ends the wait.
            None => PollTimeout::NONE,
            // Rounded up: `poll` counts in milliseconds.
            Some(left) => PollTimeout::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap(),
        };
        poll(&mut entries, limit).unwrap();
        turn(Some(Duration::ZERO)).unwrap();
        n_waits += 1;
    }
    n_waits
}

#[test]
fn a_wake_from_another_thread_ends_a_poll_outside_that_has_no_limit() {
    within(30, || {
        for round in 0..200 {
            let (send, receive) = futures_channel::oneshot::channel();
            let task = spawn(receive);
            let (waits, wait) = std::sync::mpsc::channel();
            let sender = thread::spawn(move || {
                wait.recv().unwrap();
                // Before, at about the time, and after the loop outside has begun to wait.
                thread::sleep(Duration::from_micros(10 * (round % 20)));
                send.send(round).unwrap();
            });
            if round % 2 == 1 {
                // Not in the first round: then there is no pipe yet when `interest` is asked.
                turn(Some(Duration::ZERO)).unwrap();
            }
            waits.send(()).unwrap();
            let n_waits = drive_by_interest(&task);
            assert!(n_waits <= 4, "the loop outside spins: {n_waits} waits");
            sender.join().unwrap();
            assert_eq!(run(task).unwrap(), Ok(round));
        }
    });
}

#[test]
fn the_first_interest_of_a_thread_already_names_the_wake_up_pipe() {
    within(30, || {
        let now = interest();
        assert_eq!((now.read.len(), now.queued), (1, false));
        assert_eq!(now.time_left(), None);
    });
}
