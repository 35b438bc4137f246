//! What the program has answered, and what two answers say about the time between them.

use crate::text::{clean, time};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

/// The version of the protocol that this program understands.
const PROTOCOL: &str = "1";

/// In which order tasks are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Polls,
    Busy,
    Age,
}

impl Order {
    /// Also says which tasks are wanted if there are too many.
    pub(crate) fn request(self) -> &'static str {
        match self {
            Order::Polls => "snapshot polls",
            Order::Busy => "snapshot busy",
            Order::Age => "snapshot oldest",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Order::Polls => "polls",
            Order::Busy => "busy time",
            Order::Age => "age",
        }
    }
}

/// One task.
#[derive(Debug, Clone, Default)]
pub(crate) struct Task {
    pub(crate) id: u64,
    pub(crate) is_main: bool,
    pub(crate) state: String,
    pub(crate) polls: u32,
    pub(crate) name: Option<String>,
    pub(crate) place: String,
    pub(crate) age: Option<Duration>,
    pub(crate) busy: Option<Duration>,
    n_elsewhere: u64,
    waits: Vec<String>,
    is_stuck: bool,
    /// What has changed since the answer before, in which a task may have been missing.
    pub(crate) polls_per_second: Option<f64>,
    /// The part of the time that it was busy.
    pub(crate) load: Option<f64>,
}

/// One answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) program: String,
    pub(crate) pid: String,
    /// The time of the program's clock.
    time: Duration,
    pub(crate) tasks: Vec<Task>,
    /// What futures wait for that belong to an unknown task.
    pub(crate) unattributed: Vec<String>,
    /// Number of tasks that are not in the answer.
    pub(crate) n_omitted: u64,
    /// The numbers of the loop.
    numbers: BTreeMap<String, u64>,
    /// How much each of these has grown per second.
    rates: BTreeMap<String, f64>,
}

/// The fields of one record.
struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        let mut fields = self.0.iter();
        fields
            .find(|(field, _)| *field == name)
            .map(|(_, value)| *value)
    }

    /// The text of a field, or none of it.
    fn text(&self, name: &str) -> String {
        clean(self.get(name).unwrap_or(""))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    fn time(&self, name: &str) -> Option<Duration> {
        self.number(name).map(Duration::from_nanos)
    }
}

impl Snapshot {
    /// Reads an answer. Passes over records and fields that it does not know.
    pub(crate) fn parse(answer: &str) -> Result<Snapshot, String> {
        let mut snapshot = Snapshot::default();
        for (n, line) in answer.lines().enumerate() {
            let mut parts = line.split('\t');
            let kind = parts.next().unwrap_or("");
            let fields = Fields(parts.filter_map(|part| part.split_once('=')).collect());
            match kind {
                "fahrenheit" if fields.get("protocol") == Some(PROTOCOL) => {
                    let program = fields.text("program");
                    let name = program.rsplit('/').next().unwrap_or("");
                    name.clone_into(&mut snapshot.program);
                    snapshot.pid = fields.text("pid");
                    snapshot.time = fields.time("time").unwrap_or_default();
                }
                _ if n == 0 => return Err("the answer is not of a known version".to_owned()),
                "task" => snapshot.tasks.push(Task::parse(&fields)),
                "wait" => snapshot.add_wait(&fields, wait(&fields)),
                "omitted" => match fields.number("waits") {
                    Some(n) => snapshot.add_wait(&fields, format!("{n} more")),
                    None => snapshot.n_omitted = fields.number("tasks").unwrap_or(0),
                },
                "stuck" => {
                    if let Some(task) = snapshot.task_of(&fields) {
                        task.is_stuck = true;
                    }
                }
                "loop" => {
                    let numbers = fields.0.iter();
                    let numbers = numbers.filter_map(|(k, v)| Some((clean(k), v.parse().ok()?)));
                    snapshot.numbers = numbers.collect();
                }
                _ => {}
            }
        }
        match snapshot.pid.is_empty() {
            true => Err("the answer is empty".to_owned()),
            false => Ok(snapshot),
        }
    }

