//! Child processes: their exits, their standard streams, and what is left of them.
#![cfg(feature = "process")]

use crate::util::{again, go, is_alone};
use fahrenheit::prelude::*;
use fahrenheit::process::{AsyncChild, AsyncCommand};
use fahrenheit::signal::Signal;
use fahrenheit::spawn;
use fahrenheit::time::{sleep, timeout};
use futures_util::future::{join, join_all};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Runs a script of the shell.
fn sh(script: &str) -> AsyncCommand {
    let mut command = AsyncCommand::new("sh");
    command.args(["-c", script]);
    command
}

/// A program that does nothing until it is told to end.
fn lasting() -> AsyncCommand {
    let mut command = AsyncCommand::new("sleep");
    command.arg("1000");
    command
}

/// Whether there is a process of this number, if only a zombie. This process reaps nothing by it.
fn exists(pid: u32) -> bool {
    kill(Pid::from_raw(pid.try_into().unwrap()), None) != Err(Errno::ESRCH)
}

/// Waits until none of these processes is left, not even as a zombie.
async fn all_are_reaped(pids: &[u32]) {
    while pids.iter().any(|&pid| exists(pid)) {
        sleep(Duration::from_millis(1)).await;
    }
}

/// `n` children that exit together, with the codes 0, 1, 2, …, as soon as what comes with them is
/// dropped.
fn burst(n: usize) -> (Vec<AsyncChild>, UnixStream) {
    let (end_of_input, hold) = UnixStream::pair().unwrap();
    let children = (0..n)
        .map(|code| {
            let stdin = OwnedFd::from(end_of_input.try_clone().unwrap());
            let mut command = sh("read line; exit $0");
            command.arg((code % 256).to_string()).stdin(stdin);
            command.spawn().unwrap()
        })
        .collect();
    (children, hold)
}

/// How many bursts: few, unless the environment asks for more.
fn n_bursts() -> usize {
    let asked = std::env::var("FAHRENHEIT_TEST_BURSTS");
    asked.map_or(3, |n| n.parse().unwrap())
}

#[test]
fn no_exit_status_is_lost_when_200_children_end_together() {
    let n_statuses: usize = (0..n_bursts())
        .map(|_| {
            go(async {
                let (children, hold) = burst(200);
                let waits: Vec<_> = children
                    .into_iter()
                    .map(|mut child| spawn(async move { child.wait().await.unwrap().code() }))
                    .collect();
                // All of them wait by the time the children end.
                fahrenheit::yield_now().await;
                drop(hold);
                for (code, wait) in (0..).zip(waits) {
                    assert_eq!(wait.await.unwrap(), Some(code % 256));
                }
                200
            })
        })
        .sum();
    println!("{n_statuses} statuses");
    assert_eq!(n_statuses, 200 * n_bursts());
}

#[test]
fn two_loops_on_two_threads_each_hear_of_their_own_children() {
    let threads = [(); 2].map(|()| {
        std::thread::spawn(|| {
            go(async {
                for _ in 0..10 {
                    let (mut children, hold) = burst(10);
                    drop(hold);
                    let ends = join_all(children.iter_mut().map(AsyncChild::wait)).await;
                    let codes = ends.into_iter().map(|end| end.unwrap().code().unwrap());
                    assert!(codes.eq(0..10));
                }
            });
        })
    });
    threads.into_iter().for_each(|t| t.join().unwrap());
}

#[test]
fn a_child_of_std_in_the_same_process_keeps_its_exit_status() {
    let mut foreign = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
    go(async {
        for _ in 0..20 {
            assert!(AsyncCommand::new("true").status().await.unwrap().success());
        }
        drop(lasting().kill_on_drop(true).spawn().unwrap());
        sleep(Duration::from_millis(50)).await;
    });
    assert_eq!(foreign.wait().unwrap().code(), Some(7));
}

