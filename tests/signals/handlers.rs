//! Handlers of other code of the process, before ours, over it and in between. Each test
//! runs again in a process of its own.
#![cfg(feature = "process")]
#![allow(
    unsafe_code,
    reason = "to install handlers as a C library would, and to make a process that shares memory"
)]

use crate::util::{alone, go, watchdog};
use fahrenheit::prelude::*;
use fahrenheit::signal::{Signal, Signals};
use nix::libc;
use nix::sys::signal::{self as sys, SaFlags, SigAction, SigHandler, SigSet, raise};
use std::mem::transmute;
use std::ptr::fn_addr_eq;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

type FullHandler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

static N_FIRST: AtomicUsize = AtomicUsize::new(0);
static N_CHAINING: AtomicUsize = AtomicUsize::new(0);
/// The full handler that `chaining` calls; 0 for none.
static BELOW: AtomicUsize = AtomicUsize::new(0);

extern "C" fn first(_: libc::c_int) {
    N_FIRST.fetch_add(1, Ordering::SeqCst);
}

/// What a well-behaved library installs: it calls what it has found.
extern "C" fn chaining(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    N_CHAINING.fetch_add(1, Ordering::SeqCst);
    let below = BELOW.load(Ordering::SeqCst);
    if below != 0 {
        // SAFETY: `install_chaining` has stored the address of a handler of this type.
        let below = unsafe { transmute::<usize, FullHandler>(below) };
        below(signal, info, context);
    }
}

fn set(handler: SigHandler, flags: SaFlags) -> SigHandler {
    let action = SigAction::new(handler, flags, SigSet::empty());
    // SAFETY: the handlers of this file only use atomics.
    let found = unsafe { sys::sigaction(sys::Signal::SIGUSR1, &action) };
    found.unwrap().handler()
}

/// As a library that is loaded, or loaded again.
fn install_chaining() {
    let found = set(SigHandler::SigAction(chaining), SaFlags::SA_RESTART);
    let below = match found {
        SigHandler::SigAction(below) => below as *const () as usize,
        _ => 0,
    };
    BELOW.store(below, Ordering::SeqCst);
}

fn raise_once() {
    raise(sys::Signal::SIGUSR1).unwrap();
}

/// What has been called since the last time: `first`, and `chaining`.
fn n_calls() -> [usize; 2] {
    [&N_FIRST, &N_CHAINING].map(|n| n.swap(0, Ordering::SeqCst))
}

#[track_caller]
fn hears_once(signals: &mut Signals) {
    assert_eq!(go(signals.next()), Some(Signal::USR1));
    assert_eq!(signals.next().now_or_never(), None);
}

#[test]
fn a_listener_hears_below_a_library_that_chains_and_each_handler_runs_once() {
    let name = test_name!();
    alone(name, || {
        let _dog = watchdog();
        set(SigHandler::Handler(first), SaFlags::SA_RESTART);
        let mut early = Signals::new([Signal::USR1]).unwrap();
        install_chaining();
        raise_once();
        hears_once(&mut early);
        assert_eq!(n_calls(), [1, 1]);
        // While there is a listener below, and after it has gone.
        let mut late = Signals::new([Signal::USR1]).unwrap();
        raise_once();
        hears_once(&mut early);
        hears_once(&mut late);
        assert_eq!(n_calls(), [1, 1]);
        drop((early, late));
        raise_once();
        assert_eq!(n_calls(), [1, 1], "ours still passes it on");
        for _ in 0..3 {
            let mut signals = Signals::new([Signal::USR1]).unwrap();
            raise_once();
            hears_once(&mut signals);
            assert_eq!(n_calls(), [1, 1]);
        }
        raise_once();
        assert_eq!(n_calls(), [1, 1]);
        let found = set(SigHandler::SigDfl, SaFlags::empty());
        let is_theirs =
            matches!(found, SigHandler::SigAction(f) if fn_addr_eq(f, chaining as FullHandler));
        assert!(is_theirs, "it was replaced");
    });
}

