//! Finds out what each task waits for: [`dump`].
//!
//! Nothing is kept for this while the loop runs. The wakers in the tables of the loop point to
//! their tasks, so each table is searched for the wakers of each task when a dump is asked for.
//!
//! **Invariant.** No foreign code runs here: wakers are compared by address, never cloned.

use super::clock::Moment;
use super::dump::{self, Dump, TaskDump, TaskState, TaskTimes, WaitsFor};
use super::join_error::Id;
use super::metrics::metrics;
use super::notes::Hidden;
use super::pool::Kind;
use super::reactor::Direction;
use super::{EventLoop, tracking, with};
use crate::sys::describe::describe;
use crate::sys::task::{self, Task};
#[cfg(feature = "diagnostics")]
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

/// Returns a picture of this thread's loop: every task with what it waits for, and the loop.
///
/// May be called inside a task and outside. It looks at every task and every interest, which takes
/// about a microsecond for each, and asks the kernel what each awaited descriptor is. Empty if the
/// thread is ending. [`signal::dump_on`](crate::signal::dump_on) prints one at a signal.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use fahrenheit::{task, time};
///
/// fahrenheit::block_on(async {
///     let hour = Duration::from_secs(3_600);
///     let sleeper = task::Builder::new().name("sleeper").spawn(time::sleep(hour));
///     fahrenheit::yield_now().await;
///     let dump = fahrenheit::dump();
///     let task = dump.tasks.iter().find(|task| task.id == sleeper.id()).unwrap();
///     assert_eq!(task.n_polls, 1);
///     assert!(dump.to_string().contains("\"sleeper\""), "{dump}");
/// });
/// ```
pub fn dump() -> Dump {
    let mut dump = with(|l| survey(l, &task::all(), None)).unwrap_or_default();
    dump.metrics = metrics();
    dump
}

/// Which tasks to show if there are too many for all of them.
#[cfg(feature = "diagnostics")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// Those that were polled most often.
    Polls,
    /// Those whose polls took the longest time together.
    Busy,
    /// Those that were spawned first.
    Oldest,
}

/// Like [`dump`], with no more than `max` tasks and the main future, so that neither memory nor
/// system calls grow with the number of tasks. Also returns how many tasks were left out.
///
/// If some are, `unattributed` is empty: a waker that is not that of a task which is shown may be
/// that of one which is not.
#[cfg(feature = "diagnostics")]
pub(crate) fn dump_first(first: First, max: usize) -> (Dump, usize) {
    let mut tasks = task::all();
    let n_omitted = tasks.len().saturating_sub(max);
    if n_omitted > 0 && max > 0 {
        // The greatest keys come first.
        let key = |task: &Task| match first {
            First::Polls => u128::from(task.n_polls()),
            First::Busy => tracking::times(task.id()).map_or(0, |times| times.busy().as_nanos()),
            First::Oldest => u128::MAX - u128::from(task.id()),
        };
        tasks.select_nth_unstable_by_key(max - 1, |task| Reverse(key(task)));
        tasks[..max].sort_unstable_by_key(|task| task.id());
    }
    let shown = (n_omitted > 0).then_some(max);
    let mut dump = with(|l| survey(l, &tasks, shown)).unwrap_or_default();
    dump.metrics = metrics();
    (dump, n_omitted)
}

/// What was found out about wakers, by the addresses of their data.
#[derive(Default)]
struct Found {
    /// The tasks that are shown, if some are not.
    shown: Option<BTreeSet<*const ()>>,
    waits: BTreeMap<*const (), Vec<WaitsFor>>,
    /// Number of wakers of each task in the tables.
    n_wakers: BTreeMap<*const (), usize>,
    /// What each descriptor is: several tasks may wait for one.
    kinds: BTreeMap<RawFd, String>,
}

impl Found {
    /// Whether what `waker` waits for is to be found out.
    fn wants(&self, waker: *const ()) -> bool {
        let shown = self.shown.as_ref();
        shown.is_none_or(|shown| shown.contains(&waker))
    }

    fn add(&mut self, waker: &Waker, wait: WaitsFor) {
        if !self.wants(waker.data()) {
            return;
        }
        *self.n_wakers.entry(waker.data()).or_default() += 1;
        self.waits.entry(waker.data()).or_default().push(wait);
    }

    fn kind_of(&mut self, l: &EventLoop, fd: RawFd) -> String {
        let kind = self.kinds.entry(fd).or_insert_with(|| {
            let label = l.reactor.label(fd).map(str::to_owned);
            label.unwrap_or_else(|| describe(fd))
        });
        kind.clone()
    }
}