#[test]
fn no_zombie_stays_of_200_dropped_children() {
    go(async {
        let (children, hold) = burst(100);
        let killed = (0..100).map(|_| lasting().kill_on_drop(true).spawn().unwrap());
        let children: Vec<_> = children.into_iter().chain(killed).collect();
        let pids: Vec<_> = children.iter().map(|child| child.id().unwrap()).collect();
        drop(children);
        // The second half is being killed; the first half goes on.
        all_are_reaped(&pids[100..]).await;
        assert!(pids[..100].iter().all(|&pid| exists(pid)));
        drop(hold);
        all_are_reaped(&pids).await;
    });
}

#[test]
fn a_child_that_outlives_a_run_is_reaped_in_the_next() {
    let (pid, hold) = go(async {
        let (children, hold) = burst(1);
        (children[0].id().unwrap(), hold)
    });
    drop(hold);
    go(all_are_reaped(&[pid]));
}

#[test]
fn a_child_of_a_thread_that_has_ended_is_reaped_by_another_with_children() {
    let orphan = std::thread::spawn(|| {
        let (children, hold) = burst(1);
        (children[0].id().unwrap(), hold)
    });
    let (pid, hold) = orphan.join().unwrap();
    go(async {
        let _child = lasting().kill_on_drop(true).spawn().unwrap();
        drop(hold);
        all_are_reaped(&[pid]).await;
    });
}

/// Waits for a child for `soon`, drops it, and returns what it has written by then: its number, if
/// it was fast enough.
async fn drop_after(soon: Duration, by_output: bool) -> String {
    let mut child = sh("echo $$; exec sleep 1000");
    let (reader, end) = nix::unistd::pipe().unwrap();
    let mut reader = std::fs::File::from(reader);
    nix::fcntl::fcntl(
        &reader,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
    )
    .unwrap();
    child.stdout(end).kill_on_drop(true);
    let timed_out = if by_output {
        timeout(soon, child.output()).await.is_err()
    } else {
        timeout(soon, child.status()).await.is_err()
    };
    assert!(timed_out);
    drop(child);
    let mut pid = String::new();
    // Ends only because the child has.
    io::Read::read_to_string(&mut reader, &mut pid).unwrap();
    pid
}

#[test]
fn a_dropped_status_or_output_kills_if_asked_to_and_leaves_no_zombie() {
    go(async {
        for by_output in [false, true] {
            let mut soon = Duration::from_millis(50);
            let pid = loop {
                let pid = drop_after(soon, by_output).await;
                if !pid.is_empty() {
                    break pid;
                }
                // On a slow machine the shell needs longer to begin.
                soon *= 2;
                assert!(soon < Duration::from_secs(20), "it never begins");
            };
            all_are_reaped(&[pid.trim().parse().unwrap()]).await;
        }
    });
}

#[test]
fn a_child_that_has_ended_has_no_pid_and_a_status_for_every_caller() {
    go(async {
        let mut child = lasting().spawn().unwrap();
        let pid = child.id().unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        let error = child.signal(Signal::from_raw(0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        child.kill().unwrap();
        let status = child.wait().await.unwrap();
        assert_eq!(status.signal(), Some(9));
        assert!(!exists(pid));
        assert_eq!(child.id(), None);
        for error in [child.kill(), child.signal(Signal::TERM)].map(Result::unwrap_err) {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("has ended"), "{error}");
        }
        assert_eq!(child.wait().await.unwrap(), status);
        assert_eq!(child.try_wait().unwrap(), Some(status));
    });
}

#[test]
fn only_our_ends_of_the_pipes_are_non_blocking() {
    let name = test_name!();
    if is_alone(name) {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let flags = |fd: &dyn std::os::fd::AsFd| fcntl(fd.as_fd(), FcntlArg::F_GETFL).unwrap();
        let all = [
            flags(&io::stdin()),
            flags(&io::stdout()),
            flags(&io::stderr()),
        ];
        let blocks = |&flags: &i32| !OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK);
        eprintln!("all three block: {}", all.iter().all(blocks));
        return;
    }
    go(async {
        let mut child = AsyncCommand::from(again(name));
        child
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let output = child.spawn().unwrap().wait_with_output().await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("all three block: true"), "{text}");
        // Handed on to another child, our end blocks as well.
        let mut first = sh("echo handed on");
        let mut first = first.stdout(Stdio::piped()).spawn().unwrap();
        let mut second = AsyncCommand::from(again(name));
        second.stdin(first.stdout.take().unwrap().into_std().unwrap());
        second.stderr(Stdio::piped());
        let output = second.output().await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("all three block: true"), "{text}");
        assert!(first.wait().await.unwrap().success());
    });
}