    fn task_of(&mut self, fields: &Fields<'_>) -> Option<&mut Task> {
        let id = fields.number("task")?;
        // What belongs to a task comes after it, most of it directly.
        self.tasks.iter_mut().rev().find(|task| task.id == id)
    }

    fn add_wait(&mut self, fields: &Fields<'_>, wait: String) {
        match self.task_of(fields) {
            Some(task) => task.waits.push(wait),
            None => self.unattributed.push(wait),
        }
    }

    /// One of the numbers of the loop.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.numbers.get(name).copied().unwrap_or(0)
    }

    /// How much one of them has grown per second.
    pub(crate) fn rate(&self, name: &str) -> Option<f64> {
        self.rates.get(name).copied()
    }

    /// The part of the time in which the loop was busy, if the program measures that.
    pub(crate) fn load(&self) -> Option<f64> {
        let (busy, idle) = (self.rate("busy")?, self.rate("idle")?);
        let sum = busy + idle;
        (sum > 0.0).then_some(busy / sum)
    }

    /// True if the program measures times.
    pub(crate) fn is_tracked(&self) -> bool {
        self.numbers.contains_key("idle")
    }

    /// Computes rates from an earlier answer.
    pub(crate) fn compare(&mut self, before: &Snapshot) {
        let seconds = self.time.saturating_sub(before.time).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        for (name, number) in &self.numbers {
            if let Some(old) = before.numbers.get(name) {
                let grown = number.saturating_sub(*old) as f64;
                self.rates.insert(name.clone(), grown / seconds);
            }
        }
        let tasks = before.tasks.iter();
        let tasks: BTreeMap<u64, &Task> = tasks.map(|task| (task.id, task)).collect();
        for task in &mut self.tasks {
            let Some(old) = tasks.get(&task.id) else {
                continue;
            };
            // The counter wraps around.
            let polls = task.polls.wrapping_sub(old.polls);
            task.polls_per_second = Some(f64::from(polls) / seconds);
            if let (Some(new), Some(old)) = (task.busy, old.busy) {
                task.load = Some(new.saturating_sub(old).as_secs_f64() / seconds);
            }
        }
    }

    /// Sorts the tasks; by what has happened lately, if that is known.
    pub(crate) fn sort(&mut self, order: Order) {
        let falling = |a: Option<f64>, b: Option<f64>| {
            let (a, b) = (a.unwrap_or(-1.0), b.unwrap_or(-1.0));
            b.partial_cmp(&a).unwrap_or(Ordering::Equal)
        };
        self.tasks.sort_by(|a, b| {
            let by_order = match order {
                Order::Polls => {
                    falling(a.polls_per_second, b.polls_per_second).then(b.polls.cmp(&a.polls))
                }
                Order::Busy => falling(a.load, b.load).then(b.busy.cmp(&a.busy)),
                // Tasks are numbered as they are spawned.
                Order::Age => Ordering::Equal,
            };
            by_order.then(a.id.cmp(&b.id))
        });
    }
}

impl Task {
    fn parse(fields: &Fields<'_>) -> Task {
        Task {
            id: fields.number("id").unwrap_or(0),
            is_main: fields.get("role") == Some("main"),
            state: fields.text("state"),
            polls: fields.number("polls").unwrap_or(0) as u32,
            name: fields.get("name").map(clean),
            place: fields.text("place"),
            age: fields.time("age"),
            busy: fields.time("busy"),
            n_elsewhere: fields.number("elsewhere").unwrap_or(0),
            ..Task::default()
        }
    }

