//! [`fahrenheit::interest_fd`]: one descriptor for the loop of another program.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "to close a descriptor behind its owner")]

use crate::util::{alone, echo, round_trip, tcp_pair, within};
use fahrenheit::prelude::*;
use fahrenheit::time::sleep;
use fahrenheit::{AsyncFd, InterestFd, interest_fd, spawn, task::JoinHandle, turn};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

/// The descriptor, or `None` where all tests run with `select`.
fn single() -> Option<InterestFd> {
    match interest_fd() {
        Ok(fd) => Some(fd),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            let is_select = std::env::var("FAHRENHEIT_POLLER").is_ok_and(|name| name == "select");
            assert!(is_select, "{error}");
            None
        }
    }
}

fn is_readable(fd: &InterestFd, limit: PollTimeout) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, limit).unwrap() == 1
}

/// A host with `poll`, without any time limit. Returns how often it turned the loop; `None` where
/// there is no such descriptor.
fn host(is_done: impl Fn() -> bool) -> Option<usize> {
    let mut n_turns = 0;
    while !is_done() {
        is_readable(&single()?, PollTimeout::NONE);
        turn(Some(Duration::ZERO)).unwrap();
        n_turns += 1;
    }
    Some(n_turns)
}

/// A host that is told of changes only, and follows the rules for that.
fn edge_host(is_done: impl Fn() -> bool) -> Option<usize> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
    let fd = single()?;
    epoll.add(&fd, EpollEvent::new(flags, 0)).unwrap();
    let mut n_waits = 0;
    while !is_done() {
        let mut events = [EpollEvent::empty()];
        assert_eq!(epoll.wait(&mut events, EpollTimeout::NONE).unwrap(), 1);
        while turn(Some(Duration::ZERO)).unwrap() > 0 {}
        assert_eq!(interest_fd().unwrap().generation(), fd.generation());
        n_waits += 1;
    }
    Some(n_waits)
}

/// Ten echoes at once, with pauses in between.
fn echoes(n_rounds: usize) -> Vec<JoinHandle<()>> {
    let client = |n| {
        let (mut near, far) = tcp_pair();
        spawn(echo(far)).detach();
        spawn(async move {
            for round in 0..n_rounds {
                if round % 10 == n {
                    sleep(Duration::from_micros(300)).await;
                }
                round_trip(&mut near).await;
            }
        })
    };
    (0..10).map(client).collect()
}

#[test]
fn a_poll_loop_with_one_descriptor_drives_echoes_and_timers_without_a_time_limit() {
    within(60, || {
        let tasks = echoes(100);
        let done = || tasks.iter().all(JoinHandle::is_finished);
        if let Some(n_turns) = host(done) {
            // Each of 1,000 round trips takes two turns, each pause one, and often one serves many.
            assert!(n_turns < 4_000, "{n_turns} turns");
        }
    });
}

#[test]
fn a_host_that_is_told_of_changes_only_drives_echoes_and_timers() {
    within(60, || {
        let tasks = echoes(100);
        edge_host(|| tasks.iter().all(JoinHandle::is_finished));
    });
}

#[test]
fn a_wake_from_another_thread_makes_the_descriptor_readable() {
    within(60, || {
        for _ in 0..50 {
            let (sender, receiver) = futures_channel::oneshot::channel();
            let task = spawn(receiver);
            turn(Some(Duration::ZERO)).unwrap();
            let thread = thread::spawn(move || {
                thread::sleep(Duration::from_micros(200));
                sender.send(7).unwrap();
            });
            host(|| task.is_finished());
            thread.join().unwrap();
            drop(task);
        }
    });
}

#[test]
fn the_descriptor_is_quiet_while_nothing_is_to_be_done() {
    within(60, || {
        let pairs: Vec<_> = (0..100).map(|_| tcp_pair()).collect();
        let waiting = pairs
            .iter()
            .map(|(near, _)| near.as_fd().try_clone_to_owned().unwrap());
        for fd in waiting.collect::<Vec<_>>() {
            let fd = AsyncFd::new(fd).unwrap();
            spawn(async move { fd.readable().await }).detach();
        }
        let lone = spawn(sleep(Duration::from_secs(3600)));
        while turn(Some(Duration::ZERO)).unwrap() > 0 {}
        let Some(fd) = single() else { return };
        assert!(!is_readable(&fd, PollTimeout::ZERO), "nothing is queued");
        // What this thread does shows after the next call.
        spawn(async {}).detach();
        let fd = interest_fd().unwrap();
        assert!(is_readable(&fd, PollTimeout::ZERO), "a task is queued");
        turn(Some(Duration::ZERO)).unwrap();
        lone.abort();
        turn(Some(Duration::ZERO)).unwrap();
        let fd = interest_fd().unwrap();
        assert!(!is_readable(&fd, PollTimeout::ZERO), "the timer is gone");
    });
}

