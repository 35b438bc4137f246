//! Child processes whatever other code of the process does with SIGCHLD, with descriptors, or with
//! children. Each test runs again in a process of its own.
#![cfg(all(target_os = "linux", feature = "process"))]
#![allow(unsafe_code, reason = "to set handlers as a C library would")]

use crate::util::{alone, go};
use fahrenheit::process::{AsyncChild, AsyncCommand};
use fahrenheit::signal::{Signal, Signals};
use fahrenheit::spawn;
use fahrenheit::time::{sleep, timeout};
use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{self as sys, SaFlags, SigAction, SigHandler, SigSet, SigmaskHow};
use nix::sys::wait::{WaitPidFlag, waitpid};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn sh(script: &str) -> AsyncCommand {
    let mut command = AsyncCommand::new("sh");
    command.args(["-c", script]);
    command
}

/// Whether this process has children, if only zombies.
fn has_children() -> bool {
    waitpid(None, Some(WaitPidFlag::WNOHANG)) != Err(Errno::ECHILD)
}

type FullHandler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// The handler that `chaining` calls; 0 for none.
static BELOW: AtomicUsize = AtomicUsize::new(0);

extern "C" fn ignoring(_: libc::c_int) {}

extern "C" fn chaining(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    let below = BELOW.load(Ordering::SeqCst);
    if below != 0 {
        // SAFETY: `install_chaining` has stored the address of a handler of this type.
        let below = unsafe { std::mem::transmute::<usize, FullHandler>(below) };
        below(signal, info, context);
    }
}

fn set(handler: SigHandler) -> SigHandler {
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handlers of this file only use atomics.
    let found = unsafe { sys::sigaction(sys::Signal::SIGCHLD, &action) };
    found.unwrap().handler()
}

/// As a library does that takes SIGCHLD over and forgets what was there.
fn install_ignoring() {
    set(SigHandler::Handler(ignoring));
}

/// As a well-behaved library does.
fn install_chaining() {
    if let SigHandler::SigAction(below) = set(SigHandler::SigAction(chaining)) {
        // Not itself, which it may find from the last time.
        if !std::ptr::fn_addr_eq(below, chaining as FullHandler) {
            BELOW.store(below as *const () as usize, Ordering::SeqCst);
        }
    }
}

fn block(how: SigmaskHow) {
    let mut mask = SigSet::empty();
    mask.add(sys::Signal::SIGCHLD);
    sys::pthread_sigmask(how, Some(&mask), None).unwrap();
}

#[test]
fn a_wait_ends_although_its_handler_is_replaced_meanwhile() {
    alone(test_name!(), || {
        go(async {
            let mut child = sh("sleep 0.3; exit 7").spawn().unwrap();
            let wait = spawn(async move { child.wait().await.unwrap().code() });
            fahrenheit::yield_now().await;
            install_ignoring();
            let begun = Instant::now();
            assert_eq!(wait.await.unwrap(), Some(7));
            assert!(begun.elapsed() < Duration::from_secs(20), "found by chance");
        });
    });
}

#[test]
fn a_child_can_be_started_whoever_has_put_a_handler_over_ours() {
    alone(test_name!(), || {
        for install in [install_chaining, install_ignoring] {
            go(async {
                let mut first = sh("sleep 0.05; exit 1").spawn().unwrap();
                // A listener of the program's own, as long as the first child lives.
                let listener = Signals::new([Signal::CHLD]).unwrap();
                install();
                assert_eq!(first.wait().await.unwrap().code(), Some(1));
                drop((first, listener));
                for code in 2..5 {
                    let mut child = sh(&format!("exit {code}")).spawn().unwrap();
                    assert_eq!(child.wait().await.unwrap().code(), Some(code));
                }
            });
            set(SigHandler::SigDfl);
        }
    });
}

/// How many exits a long test looks at: few, unless the environment asks for more.
fn n_exits() -> usize {
    let asked = std::env::var("FAHRENHEIT_TEST_EXITS");
    asked.map_or(400, |n| n.parse().unwrap())
}

