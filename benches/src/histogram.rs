//! Counts durations in buckets that are 3 % wide, so that a million cost no memory.

use std::time::Duration;

const FINE: u32 = 5;

/// How often each duration was seen.
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    n: u64,
}

impl Histogram {
    pub(crate) fn new() -> Histogram {
        Histogram {
            buckets: vec![0; (64 << FINE) as usize],
            n: 0,
        }
    }

    pub(crate) fn add(&mut self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(ns)] += 1;
        self.n += 1;
    }

    /// The duration in microseconds that this share (0 to 1) of all did not exceed.
    pub(crate) fn percentile_us(&self, share: f64) -> f64 {
        let wanted = ((self.n as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return middle(index) / 1e3;
            }
        }
        0.0
    }
}

fn bucket(ns: u64) -> usize {
    if ns < 1 << FINE {
        return ns as usize;
    }
    let exponent = ns.ilog2();
    let fine = (ns >> (exponent - FINE)) & ((1 << FINE) - 1);
    (((exponent - FINE + 1) as usize) << FINE) + fine as usize
}

fn middle(index: usize) -> f64 {
    let exponent = index >> FINE;
    let fine = (index & ((1 << FINE) - 1)) as f64;
    if exponent == 0 {
        return fine;
    }
    let width = 2f64.powi(exponent as i32 - 1);
    (f64::from(1u32 << FINE) + fine + 0.5) * width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_within_four_percent() {
        for ns in [1u64, 31, 32, 33, 1_000, 123_456, 98_765_432_100] {
            let mut histogram = Histogram::new();
            histogram.add(Duration::from_nanos(ns));
            let found = histogram.percentile_us(0.5) * 1e3;
            assert!(
                (found - ns as f64).abs() <= ns as f64 * 0.04,
                "{ns}: {found}"
            );
        }
    }

    #[test]
    fn the_p99_of_one_to_hundred_is_99() {
        let mut histogram = Histogram::new();
        for us in 1..=100 {
            histogram.add(Duration::from_micros(us));
        }
        assert!((histogram.percentile_us(0.99) - 99.0).abs() < 4.0);
    }
}