#[test]
fn a_timer_makes_it_readable_at_its_time_and_not_before() {
    within(60, || {
        for n_ms in [3, 1, 7] {
            let begun = Instant::now();
            let task = spawn(sleep(Duration::from_millis(n_ms)));
            let Some(n_turns) = host(|| task.is_finished()) else {
                return;
            };
            assert!(begun.elapsed() >= Duration::from_millis(n_ms));
            assert!(n_turns <= 3, "{n_turns} turns for one timer");
        }
    });
}

#[test]
fn a_number_that_is_reused_is_watched_again() {
    within(60, || {
        for _ in 0..20 {
            let (mut near, far) = UnixStream::pair().unwrap();
            let fd = AsyncFd::new(OwnedFd::from(far)).unwrap();
            let number = fd.as_raw_fd();
            // A plain `readable` waits in `select`, and so among the members of its own.
            let task = spawn(async move {
                fd.readable().await.unwrap();
                fd.as_raw_fd()
            });
            turn(Some(Duration::ZERO)).unwrap();
            if single().is_none() {
                return;
            }
            near.write_all(b"x").unwrap();
            host(|| task.is_finished());
            assert_eq!(fahrenheit::block_on(task).unwrap(), number);
        }
    });
}

#[test]
fn what_the_kernel_cannot_watch_counts_as_ready() {
    within(60, || {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let fd = AsyncFd::new(file).unwrap();
        let task = spawn(async move {
            fd.readable().await.unwrap();
            fd.get_ref().read(&mut [0; 4]).unwrap()
        });
        host(|| task.is_finished());
    });
}

#[test]
fn urgent_data_and_room_to_write_make_it_readable() {
    within(60, || {
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        while (&near).write(&[0; 65_536]).is_ok() {}
        let near = AsyncFd::new(near).unwrap();
        let task = spawn(async move { near.writable().await.unwrap() });
        turn(Some(Duration::ZERO)).unwrap();
        let Some(fd) = single() else { return };
        assert!(!is_readable(&fd, PollTimeout::ZERO), "there is no room");
        let mut bytes = vec![0; 1 << 20];
        far.set_nonblocking(true).unwrap();
        while far.read(&mut bytes).is_ok_and(|n_read| n_read > 0) {}
        host(|| task.is_finished());
    });
}

/// The loop wants to look now and then at descriptors that the kernel's queue is silent about, and
/// a host has to let it.
#[test]
fn a_host_without_anything_else_to_do_lets_the_loop_notice_a_closed_descriptor() {
    // In a process of its own: another test would take the number that is closed, and then a file
    // is behind it, of which the loop knows nothing.
    let name = test_name!();
    alone(name, || {
        within(60, || {
            let (near, _far) = tcp_pair();
            let number = near.as_raw_fd();
            let task = spawn(async move {
                let mut near = near;
                let outcome = near.read(&mut [0]).await;
                // Its number is gone already.
                std::mem::forget(near);
                outcome.unwrap_err().kind()
            });
            for _ in 0..8 {
                turn(Some(Duration::ZERO)).unwrap();
            }
            if single().is_none() {
                return;
            }
            // SAFETY: the only owner has just been told to forget the number.
            unsafe { nix::libc::close(number) };
            let n_turns = host(|| task.is_finished());
            assert!(n_turns < Some(20), "{n_turns:?} turns");
        })
    });
}

#[test]
fn the_number_stays_valid_while_a_host_has_it() {
    let Some(fd) = single() else { return };
    let other = thread::spawn(|| single().unwrap());
    let of_ended_thread = other.join().unwrap();
    assert_ne!(fd.as_raw_fd(), of_ended_thread.as_raw_fd());
    assert!(!is_readable(&of_ended_thread, PollTimeout::ZERO));
}