#[test]
fn a_library_that_is_loaded_twice_around_a_listener_does_not_call_itself_for_ever() {
    let name = test_name!();
    alone(name, || {
        install_chaining();
        let mut signals = Signals::new([Signal::USR1]).unwrap();
        // It calls ours, and ours calls what was there before: it.
        install_chaining();
        for _ in 0..3 {
            raise_once();
            hears_once(&mut signals);
            let [_, n_chaining] = n_calls();
            assert!((1..=2).contains(&n_chaining), "{n_chaining} calls");
        }
        // With ours on top, it need not be called twice.
        let mut late = Signals::new([Signal::USR1]).unwrap();
        raise_once();
        hears_once(&mut signals);
        hears_once(&mut late);
        assert_eq!(n_calls(), [0, 1]);
    });
}

static HAS_INFO: AtomicBool = AtomicBool::new(false);

extern "C" fn checking(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the system, or the handler above, passes the information of the signal.
    let info = unsafe { info.as_ref() };
    let good = info.is_some_and(|info| info.si_signo == signal) && !context.is_null();
    HAS_INFO.store(good && signal == libc::SIGUSR1, Ordering::SeqCst);
}

#[test]
fn a_previous_handler_of_three_arguments_gets_all_of_them() {
    alone(test_name!(), || {
        set(SigHandler::SigAction(checking), SaFlags::empty());
        let mut signals = Signals::new([Signal::USR1]).unwrap();
        raise_once();
        hears_once(&mut signals);
        assert!(HAS_INFO.load(Ordering::SeqCst));
    });
}

/// Whether a read that waits is cut short by a signal, which is sent to its thread for a while.
fn is_read_interrupted() -> bool {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let reading = std::thread::spawn(move || {
        tell.send(nix::sys::pthread::pthread_self() as usize)
            .unwrap();
        nix::unistd::read(&reader, &mut [0])
    });
    let thread = told.recv().unwrap();
    // Until it is waiting; a signal before that does nothing.
    for _ in 0..100 {
        if reading.is_finished() {
            break;
        }
        let _ = nix::sys::pthread::pthread_kill(thread as _, sys::Signal::SIGUSR1);
        std::thread::sleep(Duration::from_millis(5));
    }
    // Fails if the read was interrupted, as its pipe is closed then.
    let _ = nix::unistd::write(&writer, b"x");
    reading.join().unwrap() == Err(nix::errno::Errno::EINTR)
}

#[test]
fn calls_are_interrupted_while_a_listener_is_there_as_they_were_before() {
    let name = test_name!();
    alone(name, || {
        let _dog = watchdog();
        for (flags, interrupts) in [(SaFlags::empty(), true), (SaFlags::SA_RESTART, false)] {
            set(SigHandler::Handler(first), flags);
            assert_eq!(is_read_interrupted(), interrupts, "alone, {flags:?}");
            let signals = Signals::new([Signal::USR1]).unwrap();
            assert_eq!(
                is_read_interrupted(),
                interrupts,
                "with a listener, {flags:?}"
            );
            drop(signals);
        }
        // Nothing was there before: calls go on.
        set(SigHandler::SigDfl, SaFlags::empty());
        let _signals = Signals::new([Signal::USR1]).unwrap();
        assert!(!is_read_interrupted());
    });
}

#[test]
fn while_a_listener_is_there_handlers_run_on_the_alternate_stack_and_calls_are_restarted() {
    let name = test_name!();
    alone(name, || {
        let _signals = Signals::new([Signal::USR1]).unwrap();
        let theirs = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: the default action runs no code of this process.
        let found = unsafe { sys::sigaction(sys::Signal::SIGUSR1, &theirs) }.unwrap();
        let wanted = SaFlags::SA_ONSTACK | SaFlags::SA_RESTART;
        assert!(found.flags().contains(wanted), "{:?}", found.flags());
    });
}

