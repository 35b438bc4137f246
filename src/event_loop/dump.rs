//! What a [`Dump`] consists of, and its text.

use super::join_error::Id;
use super::metrics::Metrics;
use std::fmt;
use std::os::fd::RawFd;
use std::panic::Location;
use std::time::Duration;

/// A picture of the loop of one thread at one moment; made by [`dump`](crate::dump).
///
/// Its text is for people, and may change with every version; programs use the fields.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Dump {
    /// The main future of `run` or `block_on`, if there is one, and then all tasks that have not
    /// ended or whose output was not taken, in the order in which they were spawned.
    pub tasks: Vec<TaskDump>,
    /// What futures wait for whose wakers are not those of a task, so that it is not known which
    /// task they belong to. `join_all`, `FuturesUnordered` and `select!` on such futures have
    /// wakers of their own.
    pub unattributed: Vec<WaitsFor>,
    /// Numbers that concern the loop as a whole.
    pub metrics: Metrics,
    /// True if the events of this thread can be signalled by something that is not listed here: a
    /// task that was left out or that another thread spawns, or the destructor of a `Local`.
    pub(crate) is_reachable: bool,
}

/// One task in a [`Dump`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TaskDump {
    /// The id by which the log and errors name the task.
    pub id: Id,
    /// The name that [`task::Builder::name`](crate::task::Builder::name) gave it.
    pub name: Option<String>,
    /// True for the main future of `run` or `block_on`.
    pub is_main: bool,
    /// True if `run` does not wait for it.
    pub is_daemon: bool,
    /// Where it was spawned; where `run` is defined for the main future.
    pub place: &'static Location<'static>,
    /// What it is doing.
    pub state: TaskState,
    /// Number of its polls that have begun, modulo 2^32.
    pub n_polls: u32,
    /// Times of the task; `None` unless [`Builder::track`](crate::Builder::track) was set.
    pub times: Option<TaskTimes>,
    /// What will wake it. More than one entry if it waits for several things at once; an entry may
    /// be left from an earlier poll.
    pub waits_for: Vec<WaitsFor>,
    /// Number of wakers of the task that are not in a table of the loop: in channels, in locks, in
    /// combinators, on other threads. Each [`AbortHandle`](crate::task::AbortHandle) counts as one.
    pub n_wakers_elsewhere: usize,
}

/// The times of one task in a [`Dump`].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct TaskTimes {
    /// Time since it was first polled, which a task is soon after it is spawned.
    pub age: Duration,
    /// Time since its last poll has ended; `None` during its first poll.
    pub since_last_poll: Option<Duration>,
    /// How long the longest of its polls took.
    pub longest_poll: Duration,
    /// How long all of its polls took together.
    pub busy: Duration,
}

/// What a task is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskState {
    /// It waits to be woken.
    Waiting,
    /// It was woken and will be polled.
    Queued,
    /// It is being polled.
    Running,
    /// It has ended, and its output was not taken yet.
    Finished,
}

/// What a task waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitsFor {
    /// A descriptor that is to become ready.
    #[non_exhaustive]
    Descriptor {
        /// The number of the descriptor.
        fd: RawFd,
        /// Whether the task waits to read, to write or for an exceptional condition.
        direction: Direction,
        /// What it is, such as `tcp 127.0.0.1:41022` with the address of the peer, `pipe` or
        /// `signals SIGINT SIGTERM`.
        what: String,
    },
    /// An [`Event`](crate::Event) that is to be signalled.
    #[non_exhaustive]
    Event {
        /// The descriptor that becomes readable when it is signalled.
        fd: RawFd,
        /// Number of its [`Notifier`](crate::Notifier)s that are left.
        n_notifiers: usize,
        /// True if other code may know the descriptor to write to.
        is_lent: bool,
    },
    /// Data, room or a connection on the simulated network described here: `sim`.
    Simulated(String),
    /// A timer that is due after this time.
    Timer(Duration),
    /// The end of a task.
    Join(Id),
    /// A job of the blocking pool, or an operation on a file.
    BlockingJob,
    /// The look-up of a host name.
    NameLookup,
    /// The exit of the child process with this number.
    Child(u32),
    /// Until another descriptor of this process is closed: it has run into the limit.
    FreeDescriptor,
}

/// For what a task waits on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Direction {
    /// Until there is something to read, or a connection to accept.
    Read,
    /// Until there is room to write, or the connection is made.
    Write,
    /// Until there is urgent data.
    Exceptional,
}

impl TaskDump {
    /// True if nothing can wake the task any more: it waits, and there is no waker of it.
    pub fn is_lost(&self) -> bool {
        let n_wakers = self.waits_for.len() + self.n_wakers_elsewhere;
        self.state == TaskState::Waiting && n_wakers == 0
    }
}