#[test]
fn writing_to_a_child_that_dies_with_its_stdin_full_is_a_broken_pipe() {
    go(async {
        let mut child = lasting().stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let write = spawn(async move {
            loop {
                if let Err(error) = stdin.write_all(&[0; 4096]).await {
                    return error.kind();
                }
            }
        });
        // Long enough that the pipe is tenured where there is a queue.
        sleep(Duration::from_millis(50)).await;
        assert!(!write.is_finished());
        child.kill().unwrap();
        assert_eq!(write.await.unwrap(), ErrorKind::BrokenPipe);
        assert_eq!(child.wait().await.unwrap().signal(), Some(9));
    });
}

#[test]
fn stdin_and_stdout_of_a_child_move_8_mib_at_once() {
    go(async {
        let sent: Vec<u8> = (0..8_u32 << 20).map(|n| (n % 251) as u8).collect();
        let mut child = AsyncCommand::new("cat");
        child.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let write = async {
            stdin.write_all(&sent).await.unwrap();
            stdin.close().await.unwrap();
            let again = stdin.write(b"more").await;
            assert_eq!(again.unwrap_err().kind(), ErrorKind::BrokenPipe);
        };
        let (output, ()) = join(child.wait_with_output(), write).await;
        let output = output.unwrap();
        assert!(output.status.success());
        assert!(output.stdout == sent);
    });
}

#[test]
fn waiting_again_after_a_wait_was_given_up_loses_nothing() {
    go(async {
        let (mut children, hold) = burst(8);
        for child in &mut children {
            for _ in 0..3 {
                assert!(child.wait().now_or_never().is_none());
            }
        }
        drop(hold);
        let child = &mut children[7];
        while timeout(Duration::from_millis(1), child.wait())
            .await
            .is_err()
        {}
        assert_eq!(child.wait().await.unwrap().code(), Some(7));
        for (child, code) in children.iter_mut().zip(0..) {
            assert_eq!(child.wait().await.unwrap().code(), Some(code));
        }
    });
}

#[cfg(feature = "dump")]
#[test]
fn a_task_that_waits_for_a_child_is_not_stuck() {
    let _dog = crate::util::watchdog();
    // Longer than a loop waits before it asks itself.
    let run = fahrenheit::Builder::new().panic_when_stuck(true);
    let status = run.run(sh("sleep 1.2; exit 3").status()).unwrap().unwrap();
    assert_eq!(status.code(), Some(3));
}

#[test]
fn streams_are_those_of_std_unless_they_are_set() {
    go(async {
        let mut command = sh("cat; echo out; echo err >&2; exit 3");
        for _ in 0..2 {
            let output = command.output().await.unwrap();
            assert_eq!(output.status.code(), Some(3));
            assert_eq!(
                (&output.stdout[..], &output.stderr[..]),
                (&b"out\n"[..], &b"err\n"[..])
            );
        }
        let output = command.stderr(Stdio::null()).output().await.unwrap();
        assert_eq!(output.stderr, b"");
        // Not piped by the `output` before.
        command.stdin(Stdio::null());
        let child = command.spawn().unwrap();
        assert!(child.stdin.is_none() && child.stdout.is_none() && child.stderr.is_none());
        // More than a pipe has room for, and nobody reads.
        let mut loud = sh("head -c 1000000 /dev/zero");
        let status = loud.stdout(Stdio::piped()).status().await.unwrap();
        assert!(!status.success());
    });
}

