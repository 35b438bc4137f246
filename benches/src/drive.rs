//! Starts the child processes of one measurement, and waits for them no longer than it must.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::env;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::child::{COUNT, Contender, INSIDE, LOAD, REQUESTS, SERVE};
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
            let words = [INSIDE, row.name, contender.name, &scale];
            Process::start(&[], contender, &words)?.sample()
        }
        Kind::Outside(_) => {
            let mut server = Server::start(&[], row, contender)?;
            let length = effort.measure.as_millis().to_string();
            let (port, pid) = (&server.port.clone(), &server.pid.to_string());
            let mut load = Process::start(&[], contender, &[LOAD, row.name, port, pid, &length])?;
            load.sample().map_err(|error| server.explain(error))
        }
    }
}

/// Does the work of a row `n` times in a process that `tool`, the start of a command line,
/// counts in, and waits until the tool has written its report.
///
/// The sample says how many `operations` that was.
pub(crate) fn run_under(
    tool: &[String],
    row: &Row,
    contender: &Contender,
    n: usize,
) -> Result<Sample, String> {
    let n = n.to_string();
    match row.kind {
        Kind::Inside(_) => {
            let words = [COUNT, row.name, contender.name, &n];
            let mut child = Process::start(tool, contender, &words)?;
            let sample = child.sample()?;
            child.wait_for_end()?;
            Ok(sample)
        }
        Kind::Outside(_) => {
            let mut server = Server::start(tool, row, contender)?;
            let (port, pid) = (&server.port.clone(), &server.pid.to_string());
            let mut load = Process::start(&[], contender, &[REQUESTS, row.name, port, pid, &n])?;
            let sample = load.sample().map_err(|error| server.explain(error))?;
            // The load keeps its connections until it is dropped below, so the server is still
            // waiting for requests when it ends.
            kill(server.pid, Signal::SIGTERM).map_err(|error| error.to_string())?;
            server.process.wait_for_end()?;
            Ok(sample)
        }
    }
}

/// A server that is listening.
struct Server {
    process: Process,
    port: String,
    /// Of the server itself, which can be the child of a tracer.
    pid: Pid,
}

impl Server {
    fn start(tool: &[String], row: &Row, contender: &Contender) -> Result<Server, String> {
        let words = [SERVE, row.name, contender.name];
        let mut process = Process::start(tool, contender, &words)?;
        let first = process.line(Instant::now() + Duration::from_secs(20))?;
        let words: Vec<_> = first.split_whitespace().collect();
        let ["port", port, "pid", pid] = words[..] else {
            return Err("the server told no port".to_owned());
        };
        let pid = pid.parse().map_err(|_| "the server told no pid")?;
        Ok(Server {
            process,
            port: port.to_owned(),
            pid: Pid::from_raw(pid),
        })
    }

    /// The error of a load, with what the server complained about.
    fn explain(&mut self, error: String) -> String {
        match self.process.complaint() {
            Some(complaint) => format!("{error}; server: {complaint}"),
            None => error,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A tracer that is killed leaves its tracee running. The pid cannot belong to another
        // process: while the child runs, it is the server or has not waited for the server.
        if matches!(self.process.child.try_wait(), Ok(None)) {
            let _ = kill(self.pid, Signal::SIGKILL);
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
    /// Starts this program again, under `tool` if that is not empty.
    fn start(tool: &[String], contender: &Contender, words: &[&str]) -> Result<Process, String> {
        let what = |error: io::Error| match tool.first() {
            Some(tool) => format!("cannot start {tool}: {error}"),
            None => format!("cannot start {}: {error}", words.join(" ")),
        };
        let this = env::current_exe().map_err(what)?;
        let mut command = match tool {
            [] => Command::new(this),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(this);
                command
            }
        };
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

    /// Waits until the process has ended by itself or by a signal, and so has its tool.
    fn wait_for_end(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(5)),
                Ok(Some(_)) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("it did not end".to_owned())
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
