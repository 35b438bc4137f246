//! What the loop says in the log: who is polled, what it waits for, what went wrong.

use super::{current_key, with};
use crate::reactor::Victim;
use crate::sys::select::Waited;
use crate::task::table::MAIN;
use crate::task::waker::{Key, TaskWaker};
use std::fmt;
use std::task::Waker;
use std::time::Duration;

/// How long the loop pauses when `select` fails.
const PAUSE: Duration = Duration::from_millis(1);

/// Who is being polled, for the log.
pub(crate) struct Current;

impl fmt::Display for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match current_key() {
            None => f.write_str("a future outside of the loop"),
            Some(Key { index: MAIN, .. }) => f.write_str("the main future"),
            Some(key) => write!(f, "task {}", key.serial),
        }
    }
}

/// Says that a poll took longer than `limit`, if it did.
pub(super) fn report_slow(key: Key, limit: Duration, took: Duration) {
    if took > limit {
        let task = with(|l| l.tasks.who(key)).flatten();
        let who = task.unwrap_or_else(|| "the main future".to_owned());
        log::warn!("{who}: one poll took {took:?}, and nothing else ran meanwhile");
    }
}

/// Says what a failed wait means. The waiters of descriptors that were closed behind our back are
/// woken, so that their operations fail.
pub(super) fn report(waited: Waited, victims: Vec<Victim>, woken: &mut Vec<Waker>) {
    match waited {
        Waited::Ready(_) => {}
        Waited::BadFd if !victims.is_empty() => {}
        Waited::BadFd => {
            log::error!("select: bad descriptor, and none of ours: is the wake-up pipe closed?");
            std::thread::sleep(PAUSE);
        }
        Waited::Trouble(errno) => {
            log::warn!("select: {errno}; trying again");
            std::thread::sleep(PAUSE);
        }
    }
    for Victim { fd, place, waiters } in victims {
        let names: Vec<_> = waiters.iter().map(whose).collect();
        let who = match names.len() {
            0 => "nobody".to_owned(),
            _ => names.join(" and "),
        };
        log::error!(
            "descriptor {fd}, registered at {place}, was closed behind the loop; {who} waited \
             for it"
        );
        woken.extend(waiters);
    }
}

/// Who is woken by `waker`, as far as it is one of ours: combinators have wakers of their own.
fn whose(waker: &Waker) -> String {
    let known = with(|l| {
        let is_main = l
            .main
            .as_ref()
            .is_some_and(|main| TaskWaker::is(main, waker));
        let main = is_main.then(|| "the main future".to_owned());
        main.or_else(|| l.tasks.whose(waker))
    });
    known.flatten().unwrap_or_else(|| "somebody".to_owned())
}

pub(super) fn trace_wait(wait: Option<Duration>) {
    if log::log_enabled!(log::Level::Trace) {
        let counts = with(|l| (l.reactor.n_interests(), l.timers.len(), l.tasks.n_running()));
        let (([read, write, except], tenured), n_timers, n_tasks) = counts.unwrap_or_default();
        let fds =
            format!("{read} to read, {write} to write, {except} exceptional, {tenured} tenured");
        match wait {
            None => log::trace!("select: {fds}; {n_tasks} tasks; no time limit"),
            Some(Duration::ZERO) => log::trace!("select: {fds}; {n_tasks} tasks; without waiting"),
            Some(wait) => log::trace!(
                "select: {fds}; {n_tasks} tasks, {n_timers} timers; for at most {wait:?}"
            ),
        }
    }
}

pub(super) fn trace_ready(rung: bool) {
    if log::log_enabled!(log::Level::Trace) {
        for (fd, direction) in with(|l| l.reactor.ready().collect::<Vec<_>>()).unwrap_or_default() {
            log::trace!("ready: descriptor {fd}, {direction}");
        }
        if rung {
            log::trace!("ready: the wake-up pipe");
        }
    }
}
