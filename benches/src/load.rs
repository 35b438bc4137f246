//! The load generator: a process of its own, on a core of its own, with a plain epoll loop.
//!
//! It checks every byte that comes back, reads the CPU clock of the server from outside, and
//! measures latency. No wait is without a limit.

mod bulk;
mod echo;
mod short;

use std::io;
use std::time::{Duration, Instant};

use crate::histogram::Histogram;
use crate::rows::{Load, REQUEST, Row};
use crate::sample::Sample;
use crate::sys;

/// How long a server may take to answer anything before the run is given up.
const PATIENCE: Duration = Duration::from_secs(15);

/// The server under test and how long to load it.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) port: u16,
    pub(crate) pid: u32,
    pub(crate) measure: Duration,
}

impl Target {
    fn warm_up(&self) -> Duration {
        self.measure / 3
    }
}

/// Puts the row's load on the target.
pub(crate) fn run(row: &Row, load: Load, target: Target) -> io::Result<Sample> {
    match load {
        Load::Echo { active, idle, size } => echo::run(target, active, idle, size),
        Load::Short { parallel } => short::run(target, parallel),
        Load::Stream => bulk::run(target, row.buffer(), false),
        Load::Bulk => bulk::run(target, row.buffer(), true),
        Load::Memory { idle } => memory(target, idle),
    }
}

fn memory(target: Target, idle: usize) -> io::Result<Sample> {
    // The first hundred pay for what is allocated once.
    let first = echo::open(target, 0..100, REQUEST)?;
    let before = sys::resident(target.pid)?;
    let rest = echo::open(target, 100..100 + idle, REQUEST)?;
    let after = sys::resident(target.pid)?;
    echo::check(first.iter().chain(&rest).step_by(97), REQUEST)?;
    let mut sample = Sample::default();
    sample.set("cost", after.saturating_sub(before) as f64 / idle as f64);
    sample.set("operations", idle as f64);
    Ok(sample)
}

/// Counts operations of a load in two parts: a warm-up that is forgotten, and what is measured.
struct Clock {
    target: Target,
    turns_at: Instant,
    measured: Option<(Instant, Duration)>,
    n: u64,
    latency: Histogram,
}

impl Clock {
    fn start(target: Target) -> Clock {
        Clock {
            target,
            turns_at: Instant::now() + target.warm_up(),
            measured: None,
            n: 0,
            latency: Histogram::new(),
        }
    }

    fn count(&mut self, latency: Duration) {
        self.n += 1;
        self.latency.add(latency);
    }

    /// To be called between operations; the sample once the time is over.
    fn tick(&mut self, now: Instant) -> io::Result<Option<Sample>> {
        if now < self.turns_at {
            return Ok(None);
        }
        let cpu = sys::cpu_of(self.target.pid)?;
        let Some((began, cpu_before)) = self.measured else {
            self.measured = Some((now, cpu));
            self.turns_at = now + self.target.measure;
            self.n = 0;
            self.latency = Histogram::new();
            return Ok(None);
        };
        if self.n == 0 {
            return Err(io::Error::other("no operation ended in the time measured"));
        }
        let mut sample = Sample::per_operation(self.n, cpu - cpu_before, now - began);
        sample.set_percentiles(&self.latency);
        Ok(Some(sample))
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the server stopped answering")
}
