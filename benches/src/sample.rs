//! One measurement: what a child process found out, and how it tells its parent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::histogram::Histogram;
use crate::sys;

/// Names and figures. `cost` is what rows are compared by: less is better.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sample(pub(crate) BTreeMap<String, f64>);

/// The percentiles that are reported, by the name they carry.
pub(crate) const PERCENTILES: [(&str, f64); 7] = [
    ("p10", 0.10),
    ("p25", 0.25),
    ("p50", 0.50),
    ("p75", 0.75),
    ("p90", 0.90),
    ("p99", 0.99),
    ("p99.9", 0.999),
];

impl Sample {
    /// CPU nanoseconds per operation, and operations per second of the wall clock.
    pub(crate) fn per_operation(n: u64, cpu: Duration, wall: Duration) -> Sample {
        let n = n.max(1) as f64;
        let mut sample = Sample::default();
        sample.set("cost", cpu.as_nanos() as f64 / n);
        sample.set("per_second", n / wall.as_secs_f64().max(1e-9));
        sample.set("operations", n);
        sample
    }

    pub(crate) fn set(&mut self, name: &str, figure: f64) {
        self.0.insert(name.to_owned(), figure);
    }

    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    pub(crate) fn set_percentiles(&mut self, histogram: &Histogram) {
        for (name, share) in PERCENTILES {
            self.set(name, histogram.percentile_us(share));
        }
    }

    /// The line that a child prints; `parse` reads it.
    pub(crate) fn line(&self) -> String {
        let words = self
            .0
            .iter()
            .map(|(name, figure)| format!(" {name}={figure}"));
        format!("sample{}", words.collect::<String>())
    }

    pub(crate) fn parse(line: &str) -> Option<Sample> {
        let mut sample = Sample::default();
        for word in line.strip_prefix("sample")?.split_whitespace() {
            let (name, figure) = word.split_once('=')?;
            sample.set(name, figure.parse().ok()?);
        }
        Some(sample)
    }
}

/// Measures CPU and wall time of this process from its making on.
pub(crate) struct Meter {
    cpu: Duration,
    wall: Instant,
}

impl Meter {
    pub(crate) fn start() -> Meter {
        Meter {
            cpu: sys::cpu_of_this(),
            wall: Instant::now(),
        }
    }

    pub(crate) fn stop(self, n: u64) -> Sample {
        let cpu = sys::cpu_of_this() - self.cpu;
        Sample::per_operation(n, cpu, self.wall.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_survives_its_line() {
        let mut sample = Sample::per_operation(3, Duration::from_micros(1), Duration::from_secs(2));
        sample.set("p99.9", 0.125);
        assert_eq!(Sample::parse(&sample.line()), Some(sample));
        assert_eq!(Sample::parse("panicked"), None);
    }
}
