//! What the attributes of the feature `macros` expand to. Not for programs to call.

use super::Builder;
use crate::event_loop::{drop_all_tasks, shuffle, survey, with};
use std::future::Future;
use std::thread;

/// The settings of one test, and how it is run.
#[derive(Debug, Default)]
pub struct Test {
    virtual_clock: bool,
}

/// What a test with `seeds` may return.
pub trait Outcome {
    /// Whether the test has failed without a panic.
    fn has_failed(&self) -> bool;
}

impl Outcome for () {
    fn has_failed(&self) -> bool {
        false
    }
}

impl<T, E> Outcome for Result<T, E> {
    fn has_failed(&self) -> bool {
        self.is_err()
    }
}

impl Test {
    /// A test of `#[fahrenheit::test]` without arguments.
    pub fn new() -> Test {
        Test::default()
    }

    /// Gives the test a virtual clock, as the argument `virtual_clock` asks.
    pub fn virtual_clock(mut self) -> Test {
        self.virtual_clock = true;
        self
    }

    /// Runs the future that `body` returns, and drops all tasks that it has left behind.
    #[track_caller]
    pub fn run<F: Future>(self, body: impl Fn() -> F) -> F::Output {
        // Also after a panic: the thread may run another test, which should not meet these tasks.
        let _dropped_at_the_end = TidyUp;
        self.run_with(Builder::new(), body())
    }

    /// Does what [`run`](Test::run) does under the seeds from 0 to `n`, until one fails; or only
    /// under the seed of the environment.
    #[track_caller]
    pub fn run_seeds<F>(self, n: u64, body: impl Fn() -> F) -> F::Output
    where
        F: Future<Output: Outcome>,
    {
        let chosen = shuffle::seed_of_environment();
        let last = chosen.unwrap_or(n.saturating_sub(1));
        for seed in chosen.unwrap_or(0).. {
            let _dropped_at_the_end = TidyUp;
            let report = Report { seed };
            let outcome = self.run_with(Builder::new().seed(seed), body());
            if outcome.has_failed() {
                report.print();
            }
            if outcome.has_failed() || seed == last {
                return outcome;
            }
        }
        unreachable!("the last seed returns")
    }

    #[track_caller]
    fn run_with<F: Future>(&self, builder: Builder, main: F) -> F::Output {
        let builder = builder.virtual_clock(self.virtual_clock);
        // A test that can never end would hold up all others.
        let outcome = builder.panic_when_stuck(true).block_on(main);
        outcome.unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Says which seed has failed, also if it has failed by a panic.
struct Report {
    seed: u64,
}

impl Report {
    fn print(&self) {
        let seed = self.seed;
        let thread = thread::current();
        let name = thread.name().unwrap_or_default();
        // The test harness keeps what `eprintln!` writes for those tests that fail.
        eprintln!("the test has failed under seed {seed}; what is left of its tasks:");
        eprint!("{}", survey::dump());
        eprintln!("to repeat it: FAHRENHEIT_SEED={seed} cargo test {name}");
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if thread::panicking() {
            self.print();
        }
    }
}

/// Leaves the loop of the thread as it was found.
struct TidyUp;

impl Drop for TidyUp {
    fn drop(&mut self) {
        drop_all_tasks();
        shuffle::set_seed(None);
        with(|l| {
            l.panic_when_stuck = false;
            l.set_virtual_clock(false);
        });
    }
}
