//! The load generator: a process of its own, on a core of its own, with a plain epoll loop.
//!
//! It checks every byte that comes back, reads the CPU clock of the server from outside, and
//! measures latency. No wait is without a limit.

mod bulk;
mod echo;
mod short;

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::histogram::Histogram;
use crate::rows::{Load, REQUEST, Row};
use crate::sample::Sample;
use crate::sys;

/// How long a server may take to answer anything before the run is given up.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a lone client that counts requests waits before each of them.
///
/// A server under strace or valgrind takes up to a few hundred microseconds for one. Without the
/// pause the next request could arrive while it still works on the last, or not, and it would
/// save a system call at random that no server without a tracer saves.
const PAUSE: Duration = Duration::from_millis(1);

/// The server under test and how long to load it.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) port: u16,
    pub(crate) pid: u32,
    pub(crate) length: Length,
}

/// When a load ends.
#[derive(Clone, Copy)]
pub(crate) enum Length {
    /// After this time, which a third as much of warm-up precedes.
    Time(Duration),
    /// When this many requests have been answered.
    Requests(u64),
}

/// Puts the row's load on the target. `report` gets the figures while the connections are open.
pub(crate) fn run(
    row: &Row,
    load: Load,
    target: Target,
    report: impl FnOnce(Sample),
) -> io::Result<()> {
    match load {
        Load::Echo { active, idle, size } => echo::run(target, active, idle, size, report),
        Load::Short { parallel } => short::run(target, parallel).map(report),
        Load::Stream => bulk::run(target, row.buffer(), false).map(report),
        Load::Bulk => bulk::run(target, row.buffer(), true).map(report),
        Load::Memory { idle } => memory(target, idle).map(report),
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

/// Counts operations of a load. A load that lasts for a time has two parts: a warm-up that is
/// forgotten, and what is measured.
struct Clock {
    target: Target,
    turns_at: Instant,
    measured: Option<(Instant, Duration)>,
    begun: u64,
    n: u64,
    latency: Histogram,
}

impl Clock {
    fn start(target: Target) -> Clock {
        let warm_up = match target.length {
            Length::Time(measure) => measure / 3,
            Length::Requests(_) => Duration::ZERO,
        };
        Clock {
            target,
            turns_at: Instant::now() + warm_up,
            measured: None,
            begun: 0,
            n: 0,
            latency: Histogram::new(),
        }
    }

    /// To be called before an operation; false if all that are wanted have begun.
    fn begin(&mut self) -> bool {
        let wanted = match self.target.length {
            Length::Time(_) => u64::MAX,
            Length::Requests(n) => n,
        };
        let more = self.begun < wanted;
        self.begun += u64::from(more);
        more
    }

    /// To be called where a lone client is to wait until the server waits for it.
    fn pause(&self) {
        if let Length::Requests(_) = self.target.length {
            thread::sleep(PAUSE);
        }
    }

    fn count(&mut self, latency: Duration) {
        self.n += 1;
        self.latency.add(latency);
    }

    /// To be called between operations; the sample once the load is over.
    fn tick(&mut self, now: Instant) -> io::Result<Option<Sample>> {
        let measure = match self.target.length {
            Length::Time(measure) => measure,
            Length::Requests(wanted) => {
                let sample = || Sample::per_operation(wanted, Duration::ZERO, Duration::ZERO);
                return Ok((self.n >= wanted).then(sample));
            }
        };
        if now < self.turns_at {
            return Ok(None);
        }
        let cpu = sys::cpu_of(self.target.pid)?;
        let Some((began, cpu_before)) = self.measured else {
            self.measured = Some((now, cpu));
            self.turns_at = now + measure;
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