#[test]
fn listeners_that_come_and_go_change_neither_the_handler_nor_the_flags_of_other_code() {
    let name = test_name!();
    alone(name, || {
        let flags = SaFlags::SA_NODEFER | SaFlags::SA_ONSTACK;
        let mut mask = SigSet::empty();
        mask.add(sys::Signal::SIGHUP);
        let theirs = SigAction::new(SigHandler::Handler(first), flags, mask);
        // SAFETY: the handler only adds to an atomic.
        unsafe { sys::sigaction(sys::Signal::SIGUSR1, &theirs) }.unwrap();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| {
                    for _ in 0..500 {
                        drop(Signals::new([Signal::USR1, Signal::USR2]).unwrap());
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        // SAFETY: `theirs` is a valid action, and its handler may run at any time.
        let found = unsafe { sys::sigaction(sys::Signal::SIGUSR1, &theirs) }.unwrap();
        let handler = found.handler();
        assert!(
            matches!(handler, SigHandler::Handler(f) if fn_addr_eq(f, first as extern "C" fn(_)))
        );
        assert!(found.flags().contains(flags) && !found.flags().contains(SaFlags::SA_RESTART));
        assert!(found.mask().contains(sys::Signal::SIGHUP));
    });
}

#[test]
fn children_of_a_program_that_wants_no_zombies_leave_none_while_sigchld_is_listened_to() {
    let name = test_name!();
    alone(name, || {
        for (handler, flags) in [
            (SigHandler::SigIgn, SaFlags::empty()),
            (SigHandler::Handler(first), SaFlags::SA_NOCLDWAIT),
        ] {
            let action = SigAction::new(handler, flags, SigSet::empty());
            // SAFETY: the handler only adds to an atomic.
            unsafe { sys::sigaction(sys::Signal::SIGCHLD, &action) }.unwrap();
            let mut signals = Signals::new([Signal::CHLD]).unwrap();
            let mut child = std::process::Command::new("true").spawn().unwrap();
            assert_eq!(go(signals.next()), Some(Signal::CHLD));
            drop(signals);
            let error = child.wait().unwrap_err();
            assert_eq!(
                error.raw_os_error(),
                Some(libc::ECHILD),
                "there was a zombie"
            );
        }
    });
}

/// What a child of `vfork` does that gets a signal before it has become another program.
#[cfg(target_os = "linux")]
extern "C" fn raises(_: *mut libc::c_void) -> libc::c_int {
    let pid = nix::unistd::getpid().as_raw();
    // SAFETY: takes two numbers.
    unsafe { libc::kill(pid, libc::SIGUSR1) }
}

/// As `vfork`: a process that shares this one's memory, and for which this one waits. `vfork`
/// itself returns twice, which Rust cannot do.
#[cfg(target_os = "linux")]
fn as_if_by_vfork() {
    const FLAGS: libc::c_int = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let mut stack = vec![0_u128; 8_192];
    let end = stack.as_mut_ptr_range().end;
    // SAFETY: the new process runs `raises` on a stack that it has for itself, and that is there
    // until it has ended, because this thread waits for that.
    let pid = unsafe { libc::clone(raises, end.cast(), FLAGS, std::ptr::null_mut()) };
    let pid = nix::unistd::Pid::from_raw(pid);
    let ended = nix::sys::wait::waitpid(pid, None);
    assert_eq!(ended, Ok(nix::sys::wait::WaitStatus::Exited(pid, 0)));
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_to_a_child_of_vfork_changes_nothing_in_the_parent() {
    alone(test_name!(), || {
        go(async {
            let mut signals = Signals::new([Signal::USR1, Signal::TERM]).unwrap();
            // For the parent, which has not looked yet.
            raise(sys::Signal::SIGTERM).unwrap();
            as_if_by_vfork();
            let job = fahrenheit::spawn_blocking(|| 42).await;
            assert_eq!(job.unwrap(), 42, "the process has not forked");
            assert_eq!(signals.next().await, Some(Signal::TERM));
            assert_eq!(signals.next().now_or_never(), None, "that was the child's");
            // And it goes on hearing what it is sent itself.
            raise_once();
            assert_eq!(signals.next().await, Some(Signal::USR1));
            let mut child = fahrenheit::process::AsyncCommand::new("true");
            assert!(child.status().await.unwrap().success());
        });
    });
}