#[test]
fn no_exit_is_lost_while_handlers_of_sigchld_are_replaced_chained_and_blocked() {
    let name = test_name!();
    let text = alone(name, || {
        let mut seed = 451_u64;
        let mut random = move |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % n
        };
        let mut n_statuses = 0;
        fahrenheit::run(async {
            while n_statuses < n_exits() {
                let (end_of_input, hold) = UnixStream::pair().unwrap();
                let mut waits = Vec::new();
                for code in 0..20 {
                    match random(8) {
                        0 => install_chaining(),
                        1 => install_ignoring(),
                        2 => drop(set(SigHandler::SigDfl)),
                        3 => block(SigmaskHow::SIG_BLOCK),
                        4 => block(SigmaskHow::SIG_UNBLOCK),
                        5 => drop(Signals::new([Signal::CHLD]).unwrap()),
                        _ => {}
                    }
                    let stdin = OwnedFd::from(end_of_input.try_clone().unwrap());
                    let mut command = sh("read line; exit $0");
                    command.arg(code.to_string()).stdin(stdin);
                    let mut child = command.spawn().unwrap();
                    if random(10) == 0 {
                        // Nothing waits for it: it must not stay a zombie.
                        drop(child);
                    } else {
                        let wait = spawn(async move { child.wait().await.unwrap().code() });
                        waits.push((code, wait));
                    }
                }
                drop(hold);
                for (code, wait) in waits {
                    let limited = timeout(Duration::from_secs(60), wait).await;
                    assert_eq!(limited.expect("an exit is lost").unwrap(), Some(code));
                    n_statuses += 1;
                }
            }
            // Those that nothing has waited for are reaped as well.
            for _ in 0..1_000 {
                if !has_listed_children() {
                    break;
                }
                sleep(Duration::from_millis(5)).await;
            }
        });
        println!("{n_statuses} exit statuses");
        assert!(!has_children(), "a zombie has stayed");
    });
    if let Some(text) = text {
        let lines = text.lines().filter(|line| line.ends_with("exit statuses"));
        lines.for_each(|line| println!("{line}"));
    }
}

/// Whether this thread has children, if only zombies. Reaps nothing.
fn has_listed_children() -> bool {
    let pid = std::process::id();
    let path = format!("/proc/{pid}/task/{pid}/children");
    !std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .is_empty()
}

#[test]
fn without_descriptors_the_exit_of_a_child_is_found_by_polling() {
    alone(test_name!(), || {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        go(async {
            // The loop has what it needs.
            sleep(Duration::from_millis(20)).await;
            let child = |code: i32| {
                let mut command = Command::new("sh");
                let script = format!("sleep 0.2; exit {code}");
                command.args(["-c", &script]).spawn().unwrap()
            };
            let children = [child(1), child(2), child(3)];
            // Not one more can be opened.
            setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
            let taken_over = children.map(|child| AsyncChild::from_std(child).unwrap());
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
            for (mut child, code) in taken_over.into_iter().zip(1..) {
                assert_eq!(child.wait().await.unwrap().code(), Some(code));
            }
            // And with descriptors again.
            assert!(AsyncCommand::new("true").status().await.unwrap().success());
        });
        assert!(!has_children());
    });
}

#[test]
fn a_dropped_child_without_descriptors_leaves_no_zombie() {
    alone(test_name!(), || {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        go(async {
            sleep(Duration::from_millis(20)).await;
            let child = Command::new("sleep").arg("0.1").spawn().unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
            let child = AsyncChild::from_std(child).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
            drop(child);
            sleep(Duration::from_millis(500)).await;
        });
        assert!(!has_children());
    });
}

#[test]
fn children_are_waited_for_after_other_code_has_closed_all_descriptors() {
    let name = test_name!();
    alone(name, || {
        let mut child = go(async {
            let child = sh("sleep 0.3; exit 7").spawn().unwrap();
            fahrenheit::yield_now().await;
            child
        });
        // As daemons do, but for the pipe of the harness.
        for fd in 3..1_000 {
            let _ = nix::unistd::close(fd);
        }
        let limited = timeout(Duration::from_secs(20), child.wait());
        assert_eq!(go(limited).unwrap().unwrap().code(), Some(7));
    });
}

/// Without a queue, each exit has all waiting tasks look.
#[cfg(not(any(
    fahrenheit_no_queue,
    all(fahrenheit_plain_flags, not(fahrenheit_kqueue))
)))]
mod with_queue {
    use super::*;
    use fahrenheit::prelude::*;
    use nix::sys::resource::{UsageWho, getrusage};
    use std::process::Stdio;

