//! [`Handle`]s, hosts and forks. Each test runs again in a process of its own.
#![allow(unsafe_code, reason = "to fork")]
#![cfg(target_os = "linux")]

use crate::util::alone;
use fahrenheit::task::Handle;
use fahrenheit::time;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use std::os::fd::AsFd;
use std::process::exit;
use std::time::Duration;

/// Exit status of a child in which all went well.
const GOOD: i32 = 7;

/// Returns `None` in the child.
fn fork_here() -> Option<Pid> {
    // SAFETY: the child uses nothing that another thread may have locked but this crate and the
    // allocator, which the C library keeps usable.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => None,
        ForkResult::Parent { child } => Some(child),
    }
}

fn ends_well(child: Pid) {
    assert_eq!(
        waitpid(child, None).unwrap(),
        WaitStatus::Exited(child, GOOD)
    );
}

/// In the child, a thread of the child spawns on the loop that is a copy of the parent's.
fn handles_spawn_in_the_process_they_are_in() {
    let handle = Handle::current();
    let before = handle.spawn(async { std::process::id() });
    let task_of_a_thread = move || {
        let task = std::thread::spawn(move || handle.spawn(async { std::process::id() }));
        fahrenheit::block_on(task.join().expect("spawning does not panic"))
    };
    let child = fork_here();
    let own = std::process::id();
    assert_eq!(fahrenheit::block_on(before).ok(), Some(own));
    assert_eq!(task_of_a_thread().ok(), Some(own));
    match child {
        None => exit(GOOD),
        Some(child) => ends_well(child),
    }
}

#[test]
fn after_a_fork_tasks_spawned_by_other_threads_run_in_parent_and_child() {
    alone(test_name!(), handles_spawn_in_the_process_they_are_in);
}

/// The child has only the thread that forked, so that the loop of the handle is not in it.
fn handles_of_threads_that_the_child_lacks() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let (_ends_the_thread, end) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _ = sender.send(Handle::current());
        fahrenheit::block_on(async {
            // Until the scenario returns.
            while end.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                time::sleep(Duration::from_millis(1)).await;
            }
        });
    });
    let handle = receiver.recv().expect("the thread sends it");
    let under_way = handle.spawn(std::future::pending::<()>());
    let Some(child) = fork_here() else {
        assert!(under_way.is_finished());
        for task in [under_way, handle.spawn(async {})] {
            let error = fahrenheit::block_on(task).expect_err("its thread is not here");
            assert!(error.to_string().contains("forked by another thread"));
        }
        // A loop that the child makes itself is another one.
        assert!(fahrenheit::block_on(Handle::current().spawn(async {})).is_ok());
        exit(GOOD);
    };
    assert!(!under_way.is_finished());
    assert!(fahrenheit::block_on(handle.spawn(async {})).is_ok());
    ends_well(child);
}

#[test]
fn after_a_fork_a_handle_of_a_thread_that_the_child_lacks_says_so() {
    alone(test_name!(), handles_of_threads_that_the_child_lacks);
}

/// Waits for nothing but the one descriptor, until a task has slept and a thread has woken it.
fn drive_by_one_descriptor(known: &mut Option<u64>) -> bool {
    let (sender, receiver) = std::sync::mpsc::channel();
    let handle = Handle::current();
    std::thread::spawn(move || sender.send(handle.spawn(async { 7 })));
    let task = fahrenheit::spawn(async move {
        time::sleep(Duration::from_millis(2)).await;
        receiver.recv().unwrap().await.unwrap()
    });
    let mut is_new = false;
    while !task.is_finished() {
        let Ok(fd) = fahrenheit::interest_fd() else {
            // All is in `select` in this run of the tests.
            return false;
        };
        is_new |= known.replace(fd.generation()) != Some(fd.generation());
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).unwrap();
        fahrenheit::turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(fahrenheit::block_on(task).ok(), Some(7));
    is_new
}

fn hosts_go_on_in_parent_and_child() {
    let mut generation = None;
    if !drive_by_one_descriptor(&mut generation) {
        return;
    }
    let child = fork_here();
    let is_new = drive_by_one_descriptor(&mut generation);
    assert_eq!(is_new, child.is_none(), "only the child has another one");
    match child {
        None => exit(GOOD),
        Some(child) => ends_well(child),
    }
}

#[test]
fn after_a_fork_a_host_with_one_descriptor_goes_on_in_parent_and_child() {
    alone(test_name!(), hosts_go_on_in_parent_and_child);
}