    /// What it waits for, in one line.
    pub(crate) fn waits(&self) -> String {
        if self.state != "waiting" {
            return self.state.clone();
        }
        let mut waits = self.waits.clone();
        match self.n_elsewhere {
            0 => {}
            1 => waits.push("a waker elsewhere".to_owned()),
            n => waits.push(format!("{n} wakers elsewhere")),
        }
        if self.is_stuck {
            waits.insert(0, "STUCK".to_owned());
        }
        match waits.is_empty() {
            true => "nothing".to_owned(),
            false => waits.join(", "),
        }
    }
}

/// What a record of a wait says.
fn wait(fields: &Fields<'_>) -> String {
    match fields.get("for").unwrap_or("") {
        "descriptor" => {
            let direction = match fields.get("direction") {
                Some("exceptional") => "urgent",
                Some(other) => other,
                None => "",
            };
            let what = fields.text("what");
            clean(&format!("{direction} {what} (fd {})", fields.text("fd")))
        }
        "timer" => format!("timer {}", time(fields.time("due").unwrap_or_default())),
        "join" => format!("end of task {}", fields.text("of")),
        "event" => format!("event (fd {})", fields.text("fd")),
        "simulated" => fields.text("what"),
        "free-descriptor" => "a free descriptor".to_owned(),
        "job" => "blocking job".to_owned(),
        "lookup" => "name look-up".to_owned(),
        "child" => format!("child {}", fields.text("pid")),
        other => clean(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "fahrenheit\tprotocol=1\tpid=7\tprogram=a/b\ttime=1000000000\n\
        task\tid=1\trole=main\tstate=waiting\tpolls=4294967290\telsewhere=0\tplace=a.rs:1:2\n\
        wait\ttask=1\tfor=descriptor\tfd=3\tdirection=read\twhat=tcp \u{1b}[1m\n\
        task\tid=2\trole=task\tstate=waiting\tpolls=5\telsewhere=2\tplace=b.rs\tname=n\tbusy=5\n\
        omitted\ttask=2\twaits=9\nstuck\ttask=1\nwait\ttask=0\tfor=child\tpid=8\n\
        future\tx=y\nomitted\ttasks=3\nloop\tpolls=10\tidle=1\tnew=z";

    #[test]
    fn an_answer_is_read_and_unknown_records_are_passed_over() {
        let snapshot = Snapshot::parse(ANSWER).expect("an answer");
        assert_eq!(
            (snapshot.program.as_str(), snapshot.pid.as_str()),
            ("b", "7")
        );
        let [one, two] = &snapshot.tasks[..] else {
            panic!("{snapshot:?}");
        };
        assert_eq!(one.waits(), "STUCK, read tcp ?[1m (fd 3)");
        assert_eq!(two.waits(), "9 more, 2 wakers elsewhere");
        assert_eq!(snapshot.unattributed, ["child 8"]);
        assert_eq!((snapshot.n_omitted, snapshot.number("polls")), (3, 10));
        assert!(snapshot.is_tracked());
        for wrong in ["", "HTTP/1.1 400", "fahrenheit\tprotocol=2\tpid=1"] {
            assert!(Snapshot::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn rates_are_those_of_the_time_between_two_answers() {
        let before = Snapshot::parse(ANSWER).expect("an answer");
        let text = ANSWER.replace("time=1000000000", "time=3000000000");
        // The counter of the main future wraps around.
        let text = text.replace("polls=4294967290", "polls=4");
        let text = text
            .replace("polls=10", "polls=30")
            .replace("busy=5", "busy=1000000005");
        let mut after = Snapshot::parse(&text).expect("an answer");
        after.compare(&before);
        assert_eq!(after.rate("polls"), Some(10.0));
        assert_eq!(after.tasks[0].polls_per_second, Some(5.0));
        assert_eq!(after.tasks[1].load, Some(0.5));
        let ids = |s: &Snapshot| s.tasks.iter().map(|task| task.id).collect::<Vec<_>>();
        after.sort(Order::Busy);
        assert_eq!(ids(&after), [2, 1]);
        after.sort(Order::Polls);
        assert_eq!(ids(&after), [1, 2]);
    }
}
