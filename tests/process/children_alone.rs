//! Child processes where handlers, ignored signals, the mask, forks or the number of descriptors
//! matter. Each test runs again in a process of its own.
#![cfg(all(feature = "process", feature = "udp"))]
#![allow(
    unsafe_code,
    reason = "to fork, and to set handlers as a C library would"
)]

use crate::util::{alone, go, watchdog};
use fahrenheit::prelude::*;
use fahrenheit::process::AsyncCommand;
use fahrenheit::signal::{Signal, Signals};
use fahrenheit::time::timeout;
use futures_util::future::join;
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{self as sys, SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use std::io::ErrorKind;
#[cfg(target_os = "linux")]
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

fn sh(script: &str) -> AsyncCommand {
    let mut command = AsyncCommand::new("sh");
    command.args(["-c", script]);
    command
}

fn lasting() -> AsyncCommand {
    let mut command = AsyncCommand::new("sleep");
    command.arg("1000").kill_on_drop(true);
    command
}

extern "C" fn foreign(_: libc::c_int) {}

/// Sets what is done about SIGCHLD, and returns what was done before.
fn set(handler: SigHandler, flags: SaFlags) -> SigAction {
    let action = SigAction::new(handler, flags, SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sys::sigaction(sys::Signal::SIGCHLD, &action) }.unwrap()
}

/// Whether this process has children, if only zombies.
fn has_children() -> bool {
    let any = waitpid(None, Some(WaitPidFlag::WNOHANG));
    any != Err(Errno::ECHILD)
}

/// Whether the system has a queue that tells of exits, so that no signal is needed for it.
fn has_exit_queue() -> bool {
    let plain_flags_alone = cfg!(all(fahrenheit_plain_flags, not(fahrenheit_kqueue)));
    if plain_flags_alone || cfg!(fahrenheit_no_queue) {
        return false;
    }
    #[cfg(target_os = "linux")]
    {
        let pid = nix::unistd::getpid().as_raw();
        // SAFETY: takes two numbers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd >= 0 {
            // SAFETY: nothing else knows of this descriptor.
            drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
        }
        fd >= 0
    }
    #[cfg(not(target_os = "linux"))]
    cfg!(any(
        target_vendor = "apple",
        target_os = "freebsd",
        target_os = "dragonfly",
        target_os = "netbsd",
        target_os = "openbsd",
    ))
}

/// What is promised if the kernel throws away how children have ended, as it does then.
fn nothing_is_kept(handler: SigHandler, flags: SaFlags) {
    set(SigHandler::SigDfl, SaFlags::empty());
    let mut early = go(async { lasting().spawn().unwrap() });
    set(handler, flags);
    let error = lasting().spawn().unwrap_err();
    assert!(error.to_string().contains("SIGCHLD"), "{error}");
    let error = go(sh("true").output()).unwrap_err();
    assert!(error.to_string().contains("SIGCHLD"), "{error}");
    // It was started before, and its exit status is thrown away.
    early.kill().unwrap();
    let error = go(early.wait()).unwrap_err();
    assert!(error.to_string().contains("lost"), "{error}");
    assert_eq!(early.id(), None);
    // Nothing is sent to a number that may be another's.
    early.kill().unwrap_err();
    early.signal(Signal::TERM).unwrap_err();
    set(SigHandler::SigDfl, SaFlags::empty());
    assert!(go(sh("true").status()).unwrap().success());
}

#[test]
fn if_sigchld_is_ignored_starting_a_child_is_an_error_and_waiting_is_no_hang() {
    let name = test_name!();
    alone(name, || {
        nothing_is_kept(SigHandler::SigIgn, SaFlags::empty());
    });
}

/// The Hurd has no such flag.
#[cfg(not(target_os = "hurd"))]
#[test]
fn with_sa_nocldwait_starting_a_child_is_an_error_and_waiting_is_no_hang() {
    let name = test_name!();
    alone(name, || {
        nothing_is_kept(SigHandler::SigDfl, SaFlags::SA_NOCLDWAIT);
        nothing_is_kept(SigHandler::Handler(foreign), SaFlags::SA_NOCLDWAIT);
    });
}