impl WaitsFor {
    /// True if no other thread, no descriptor and no timer can end this wait: only a task of the
    /// same thread could.
    pub(super) fn ends_by_tasks_alone(&self) -> bool {
        match self {
            WaitsFor::Join(_) | WaitsFor::Simulated(_) => true,
            WaitsFor::Event {
                n_notifiers,
                is_lent,
                ..
            } => *n_notifiers == 0 && !is_lent,
            _ => false,
        }
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for task in &self.tasks {
            writeln!(f, "{task}")?;
        }
        for wait in &self.unattributed {
            writeln!(f, "a future with a waker of its own\n    waits for {wait}")?;
        }
        for id in self.stuck() {
            writeln!(f, "task {id} is stuck: nothing can wake it")?;
        }
        for circle in self.circles() {
            writeln!(f, "{}", describe_circle(&circle))?;
        }
        let m = &self.metrics;
        writeln!(
            f,
            "loop: {} turns, {} polls, {} waits",
            m.turns, m.polls, m.waits
        )?;
        writeln!(
            f,
            "    ended by a descriptor {}, by another thread {}, by time or a signal {}",
            m.waits_ended_by_descriptor, m.waits_ended_by_wake, m.waits_ended_by_time
        )?;
        let (tasks, queued, timers) = (m.tasks, m.tasks_queued, m.timers_armed);
        writeln!(f, "    {tasks} tasks, {queued} queued; {timers} timers")?;
        let (young, tenured) = (m.descriptors_young, m.descriptors_tenured);
        writeln!(
            f,
            "    {young} descriptors in select, {tenured} in the kernel's queue"
        )?;
        writeln!(
            f,
            "    {} blocking threads, {} busy, {} jobs queued",
            m.blocking_threads, m.blocking_threads_busy, m.blocking_jobs_queued
        )?;
        if let Some(tracked) = &m.tracked {
            let (busy, idle) = (Short(tracked.busy), Short(tracked.idle));
            let longest = Short(tracked.longest_poll);
            writeln!(f, "    busy {busy}, idle {idle}, longest poll {longest}")?;
        }
        Ok(())
    }
}

impl fmt::Display for TaskDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.is_main) {
            (_, true) => write!(f, "main future: ")?,
            (Some(name), _) => write!(f, "task {} {name:?} ({}): ", self.id, self.place)?,
            (None, _) => write!(f, "task {} ({}): ", self.id, self.place)?,
        }
        f.write_str(match self.state {
            TaskState::Waiting => "waiting",
            TaskState::Queued => "queued",
            TaskState::Running => "running",
            TaskState::Finished => "finished",
        })?;
        write!(f, ", {} polls", self.n_polls)?;
        if let Some(times) = &self.times {
            write!(f, ", age {}", Short(times.age))?;
            if let Some(since) = times.since_last_poll {
                write!(f, ", last poll {} ago", Short(since))?;
            }
            let (longest, busy) = (Short(times.longest_poll), Short(times.busy));
            write!(f, ", longest poll {longest}, busy {busy}")?;
        }
        for wait in &self.waits_for {
            write!(f, "\n    waits for {wait}")?;
        }
        match self.n_wakers_elsewhere {
            // Of no interest for a task that will be polled anyway, or never again.
            _ if matches!(self.state, TaskState::Running | TaskState::Finished) => Ok(()),
            0 if self.is_lost() => f.write_str("\n    has no waker: it will never be polled again"),
            0 => Ok(()),
            1 => f.write_str("\n    has a waker that is held elsewhere"),
            n => write!(f, "\n    has {n} wakers that are held elsewhere"),
        }
    }
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitsFor::Descriptor {
                fd,
                direction,
                what,
            } => write!(f, "descriptor {fd} {direction}: {what}"),
            WaitsFor::Event {
                fd,
                n_notifiers,
                is_lent,
            } => {
                write!(f, "the event of descriptor {fd}: ")?;
                match n_notifiers {
                    0 => f.write_str("no notifier is left")?,
                    1 => f.write_str("1 notifier is left")?,
                    n => write!(f, "{n} notifiers are left")?,
                }
                f.write_str(if *is_lent {
                    ", and its descriptor was given out"
                } else {
                    ""
                })
            }
            WaitsFor::Simulated(what) => write!(f, "{what} (simulated)"),
            WaitsFor::Timer(left) => write!(f, "a timer that is due in {}", Short(*left)),
            WaitsFor::Join(id) => write!(f, "the end of task {id}"),
            WaitsFor::BlockingJob => f.write_str("a blocking job"),
            WaitsFor::NameLookup => f.write_str("the look-up of a host name"),
            WaitsFor::Child(pid) => write!(f, "the exit of child {pid}"),
            WaitsFor::FreeDescriptor => f.write_str("a free descriptor"),
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Read => "to read",
            Direction::Write => "to write",
            Direction::Exceptional => "for urgent data",
        })
    }
}

/// Says in words which tasks a circle consists of: `task 3 waits for task 7, which waits for task
/// 3`.
pub(crate) fn describe_circle(circle: &[Id]) -> String {
    let names = circle.iter().map(|id| format!("task {id}"));
    let names = names.chain(circle.first().map(|id| format!("task {id}")));
    let names: Vec<_> = names.collect();
    match names.split_first() {
        Some((first, [second, rest @ ..])) => {
            let mut text = format!("{first} waits for {second}");
            for name in rest {
                text.push_str(&format!(", which waits for {name}"));
            }
            text
        }
        _ => String::new(),
    }
}

/// Three significant digits or so, as nanoseconds do not matter to a reader.
struct Short(Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        match self.0.as_micros() {
            0..1_000 => write!(f, "{:.1}µs", seconds * 1e6),
            1_000..1_000_000 => write!(f, "{:.1}ms", seconds * 1e3),
            _ => write!(f, "{seconds:.1}s"),
        }
    }
}
