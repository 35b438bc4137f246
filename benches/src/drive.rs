//! Starts the child processes of one measurement, and waits for them no longer than it must.

use std::env;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::child::{Contender, INSIDE, LOAD, SERVE};
use crate::rows::{Kind, Row};
use crate::sample::Sample;

/// How long and how much.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    /// How long a load is measured, after a third as much of warm-up.
    pub(crate) measure: Duration,
    /// Counted work is divided by this.
    pub(crate) scale: usize,
}

/// No single measurement takes longer than this.
const LIMIT: Duration = Duration::from_secs(120);

/// One measurement of one row.
pub(crate) fn measure(row: &Row, contender: &Contender, effort: Effort) -> Result<Sample, String> {
    match row.kind {
        Kind::Inside(_) => {
            let scale = effort.scale.to_string();
            let mut child = Process::start(contender, &[INSIDE, row.name, contender.name, &scale])?;
            child.sample()
        }
        Kind::Outside(_) => {
            let mut server = Process::start(contender, &[SERVE, row.name, contender.name])?;
            let first = server.line(Instant::now() + Duration::from_secs(20))?;
            let port = first
                .strip_prefix("port ")
                .ok_or("the server told no port")?;
            let pid = server.child.id().to_string();
            let length = effort.measure.as_millis().to_string();
            let mut load = Process::start(contender, &[LOAD, row.name, port, &pid, &length])?;
            load.sample().map_err(|error| match server.complaint() {
                Some(complaint) => format!("{error}; server: {complaint}"),
                None => error,
            })
        }
    }
}

/// A child that is ended when this is dropped, whatever has happened.
struct Process {
    child: Child,
    lines: Receiver<String>,
    complaints: Receiver<String>,
}

impl Process {
    fn start(contender: &Contender, words: &[&str]) -> Result<Process, String> {
        let what = |error: io::Error| format!("cannot start {}: {error}", words.join(" "));
        let mut command = Command::new(env::current_exe().map_err(what)?);
        command.args(words).envs(contender.environment);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(what)?;
        let (to, lines) = channel();
        let output = child.stdout.take().expect("standard output is a pipe");
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = to.send(line);
            }
        });
        let (to, complaints) = channel();
        let mut errors = child.stderr.take().expect("standard error is a pipe");
        thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            let _ = to.send(text);
        });
        Ok(Process {
            child,
            lines,
            complaints,
        })
    }

    fn line(&mut self, deadline: Instant) -> Result<String, String> {
        let wait = deadline.saturating_duration_since(Instant::now());
        self.lines.recv_timeout(wait).map_err(|error| match error {
            RecvTimeoutError::Timeout => "it took too long".to_owned(),
            RecvTimeoutError::Disconnected => {
                let complaint = self.complaint();
                complaint.unwrap_or_else(|| "it ended without a figure".to_owned())
            }
        })
    }

    /// Ends the process; what it said on standard error, on one line.
    fn complaint(&mut self) -> Option<String> {
        let _ = self.child.kill();
        let text = self.complaints.recv_timeout(Duration::from_secs(5)).ok()?;
        let words: Vec<_> = text.split_whitespace().take(40).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    fn sample(&mut self) -> Result<Sample, String> {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(sample) = Sample::parse(&self.line(deadline)?) {
                return Ok(sample);
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