#[test]
fn waiting_does_not_hang_if_a_handler_replaces_ours_or_the_signal_is_blocked() {
    let name = test_name!();
    alone(name, || {
        let ends = || {
            go(async {
                let mut child = sh("sleep 0.05; exit 7").spawn().unwrap();
                assert_eq!(child.wait().await.unwrap().code(), Some(7));
            });
        };
        let mut early = go(async { lasting().spawn().unwrap() });
        set(SigHandler::Handler(foreign), SaFlags::SA_RESTART);
        ends();
        early.kill().unwrap();
        go(early.wait()).unwrap();
        drop(early);
        set(SigHandler::SigDfl, SaFlags::empty());
        let mut mask = SigSet::empty();
        mask.add(sys::Signal::SIGCHLD);
        // On all threads of this process, as if its parent had blocked it: the other one waits for
        // this one, and a signal for the process would be taken by it.
        sys::pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&mask), None).unwrap();
        ends();
        assert!(go(sh("true").output()).unwrap().status.success());
    });
}

#[test]
fn waiting_for_a_child_arms_a_timer_only_where_no_queue_tells_of_its_exit() {
    let name = test_name!();
    alone(name, || {
        let _dog = watchdog();
        let wait = || {
            let mut child = lasting().spawn().unwrap();
            let task = fahrenheit::spawn(async move { child.wait().await });
            for _ in 0..5 {
                fahrenheit::turn(Some(Duration::ZERO)).unwrap();
            }
            (task, fahrenheit::interest().deadline)
        };
        // The loop checks now and then whether what it waits for is still open, but not so soon.
        let is_soon = |deadline: Option<std::time::Instant>| {
            let soon = std::time::Instant::now() + Duration::from_millis(1_500);
            deadline.is_some_and(|deadline| deadline < soon)
        };
        let (task, deadline) = wait();
        let is_timed = is_soon(deadline);
        assert_eq!(is_timed, !has_exit_queue());
        let mut mask = SigSet::empty();
        mask.add(sys::Signal::SIGCHLD);
        sys::pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&mask), None).unwrap();
        let (other, deadline) = wait();
        assert_eq!(is_soon(deadline), is_timed);
        task.abort();
        other.abort();
        fahrenheit::run(async {});
    });
}

#[test]
fn a_program_that_cannot_be_started_leaves_nothing_behind() {
    alone(test_name!(), || {
        go(async {
            let piped = |mut command: AsyncCommand| {
                command.stdin(Stdio::piped()).stdout(Stdio::piped());
                command.stderr(Stdio::piped()).spawn().unwrap_err().kind()
            };
            let attempts = || {
                let absent = AsyncCommand::new("/nonexistent/program");
                assert_eq!(piped(absent), ErrorKind::NotFound);
                let forbidden = AsyncCommand::new("/dev/null");
                assert_eq!(piped(forbidden), ErrorKind::PermissionDenied);
                let mut nowhere = sh("true");
                nowhere.current_dir("/nonexistent");
                assert_eq!(piped(nowhere), ErrorKind::NotFound);
            };
            attempts();
            #[cfg(target_os = "linux")]
            let before = crate::util::open_fds();
            for _ in 0..20 {
                attempts();
            }
            #[cfg(target_os = "linux")]
            assert_eq!(crate::util::open_fds(), before);
            let error = AsyncCommand::new("/nonexistent")
                .output()
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
        });
        assert!(!has_children());
    });
}

