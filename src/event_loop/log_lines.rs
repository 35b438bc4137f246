//! What the loop writes to the log: who is polled, what it waits for, what went wrong.

use super::boundary;
use super::reactor::ClosedFd;
use super::with;
use crate::sys::select::Waited;
use crate::sys::task;
use std::io;
use std::task::Waker;
use std::time::Duration;

/// How long the loop pauses after a failed `select`, so that an error that does not pass costs
/// little CPU.
const PAUSE: Duration = Duration::from_millis(1);

/// Logs a wait that has failed, unless `closed` explains it, and pauses for a moment.
pub(super) fn report_failed_wait(waited: Waited, closed: &[ClosedFd]) {
    match waited {
        Waited::Ready(_) => return,
        // Each closed descriptor gets a line of its own, with the tasks that it concerns.
        Waited::BadFd if !closed.is_empty() => return,
        Waited::BadFd => boundary::error!(
            "select: bad descriptor, but all registered descriptors are open: is the wake-up pipe \
             closed?"
        ),
        Waited::Trouble(errno) => {
            // As std describes it: the descriptions of nix would be in every program for this.
            let error = io::Error::from(errno);
            boundary::warning!("select: {error}; trying again");
        }
    }
    // The same error is likely in the next turn. Without the pause, the loop would spin.
    std::thread::sleep(PAUSE);
}

/// Logs descriptors that other code has closed. Their waiters are added to `woken`, so that their
/// operations fail with EBADF.
pub(super) fn report_closed_fds(closed: Vec<ClosedFd>, woken: &mut Vec<Waker>) {
    for ClosedFd { fd, place, waiters } in closed {
        let tasks: Vec<_> = waiters.iter().map(describe_task_of).collect();
        let who = match tasks.as_slice() {
            [] => "no task was waiting for it".to_owned(),
            [task] => format!("{task} was waiting for it"),
            tasks => format!("{} were waiting for it", tasks.join(" and ")),
        };
        boundary::error!(
            "descriptor {fd}, registered at {place}, was closed while still registered; {who}"
        );
        // Their operations find the registration dead and return EBADF. Nothing else would wake
        // them: no readiness is ever reported for a closed descriptor.
        woken.extend(waiters);
    }
}

/// Describes the task that `waker` wakes, if it is one of this loop's own wakers. Combinators such
/// as `join_all` have wakers of their own.
fn describe_task_of(waker: &Waker) -> String {
    let task = with(|l| {
        // The main future lives on the stack of `run` and is not among the tasks.
        let is_main = l.main.as_ref().is_some_and(|m| m.is_woken_by(waker));
        let main = is_main.then(|| "the main future".to_owned());
        main.or_else(|| l.tasks.describe_task_of(waker))
    });
    let task = task.flatten();
    task.unwrap_or_else(|| "a future with a waker of its own".to_owned())
}

/// Logs what the loop is about to wait for. `may_block` and `limit` say how long it may wait.
pub(super) fn trace_wait(may_block: bool, limit: Option<Duration>) {
    let timeout = with(|l| l.timeout(may_block, limit)).flatten();
    let counts = with(|l| (l.reactor.n_interests(), l.timers.len()));
    let (([read, write, except], tenured), n_timers) = counts.unwrap_or_default();
    let n_tasks = task::n_unfinished();
    let fds = format!("{read} to read, {write} to write, {except} exceptional, {tenured} tenured");
    match timeout {
        None => boundary::trace!("select: {fds}; {n_tasks} tasks; no time limit"),
        Some(Duration::ZERO) => boundary::trace!("select: {fds}; {n_tasks} tasks; without waiting"),
        Some(timeout) => boundary::trace!(
            "select: {fds}; {n_tasks} tasks, {n_timers} timers; for at most {timeout:?}"
        ),
    }
}

/// Logs what has become ready.
pub(super) fn trace_ready(pipe_ready: bool) {
    for (fd, direction) in with(|l| l.reactor.ready().collect::<Vec<_>>()).unwrap_or_default() {
        boundary::trace!("ready: descriptor {fd}, {direction}");
    }
    if pipe_ready {
        boundary::trace!("ready: the wake-up pipe");
    }
}
