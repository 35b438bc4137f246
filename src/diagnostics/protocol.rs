//! Requests and answers as lines. Knows no socket and no clock.
//!
//! **Invariant.** An answer has at most [`MAX_TASKS`] tasks with at most [`MAX_WAITS`] lines each,
//! and texts in it are cut to [`MAX_TEXT`] characters, so its length is bounded.

use super::{Direction, Dump, Metrics, TaskDump, TaskState, WaitsFor};
use crate::event_loop::survey::First;
use std::fmt::{self, Write};
use std::time::Duration;

/// The number of this protocol. It grows when an old client would misunderstand an answer.
const VERSION: u32 = 1;
/// Maximum number of tasks in an answer: more than a person looks at.
const MAX_TASKS: usize = 1_000;
/// Maximum number of things that one task waits for in an answer.
const MAX_WAITS: usize = 20;
/// Maximum length of a text in an answer, such as the name of a task.
const MAX_TEXT: usize = 200;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) form: Form,
    /// Which tasks to show if there are too many.
    pub(super) first: First,
    /// The maximum number of tasks.
    pub(super) max_tasks: usize,
}

/// For whom an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// An answer of records, which a program reads.
    Records,
    /// An answer of text, which a person reads.
    Text,
}

impl Request {
    /// Reads a line, which is without its end. The error is for the client.
    pub(super) fn parse(line: &str) -> Result<Request, String> {
        let mut words = line.split_ascii_whitespace();
        let form = match words.next() {
            Some("snapshot") => Form::Records,
            Some("dump") => Form::Text,
            _ => return Err("the requests are \"snapshot\" and \"dump\"".to_owned()),
        };
        let first = match words.next() {
            None | Some("polls") => First::Polls,
            Some("busy") => First::Busy,
            Some("oldest") => First::Oldest,
            Some(_) => return Err("the orders are polls, busy and oldest".to_owned()),
        };
        let max_tasks = match words.next().map(str::parse) {
            None => MAX_TASKS,
            Some(Ok(n)) => MAX_TASKS.min(n),
            Some(Err(_)) => return Err("the third word is a number of tasks".to_owned()),
        };
        match words.next() {
            None => Ok(Request {
                form,
                first,
                max_tasks,
            }),
            Some(_) => Err("a request has at most three words".to_owned()),
        }
    }
}