#[test]
fn the_handler_and_its_descriptors_are_gone_after_the_last_child() {
    alone(test_name!(), || {
        let handler = || {
            let found = set(SigHandler::SigDfl, SaFlags::empty());
            // SAFETY: this is what it was.
            unsafe { sys::sigaction(sys::Signal::SIGCHLD, &found) }.unwrap();
            found.handler()
        };
        let _dog = watchdog();
        // In select, as the kernel's queue is a descriptor that is made when it is needed.
        let select = fahrenheit::Builder::new().poller(fahrenheit::Poller::Select);
        let ended = select.run(async {
            sh("true").output().await.unwrap();
            #[cfg(target_os = "linux")]
            let before = crate::util::open_fds();
            for _ in 0..20 {
                let mut first = lasting().spawn().unwrap();
                sh("echo").output().await.unwrap();
                let is_caught = matches!(handler(), SigHandler::SigAction(_));
                assert_eq!(is_caught, !has_exit_queue());
                first.kill().unwrap();
                first.wait().await.unwrap();
                drop(first);
                assert!(matches!(handler(), SigHandler::SigDfl));
                #[cfg(target_os = "linux")]
                assert_eq!(crate::util::open_fds(), before);
            }
        });
        ended.unwrap();
        assert!(!has_children());
    });
}

#[test]
fn a_child_that_is_stopped_has_not_ended() {
    alone(test_name!(), || {
        go(async {
            let mut signals = Signals::new([Signal::CHLD]).unwrap();
            // As `wait` closes its stdin, it would end if it were not stopped.
            let mut child = AsyncCommand::new("cat");
            let mut child = child.stdin(Stdio::piped()).spawn().unwrap();
            child.signal(Signal::STOP).unwrap();
            let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap());
            let mut wait = Box::pin(child.wait());
            let soon = timeout(Duration::from_millis(50), &mut wait);
            let (signal, waited) = join(signals.next(), soon).await;
            assert_eq!(signal, Some(Signal::CHLD));
            assert!(waited.is_err(), "a stopped child has ended: {waited:?}");
            kill(pid, sys::Signal::SIGCONT).unwrap();
            assert!(wait.await.unwrap().success());
        });
    });
}

#[test]
fn a_fork_neither_waits_for_its_parents_children_nor_kills_them() {
    alone(test_name!(), || {
        let _dog = watchdog();
        let mut killed = lasting().spawn().unwrap();
        let orphan = sh("sleep 0.2; exit 3").spawn().unwrap();
        drop(orphan);
        let mut waiting = lasting().spawn().unwrap();
        let waits =
            fahrenheit::spawn(async move { waiting.wait().await.map_err(|e| e.to_string()) });
        fahrenheit::turn(Some(Duration::ZERO)).unwrap();
        // SAFETY: the other thread of this process is the harness, which waits for the test and
        // holds no lock; the child leaves without returning to it.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let lost = fahrenheit::block_on(waits).unwrap().is_err();
                let refused = killed.kill().is_err() && killed.signal(Signal::KILL).is_err();
                drop(killed);
                // It has children of its own.
                let own = fahrenheit::run(sh("exit 4").status()).unwrap().code();
                let good = lost && refused && own == Some(4);
                // SAFETY: ends the process at once.
                unsafe { libc::_exit(if good { 7 } else { 8 }) }
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 7)));
                go(async {
                    assert_eq!(killed.try_wait().unwrap(), None, "the fork has killed it");
                    killed.kill().unwrap();
                    assert_eq!(killed.wait().await.unwrap().signal(), Some(9));
                    assert!(!waits.is_finished());
                    waits.abort();
                });
            }
        }
    });
}

/// What a child says, of the same program and arguments, when std starts it and nothing else has
/// happened, and when we do and much is open and listened to.
#[cfg(target_os = "linux")]
fn by_std_and_by_us(program: &str, args: &[&str]) -> [String; 2] {
    let by_std = std::process::Command::new(program).args(args).output();
    go(async {
        let listener = fahrenheit::AsyncTcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let stream = fahrenheit::AsyncTcpStream::connect(addr).await.unwrap();
        let accepted = listener.accept().await.unwrap();
        let udp = fahrenheit::AsyncUdpSocket::bind("127.0.0.1:0").unwrap();
        let signals = Signals::new([Signal::USR1, Signal::USR2, Signal::PIPE]).unwrap();
        let mut other = lasting();
        other.stdin(Stdio::piped()).stdout(Stdio::piped());
        let other = other.stderr(Stdio::piped()).spawn().unwrap();
        // Long enough that the loop has a kernel's queue.
        fahrenheit::time::sleep(Duration::from_millis(20)).await;
        let by_us = AsyncCommand::new(program).args(args).output().await;
        drop((stream, accepted, udp, signals, other));
        [by_std, by_us].map(|output| String::from_utf8(output.unwrap().stdout).unwrap())
    })
}