    /// Starts `n` children that exit when one byte each is written to the pipe that is returned.
    fn idle_children(n: usize) -> (Vec<AsyncChild>, std::fs::File) {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let cloexec = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
        nix::fcntl::fcntl(&writer, cloexec).unwrap();
        let children = (0..n).map(|_| {
            let mut command = AsyncCommand::new("head");
            command.args(["-c", "1"]).stdout(Stdio::null());
            command.stdin(reader.try_clone().unwrap());
            command.spawn().unwrap()
        });
        (children.collect(), std::fs::File::from(writer))
    }

    /// The CPU time of this process.
    fn cpu_time() -> Duration {
        let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
        let times = [usage.user_time(), usage.system_time()];
        let micros = times.map(|time| time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64);
        Duration::from_micros(micros[0] + micros[1])
    }

    /// CPU time per exit of 40 children, one after the other, while there are `n` of them.
    fn cost_of_an_exit(n: usize) -> Duration {
        const N_MEASURED: u32 = 40;
        go(async {
            let (children, mut bytes) = idle_children(n);
            let (tell, mut told) = futures_channel::mpsc::unbounded();
            let waits: Vec<_> = children
                .into_iter()
                .map(|mut child| {
                    let tell = tell.clone();
                    spawn(async move {
                        child.wait().await.unwrap();
                        tell.unbounded_send(()).unwrap();
                    })
                })
                .collect();
            // All of them wait, for long enough that what is old is tenured.
            sleep(Duration::from_millis(100)).await;
            let mut spent = Duration::ZERO;
            for _ in 0..N_MEASURED {
                std::io::Write::write_all(&mut bytes, b"x").unwrap();
                let before = cpu_time();
                told.next().await;
                spent += cpu_time() - before;
            }
            for _ in N_MEASURED as usize..n {
                std::io::Write::write_all(&mut bytes, b"x").unwrap();
                told.next().await;
            }
            for wait in waits {
                wait.await.unwrap();
            }
            spent / N_MEASURED
        })
    }

    #[test]
    fn an_exit_costs_the_same_with_50_and_with_800_children() {
        alone(test_name!(), || {
            let soft = crate::util::raise_fd_limit();
            assert!(soft > 2_000, "a limit of {soft} descriptors is too low");
            // On a busy machine one attempt may be disturbed.
            let is_constant = (0..5).any(|_| {
                let costs = [50, 200, 800].map(cost_of_an_exit);
                eprintln!("CPU time per exit with 50, 200 and 800 children: {costs:?}");
                costs[2] < 2 * costs[0] + Duration::from_micros(20)
            });
            assert!(is_constant);
        });
    }
}

/// Without pidfds, a process is known by its number only.
#[cfg(not(any(fahrenheit_plain_flags, fahrenheit_kqueue, fahrenheit_no_queue)))]
mod with_pidfds {
    use super::*;
    use nix::unistd::Pid;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn the_number_of_a_child_that_other_code_has_reaped_is_left_alone() {
        let name = test_name!();
        alone(name, || {
            go(async {
                let mut child = AsyncCommand::new("true").spawn().unwrap();
                let pid = Pid::from_raw(child.id().unwrap() as i32);
                // As a library that waits for any child.
                assert_eq!(waitpid(None, None).unwrap().pid(), Some(pid));
                // The number is now that of another child of this process.
                let Some(mut stranger) = child_with_number(pid) else {
                    crate::util::skip(name, "a process cannot choose its number here");
                    return;
                };
                assert!(child.kill().unwrap_err().to_string().contains("lost"));
                assert!(child.wait().await.is_err());
                drop(child);
                sleep(Duration::from_millis(50)).await;
                assert!(stranger.try_wait().unwrap().is_none(), "it was killed");
                stranger.kill().unwrap();
                assert_eq!(stranger.wait().unwrap().signal(), Some(9));
            });
        });
    }

    /// Starts a child that has a number which is free. Needs the right to set the last one.
    fn child_with_number(pid: Pid) -> Option<std::process::Child> {
        for _ in 0..1_000 {
            let last = (pid.as_raw() - 1).to_string();
            std::fs::write("/proc/sys/kernel/ns_last_pid", last).ok()?;
            let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
            if child.id() as i32 == pid.as_raw() {
                return Some(child);
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        None
    }
}