/// The standard input is a pipe with a line in it, which a child that inherits it would print.
#[test]
fn output_gives_the_child_no_input_and_spawn_and_status_give_it_ours() {
    let name = test_name!();
    if is_alone(name) {
        go(async {
            let read = || sh("read line; test \"$line\" = ours");
            let output = sh("cat").output().await.unwrap();
            assert_eq!(output.stdout, b"", "it inherits the standard input");
            // The shell reads one byte at a time, so the other line is left for the next.
            assert!(read().status().await.unwrap().success());
            let mut child = read().spawn().unwrap();
            assert!(child.wait().await.unwrap().success());
        });
        return crate::util::passed();
    }
    let (read, write) = fahrenheit::io::pipe().unwrap();
    let (read, write) = (read.into_blocking_fd(), write.into_blocking_fd());
    std::fs::File::from(write.unwrap())
        .write_all(b"ours\nours\n")
        .unwrap();
    let mut command = again(name);
    command.stdin(read.unwrap());
    crate::util::finish(name, command);
}

#[test]
fn vectored_writes_to_and_reads_from_a_child_move_all_slices() {
    go(async {
        let mut command = sh("cat; echo errors >&2");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let slices = [&b""[..], b"one ", b"", b"two"].map(io::IoSlice::new);
        assert_eq!(stdin.write_vectored(&slices).await.unwrap(), 7);
        stdin.close().await.unwrap();
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (mut head, mut tail) = ([0; 4], [0; 10]);
        let mut into = [&mut [][..], &mut head[..], &mut tail[..]].map(io::IoSliceMut::new);
        assert_eq!(stdout.read_vectored(&mut into).await.unwrap(), 7);
        assert_eq!((&head, &tail[..3]), (b"one ", &b"two"[..]));
        let (mut head, mut tail) = ([0; 3], [0; 10]);
        let mut into = [&mut head[..], &mut tail[..]].map(io::IoSliceMut::new);
        assert_eq!(stderr.read_vectored(&mut into).await.unwrap(), 7);
        assert_eq!((&head, &tail[..4]), (b"err", &b"ors\n"[..]));
        let mut into = [io::IoSliceMut::new(&mut head)];
        assert_eq!(stdout.read_vectored(&mut into).await.unwrap(), 0);
        assert!(child.wait().await.unwrap().success());
    });
}

#[test]
fn what_a_command_is_given_reaches_the_child() {
    go(async {
        let mut command = sh("echo $0 $1 $A $B ${C-none}; pwd -P");
        command.arg("zero").args(["one"]).env("A", "a");
        command.envs([("B", "b"), ("C", "c")]).env_remove("C");
        let output = command.current_dir("/").output().await.unwrap();
        assert_eq!(output.stdout, b"zero one a b none\n/\n");
        let mut command = AsyncCommand::new("/usr/bin/env");
        command
            .env_clear()
            .as_std_mut()
            .arg("FAHRENHEIT=451")
            .arg("/usr/bin/env");
        let output = command.output().await.unwrap();
        assert_eq!(output.stdout, b"FAHRENHEIT=451\n");
        assert_eq!(command.as_std().get_program(), "/usr/bin/env");
    });
}

#[test]
fn a_child_of_std_is_taken_over_with_its_pipes() {
    go(async {
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = AsyncChild::try_from(command.spawn().unwrap()).unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"taken over").await.unwrap();
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        assert_eq!(output.stdout, b"taken over");
        // A child that has ended before anybody could hear of it.
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let mut child = AsyncChild::from_std(child).unwrap();
        assert!(child.wait().await.unwrap().success());
    });
}
