//! A fork in the middle of a sequence. The child finds everything as it was, drops it, and does a
//! sequence of its own; the parent goes on after that as if nothing had happened.

use crate::script::{Place, script};
use crate::sequence::last_message;
use crate::steps::{Shared, run_step, settle, settle_inside};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, alarm, fork};
use std::fs::File;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;

/// So many seconds, and the child is killed.
const LONGEST: u32 = 20;

/// Returns in the parent once the child has ended, and in the child at once, with what it can tell
/// its parent by.
fn fork_now() -> Option<File> {
    let (tell, told) = match nix::unistd::pipe() {
        Ok((told, tell)) => (File::from(tell), File::from(told)),
        Err(error) => panic!("descriptors are left: {error}"),
    };
    // SAFETY: of the other threads of this process, one waits for this one and one sleeps; neither
    // holds a lock. The child uses nothing of them and leaves by `exit`.
    #[allow(unsafe_code)]
    let forked = unsafe { fork() };
    match forked.expect("a process can fork") {
        ForkResult::Child => Some(tell),
        ForkResult::Parent { child } => {
            drop(tell);
            let mut told_us = String::new();
            let read = (&told).read_to_string(&mut told_us);
            let status = waitpid(child, None).expect("it is ours");
            let fine = status == WaitStatus::Exited(child, 0) && told_us.is_empty();
            assert!(read.is_ok() && fine, "in the child: {status:?} {told_us}");
            None
        }
    }
}

pub(crate) fn fork_here(world: &Shared, inside: bool, seed: u64) {
    // Elsewhere it is not certain that a child of threads may make threads.
    if cfg!(not(target_os = "linux")) || world.borrow().is_child {
        return;
    }
    let mut tell = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        if inside {
            fahrenheit::block_on(async {
                tell = fork_now();
                if tell.is_some() {
                    begin_again(world, seed);
                }
                settle_inside().await;
            });
        } else {
            tell = fork_now();
            if tell.is_some() {
                begin_again(world, seed);
            }
        }
        if tell.is_some() {
            live(world, seed);
        }
    }));
    match (result, tell) {
        (Ok(()), None) => {}
        (Ok(()), Some(_)) => exit(0),
        (Err(panic), None) => std::panic::resume_unwind(panic),
        (Err(_), Some(mut tell)) => {
            let message = last_message();
            exit(match tell.write_all(message.as_bytes()) {
                Ok(()) => 1,
                Err(_) => 2,
            })
        }
    }
}

/// In the child, before its loop has turned.
fn begin_again(world: &Shared, seed: u64) {
    alarm::set(LONGEST);
    let mut world = world.borrow_mut();
    world.is_child = true;
    world.model.wake_all();
    if seed % 2 == 0 {
        // While the kernel's queue is still the parent's.
        world.close_all();
    }
}

/// The rest of the child's life.
fn live(world: &Shared, seed: u64) {
    settle(1);
    world.borrow_mut().check();
    world.borrow_mut().end_all();
    settle(1);
    world.borrow_mut().check();
    for step in script(seed) {
        if !matches!(step.place, Place::Fork { .. }) {
            run_step(world, &step);
        }
    }
    fahrenheit::run(async { world.borrow_mut().end_all() });
    settle(1);
    world.borrow_mut().check();
}