/// A text without control characters, so that it is one field of one line and harms no terminal.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars().take(MAX_TEXT) {
            match c {
                '\\' => f.write_str("\\\\")?,
                c if c.is_control() => write!(f, "{}", c.escape_default())?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// An answer under construction. Writing to a `String` cannot fail.
struct Records(String);

impl Records {
    /// Begins a record on a line of its own, by the name of its kind.
    fn begin(&mut self, kind: &str) {
        self.0.push('\n');
        self.0.push_str(kind);
    }

    fn field(&mut self, name: &str, value: impl fmt::Display) {
        let _ = write!(self.0, "\t{name}={value}");
    }

    fn time(&mut self, name: &str, time: Option<Duration>) {
        if let Some(time) = time {
            self.field(name, time.as_nanos());
        }
    }

    fn task(&mut self, task: &TaskDump) {
        self.begin("task");
        self.field("id", task.id);
        self.field(
            "role",
            match () {
                () if task.is_main => "main",
                () if task.is_daemon => "daemon",
                () => "task",
            },
        );
        self.field(
            "state",
            match task.state {
                TaskState::Waiting => "waiting",
                TaskState::Queued => "queued",
                TaskState::Running => "running",
                TaskState::Finished => "finished",
            },
        );
        self.field("polls", task.n_polls);
        self.field("elsewhere", task.n_wakers_elsewhere);
        self.field("place", Escaped(&task.place.to_string()));
        if let Some(name) = &task.name {
            self.field("name", Escaped(name));
        }
        if let Some(times) = &task.times {
            self.time("age", Some(times.age));
            self.time("since", times.since_last_poll);
            self.time("longest", Some(times.longest_poll));
            self.time("busy", Some(times.busy));
        }
        self.waits(task.id, &task.waits_for);
    }

    fn waits(&mut self, task: impl fmt::Display, waits: &[WaitsFor]) {
        for wait in waits.iter().take(MAX_WAITS) {
            self.begin("wait");
            self.field("task", &task);
            self.wait(wait);
        }
        if waits.len() > MAX_WAITS {
            self.begin("omitted");
            self.field("task", &task);
            self.field("waits", waits.len() - MAX_WAITS);
        }
    }

    fn wait(&mut self, wait: &WaitsFor) {
        match wait {
            WaitsFor::Descriptor {
                fd,
                direction,
                what,
            } => {
                let direction = match direction {
                    Direction::Read => "read",
                    Direction::Write => "write",
                    Direction::Exceptional => "exceptional",
                };
                self.field("for", "descriptor");
                self.field("fd", fd);
                self.field("direction", direction);
                self.field("what", Escaped(what));
            }
            WaitsFor::Event {
                fd, n_notifiers, ..
            } => {
                self.field("for", "event");
                self.field("fd", fd);
                self.field("notifiers", n_notifiers);
            }
            WaitsFor::Simulated(what) => {
                self.field("for", "simulated");
                self.field("what", Escaped(what));
            }
            WaitsFor::Timer(due) => {
                self.field("for", "timer");
                self.time("due", Some(*due));
            }
            WaitsFor::Join(of) => {
                self.field("for", "join");
                self.field("of", of);
            }
            WaitsFor::BlockingJob => self.field("for", "job"),
            WaitsFor::NameLookup => self.field("for", "lookup"),
            WaitsFor::Child(pid) => {
                self.field("for", "child");
                self.field("pid", pid);
            }
            WaitsFor::FreeDescriptor => self.field("for", "free-descriptor"),
        }
    }

    fn metrics(&mut self, m: &Metrics) {
        self.begin("loop");
        for (name, counter) in [
            ("turns", m.turns),
            ("polls", m.polls),
            ("waits", m.waits),
            ("waits_ended_by_wake", m.waits_ended_by_wake),
            ("waits_ended_by_descriptor", m.waits_ended_by_descriptor),
            ("waits_ended_by_time", m.waits_ended_by_time),
            ("wakers_called", m.wakers_called),
            ("timers_fired", m.timers_fired),
            ("tasks_spawned", m.tasks_spawned),
        ] {
            self.field(name, counter);
        }
        for (name, gauge) in [
            ("tasks", m.tasks),
            ("tasks_queued", m.tasks_queued),
            ("descriptors_young", m.descriptors_young),
            ("descriptors_tenured", m.descriptors_tenured),
            ("timers_armed", m.timers_armed),
            ("blocking_threads", m.blocking_threads),
            ("blocking_threads_busy", m.blocking_threads_busy),
            ("blocking_jobs_queued", m.blocking_jobs_queued),
        ] {
            self.field(name, gauge);
        }
        if let Some(tracked) = &m.tracked {
            self.time("busy", Some(tracked.busy));
            self.time("idle", Some(tracked.idle));
            self.time("longest_poll", Some(tracked.longest_poll));
        }
    }
}

/// Writes the answer for programs. `time` is the time since the service has begun.
pub(super) fn snapshot(dump: &Dump, n_omitted: usize, time: Duration) -> String {
    let program = std::env::args_os().next().unwrap_or_default();
    let mut records = Records("fahrenheit".to_owned());
    records.field("protocol", VERSION);
    records.field("version", env!("CARGO_PKG_VERSION"));
    records.field("pid", std::process::id());
    records.field("program", Escaped(&program.to_string_lossy()));
    records.time("time", Some(time));
    dump.tasks.iter().for_each(|task| records.task(task));
    records.waits(0, &dump.unattributed);
    if n_omitted > 0 {
        records.begin("omitted");
        records.field("tasks", n_omitted);
    }
    for id in dump.stuck() {
        records.begin("stuck");
        records.field("task", id);
    }
    records.metrics(&dump.metrics);
    records.0.push_str("\nend\n");
    records.0
}

/// Writes the answer for people.
pub(super) fn text(mut dump: Dump, n_omitted: usize) -> String {
    let cut = |waits: &mut Vec<WaitsFor>| {
        let n = waits.len().saturating_sub(MAX_WAITS);
        waits.truncate(MAX_WAITS);
        n
    };
    let n_waits: usize = dump.tasks.iter_mut().map(|t| cut(&mut t.waits_for)).sum();
    let n_waits = n_waits + cut(&mut dump.unattributed);
    for task in &mut dump.tasks {
        // It is quoted, and so escaped, by the dump itself.
        task.name = task.name.take().map(|n| n.chars().take(MAX_TEXT).collect());
    }
    let mut text = dump.to_string();
    if n_omitted + n_waits > 0 {
        let _ = writeln!(
            text,
            "left out: {n_omitted} tasks, and {n_waits} things that tasks wait for"
        );
    }
    text.push_str("end\n");
    text
}

/// Writes the answer to a request that makes no sense.
pub(super) fn error(text: &str) -> String {
    let mut records = Records("error".to_owned());
    records.field("text", Escaped(text));
    records.0.push_str("\nend\n");
    records.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_one_to_three_words() {
        let request = |form, first, max_tasks| {
            Ok(Request {
                form,
                first,
                max_tasks,
            })
        };
        let all = request(Form::Records, First::Polls, MAX_TASKS);
        assert_eq!(Request::parse("snapshot"), all);
        let some = request(Form::Text, First::Busy, 7);
        assert_eq!(Request::parse(" dump busy  7\r"), some);
        let many = request(Form::Records, First::Oldest, MAX_TASKS);
        assert_eq!(Request::parse("snapshot oldest 4000000000"), many);
        for wrong in [
            "",
            "GET / HTTP/1.1",
            "dump by",
            "dump busy x",
            "dump busy 1 2",
        ] {
            assert!(Request::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn texts_are_escaped_and_cut() {
        let hostile = "a\tb\n\u{1b}[2J\\ é\u{9b}";
        let escaped = r"a\tb\n\u{1b}[2J\\ é\u{9b}";
        assert_eq!(Escaped(hostile).to_string(), escaped);
        let long = "x".repeat(10 * MAX_TEXT);
        assert_eq!(Escaped(&long).to_string().len(), MAX_TEXT);
    }

    #[test]
    fn an_answer_shows_no_more_than_some_waits_of_a_task() {
        let dump = || Dump {
            unattributed: vec![WaitsFor::NameLookup; 10 * MAX_WAITS],
            ..Dump::default()
        };
        let records = snapshot(&dump(), 5, Duration::from_nanos(3));
        assert_eq!(
            records.matches("\nwait\ttask=0\tfor=lookup").count(),
            MAX_WAITS
        );
        assert!(
            records.contains("\nomitted\ttask=0\twaits=180\n"),
            "{records}"
        );
        assert!(records.contains("\nomitted\ttasks=5\n"), "{records}");
        assert!(
            records.lines().next().unwrap().ends_with("\ttime=3"),
            "{records}"
        );
        let text = text(dump(), 5);
        assert_eq!(text.matches("look-up").count(), MAX_WAITS);
        assert!(text.contains("left out: 5 tasks, and 180"), "{text}");
        assert!(text.ends_with("\nend\n"), "{text}");
    }
}
