//! What can be counted exactly: instructions per operation, and system calls per request.
//!
//! A process does the same work twice, once with few operations and once with many. The
//! difference of the two counts, divided by the difference of the operations, is the cost of one
//! operation; start-up and shutdown cancel out. Unlike CPU time, the result hardly depends on
//! what else the machine does.
//!
//! Instructions are those of user space that `valgrind --tool=callgrind` sees in the measured
//! process, all its threads. valgrind has no vDSO: reading the clock is a system call there,
//! whose few dozen instructions are not counted. System calls are counted by `strace -f -c` on
//! the server. The load generator runs under neither.

mod callgrind;
mod strace;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process;

use crate::child::Contender;
use crate::drive;
use crate::rows::{Row, find};
use crate::sample::Sample;

/// How often each count is made. The table shows the mean, and says how far two counts differ.
pub(crate) const REPETITIONS: usize = 2;

/// A row whose work can be counted.
pub(crate) struct Counted {
    /// The row's name in `ROWS`.
    row: &'static str,
    /// What one operation is.
    pub(crate) unit: &'static str,
    /// The numbers of repetitions of the two runs.
    lengths: [usize; 2],
}

const fn counted(row: &'static str, unit: &'static str, lengths: [usize; 2]) -> Counted {
    Counted { row, unit, lengths }
}

/// The rows whose instructions are counted.
pub(crate) const INSTRUCTIONS: &[Counted] = &[
    counted(
        "spawn",
        "one task spawned and joined, 1,000 at once",
        [5_000, 25_000],
    ),
    counted("yield", "one yield of one of 16 tasks", [500, 4_500]),
    counted(
        "mpsc",
        "one hop of a message between two tasks",
        [2_000, 22_000],
    ),
    counted(
        "oneshot",
        "one request by mpsc, answered by oneshot: two hops",
        [2_000, 22_000],
    ),
    counted(
        "thread-wake",
        "one round trip to another thread, both threads",
        [1_000, 11_000],
    ),
    counted(
        "timeout-ready",
        "one timeout around a ready future",
        [5_000, 55_000],
    ),
    counted(
        "timeout-pending",
        "one timeout around a future that is pending once",
        [5_000, 45_000],
    ),
    counted(
        "sleeps",
        "one sleep of 1 to 1,000 ms, spawned and joined, 10,000 at once",
        [10_000, 30_000],
    ),
    counted(
        "echo-1",
        "one request of 512 bytes, one connection, sent while the server waits",
        [200, 1_200],
    ),
    counted(
        "echo-100",
        "one request of 512 bytes, 100 connections",
        [5_000, 45_000],
    ),
    counted(
        "short-1",
        "one connection with one request, one at a time, each step while the server waits",
        [100, 700],
    ),
];

/// The rows whose system calls are counted.
pub(crate) const SYSCALLS: &[Counted] = &[
    counted(
        "echo-1",
        "one request of 512 bytes, one connection, sent while the server waits",
        [200, 1_200],
    ),
    counted(
        "echo-100",
        "one request of 512 bytes, 100 connections",
        [5_000, 35_000],
    ),
    counted(
        "short-1",
        "one connection with one request, one at a time, each step while the server waits",
        [100, 700],
    ),
];

/// The program that counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tool {
    Callgrind,
    Strace,
}

impl Counted {
    pub(crate) fn row(&self) -> &'static Row {
        find(self.row).expect("every counted row is one of `ROWS`")
    }

    /// Counts once. `cost` is the count per operation; with strace, each system call by name too.
    pub(crate) fn measure(&self, tool: Tool, contender: &Contender) -> Result<Sample, String> {
        let [few, many] = self.lengths;
        let few = self.run(tool, contender, few)?;
        let many = self.run(tool, contender, many)?;
        per_operation(&few, &many)
    }

    /// The counts of a whole process that does the work `n` times, and its `operations`.
    fn run(&self, tool: Tool, contender: &Contender, n: usize) -> Result<Sample, String> {
        let report = Report::new();
        let done = drive::run_under(&tool.command(&report.0), self.row(), contender, n)?;
        let text = fs::read_to_string(&report.0).map_err(|error| format!("no report: {error}"))?;
        let mut sample = match tool {
            Tool::Callgrind => callgrind::parse(&text),
            Tool::Strace => strace::parse(&text),
        }
        .ok_or("the report has no counts")?;
        let operations = done.get("operations").ok_or("no number of operations")?;
        sample.set("operations", operations);
        Ok(sample)
    }
}

impl Tool {
    /// The start of a command line that runs a program and writes a report to `file`.
    fn command(self, file: &str) -> Vec<String> {
        match self {
            Tool::Callgrind => vec![
                "valgrind".to_owned(),
                "--tool=callgrind".to_owned(),
                // Threads take turns in the order in which they ask, as far as that is possible.
                "--fair-sched=try".to_owned(),
                // The profile by function is not needed, only the sum in the log.
                "--callgrind-out-file=/dev/null".to_owned(),
                format!("--log-file={file}"),
            ],
            Tool::Strace => vec![
                "strace".to_owned(),
                "--follow-forks".to_owned(),
                "--summary-only".to_owned(),
                "--summary-columns=calls,name".to_owned(),
                format!("--output={file}"),
            ],
        }
    }
}

/// The counts per operation: the difference of two runs.
fn per_operation(few: &Sample, many: &Sample) -> Result<Sample, String> {
    let operations = |sample: &Sample| sample.get("operations").unwrap_or_default();
    let more = operations(many) - operations(few);
    if more <= 0.0 {
        return Err("the longer run did no more operations than the shorter".to_owned());
    }
    let mut sample = Sample::default();
    for (name, count) in many.0.iter().filter(|(name, _)| *name != "operations") {
        let difference = count - few.get(name).unwrap_or_default();
        sample.set(name, difference / more);
    }
    Ok(sample)
}

/// A temporary file for the report of a tool, removed when this is dropped.
struct Report(String);

impl Report {
    fn new() -> Report {
        let name = format!("fahrenheit-count-{}", process::id());
        let path: PathBuf = env::temp_dir().join(name);
        Report(path.to_string_lossy().into_owned())
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(figures: &[(&str, f64)]) -> Sample {
        let mut sample = Sample::default();
        for (name, figure) in figures {
            sample.set(name, *figure);
        }
        sample
    }

    #[test]
    fn start_up_cancels_out() {
        let few = sample(&[("cost", 1_500.0), ("operations", 10.0)]);
        let many = sample(&[("cost", 3_500.0), ("operations", 30.0), ("read", 40.0)]);
        let one = per_operation(&few, &many).unwrap();
        assert_eq!(one, sample(&[("cost", 100.0), ("read", 2.0)]));
        assert!(per_operation(&many, &few).is_err());
    }

    #[test]
    fn every_counted_row_exists() {
        for counted in INSTRUCTIONS.iter().chain(SYSCALLS) {
            assert_eq!(counted.row().name, counted.row);
            let [few, many] = counted.lengths;
            assert!(few < many);
        }
    }
}