#[cfg(target_os = "linux")]
#[test]
fn a_child_inherits_no_descriptor_of_ours() {
    alone(test_name!(), || {
        let [by_std, by_us] = by_std_and_by_us("ls", &["/proc/self/fd"]);
        let listed = ["0", "1", "2"].map(|fd| by_std.lines().any(|line| line == fd));
        assert_eq!(listed, [true; 3], "{by_std}");
        assert_eq!(by_us, by_std);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_child_has_the_mask_and_the_dispositions_that_std_gives_it() {
    alone(test_name!(), || {
        let [by_std, by_us] = by_std_and_by_us("grep", &["^Sig[BIC]", "/proc/self/status"]);
        assert_eq!(by_std.lines().count(), 3, "{by_std}");
        assert_eq!(by_us, by_std);
        let blocked = by_us.lines().next().unwrap();
        assert_eq!(blocked, "SigBlk:\t0000000000000000");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn what_has_ended_is_reaped_at_the_end_of_run_at_the_latest() {
    let name = test_name!();
    alone(name, || {
        go(async {
            let mut child = sh("read line; exit 3")
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            let stdin = child.stdin.take();
            drop(child);
            // Whoever listens begins to.
            fahrenheit::task::yield_now().await;
            // It ends by this, while the thread is blocked: the loop turns no more and does not
            // hear of it.
            drop(stdin);
            let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            nix::sys::wait::waitid(nix::sys::wait::Id::All, look).unwrap();
        });
        assert!(!has_children(), "a zombie has stayed");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn nothing_is_sent_to_a_number_whose_child_is_reaped() {
    let name = test_name!();
    let options = ["-e", "trace=kill,tkill,tgkill,pidfd_send_signal"];
    let log = crate::util::traced(name, &options, || {
        go(async {
            let mut child = lasting().spawn().unwrap();
            child.signal(Signal::TERM).unwrap();
            child.wait().await.unwrap();
            child.kill().unwrap_err();
            child.signal(Signal::TERM).unwrap_err();
            drop(child);
            // Has ended and has not been waited for: reaped first, so nothing is sent either.
            let mut child = sh("true").kill_on_drop(true).spawn().unwrap();
            let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap());
            let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            nix::sys::wait::waitid(nix::sys::wait::Id::Pid(pid), look).unwrap();
            child.kill().unwrap();
            drop(child);
        });
    });
    if let Some(log) = log {
        let calls = ["kill(", "pidfd_send_signal("];
        let is_sent = |line: &&str| calls.iter().any(|call| line.contains(call));
        let sent: Vec<_> = log.lines().filter(is_sent).collect();
        assert!(sent.len() == 1 && sent[0].contains("SIGTERM"), "{log}");
        let by_pidfd = sent[0].contains("pidfd_send_signal(");
        let has_pidfd = has_exit_queue() && !cfg!(fahrenheit_kqueue);
        assert_eq!(by_pidfd, has_pidfd, "{log}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_wait_for_a_child_is_repeated() {
    let name = test_name!();
    let options = [
        "-e",
        "trace=wait4,waitid",
        "-e",
        "inject=wait4,waitid:error=EINTR:when=1+2",
    ];
    let log = crate::util::traced(name, &options, || {
        go(async {
            let mut child = sh("exit 7").spawn().unwrap();
            assert_eq!(child.wait().await.unwrap().code(), Some(7));
            let child = lasting().spawn().unwrap();
            let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap());
            drop(child);
            while kill(pid, None).is_ok() {
                fahrenheit::time::sleep(Duration::from_millis(1)).await;
            }
        });
    });
    if let Some(log) = log {
        let n_injected = log.matches("INJECTED").count();
        assert!(n_injected >= 3, "{log}");
    }
}