/// Describes the first `n_shown` of `tasks`, which are all tasks of the loop; or each of them.
fn survey(l: &mut EventLoop, tasks: &[Task], n_shown: Option<usize>) -> Dump {
    let shown = &tasks[..n_shown.unwrap_or(tasks.len())];
    let addresses = shown.iter().chain(&l.main).map(|task| task.address());
    let selection = n_shown.map(|_| addresses.collect());
    let mut found = search_tables(l, tasks, selection);
    let mut dumps = Vec::new();
    if let Some(main) = &l.main {
        // The function that runs the main future has a reference, and the loop another.
        dumps.push(dump_task(l, main, 2, true, &mut found));
    }
    for task in shown {
        // The list of all tasks has one, the slice of them another, and the handle a third.
        let n_own = 2 + usize::from(!task.is_detached());
        dumps.push(dump_task(l, task, n_own, false, &mut found));
    }
    Dump {
        tasks: dumps,
        unattributed: found.waits.into_values().flatten().collect(),
        is_reachable: n_shown.is_some()
            || Arc::strong_count(&l.handles) > 1
            || Arc::strong_count(&l.locals) > 1,
        ..Dump::default()
    }
}

/// Looks through all tables of the loop for wakers.
fn search_tables(l: &EventLoop, tasks: &[Task], shown: Option<BTreeSet<*const ()>>) -> Found {
    let mut found = Found {
        shown,
        ..Found::default()
    };
    l.reactor.each_waiter(|fd, direction, waker| {
        // Before the kernel is asked what the descriptor is.
        if !found.wants(waker.data()) {
            return;
        }
        if let Some(signallers) = l.reactor.signallers(fd) {
            let wait = WaitsFor::Event {
                fd,
                n_notifiers: signallers.n_notifiers(),
                is_lent: signallers.is_lent(),
            };
            return found.add(waker, wait);
        }
        let what = found.kind_of(l, fd);
        let direction = match direction {
            Direction::Read => dump::Direction::Read,
            Direction::Write => dump::Direction::Write,
            Direction::Except => dump::Direction::Exceptional,
        };
        let wait = WaitsFor::Descriptor {
            fd,
            direction,
            what,
        };
        found.add(waker, wait);
    });
    let now = Moment::now();
    for (deadline, waker) in l.timers.iter() {
        let left = deadline.saturating_duration_since(now);
        found.add(waker, WaitsFor::Timer(left));
    }
    for waker in l.free_fds.wakers() {
        found.add(waker, WaitsFor::FreeDescriptor);
    }
    for task in tasks {
        task.with_joiner(|joiner| {
            if let Some(joiner) = joiner {
                found.add(joiner, WaitsFor::Join(Id(task.id())));
            }
        });
    }
    for (data, hidden) in l.notes.iter() {
        let wait = match hidden {
            Hidden::Job(Kind::Work) => WaitsFor::BlockingJob,
            Hidden::Job(Kind::Name) => WaitsFor::NameLookup,
            #[cfg(feature = "process")]
            Hidden::Child(pid) => WaitsFor::Child(*pid),
            #[cfg(feature = "sim")]
            Hidden::Simulated(what) => WaitsFor::Simulated(what.to_string()),
        };
        if !found.wants(data) {
            continue;
        }
        // The waker that goes with the note is elsewhere, but it is known where.
        *found.n_wakers.entry(data).or_default() += 1;
        found.waits.entry(data).or_default().push(wait);
    }
    found
}

fn dump_task(
    l: &EventLoop,
    task: &Task,
    n_own: usize,
    is_main: bool,
    found: &mut Found,
) -> TaskDump {
    let n_found = found.n_wakers.remove(&task.address()).unwrap_or(0);
    let state = match () {
        () if task.is_finished() => TaskState::Finished,
        () if task.is_running() => TaskState::Running,
        () if task.is_queued() => TaskState::Queued,
        () => TaskState::Waiting,
    };
    let now = Instant::now();
    let times = tracking::times(task.id()).map(|times| TaskTimes {
        age: now.saturating_duration_since(times.first_seen),
        since_last_poll: times.last_poll.map(|t| now.saturating_duration_since(t)),
        longest_poll: times.longest_poll(),
        busy: times.busy(),
    });
    TaskDump {
        id: Id(task.id()),
        name: l.tasks.name(task.id()).map(str::to_owned),
        is_main,
        is_daemon: task.is_daemon() && !is_main,
        place: task.place(),
        state,
        n_polls: task.n_polls(),
        times,
        waits_for: found.waits.remove(&task.address()).unwrap_or_default(),
        n_wakers_elsewhere: task.n_references().saturating_sub(n_own + n_found),
    }
}
