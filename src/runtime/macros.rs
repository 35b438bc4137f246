//! What the attributes of the feature `macros` expand to. Not for programs to call.

use super::Builder;
use crate::event_loop::dump::Dump;
use crate::event_loop::{drop_all_tasks, is_borrowed, shuffle, survey, with};
use std::cell::RefCell;
use std::future::Future;
use std::sync::Once;
use std::{panic, thread};

/// The settings of one test, and how it is run.
#[derive(Debug, Default)]
pub struct Test {
    virtual_clock: bool,
    /// The path of the function, with that of the module.
    path: Option<&'static str>,
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

    /// Says what the test is called, beginning with the name of the crate.
    pub fn path(mut self, path: &'static str) -> Test {
        self.path = Some(path);
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
            let report = Report::new(seed, self.path);
            let main = async {
                let outcome = body().await;
                if outcome.has_failed() {
                    remember_dump();
                }
                outcome
            };
            let outcome = self.run_with(Builder::new().seed(seed), main);
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
    path: Option<&'static str>,
}

thread_local! {
    /// What the tasks were doing when the test failed, if a test with seeds runs on this thread.
    static AT_FAILURE: RefCell<Option<Option<Dump>>> = const { RefCell::new(None) };
}

/// Keeps a dump for the report, if a test with seeds runs on this thread.
fn remember_dump() {
    // A panic while the loop is borrowed is a fault of this crate, and a second one would hide it.
    if is_borrowed() {
        return;
    }
    // Also called while a thread ends, when there is nothing left to keep it in.
    let _ = AT_FAILURE.try_with(|cell| {
        if let Ok(Some(last)) = cell.try_borrow_mut().as_deref_mut() {
            *last = Some(survey::dump());
        }
    });
}

/// Has a dump taken at each panic, before the stack unwinds: that drops what the main future holds,
/// and so changes what the other tasks do.
fn watch_panics() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            remember_dump();
            previous(info);
        }));
    });
}

impl Report {
    fn new(seed: u64, path: Option<&'static str>) -> Report {
        watch_panics();
        AT_FAILURE.set(Some(None));
        Report { seed, path }
    }

    fn print(&self) {
        let seed = self.seed;
        let dump = AT_FAILURE.take().flatten().unwrap_or_else(survey::dump);
        let thread = thread::current();
        // The harness does not know the crate. With one thread, the tests run on the main thread,
        // whose name is not that of the test.
        let name = self.path.and_then(|path| path.split_once("::"));
        let name = name.map_or(thread.name(), |(_, name)| Some(name));
        let name = name.unwrap_or_default();
        // The test harness keeps what `eprintln!` writes for those tests that fail.
        eprintln!("the test has failed under seed {seed}; its tasks at that moment:");
        eprint!("{dump}");
        eprintln!("to repeat it: FAHRENHEIT_SEED={seed} cargo test {name}");
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if thread::panicking() {
            self.print();
        }
        AT_FAILURE.set(None);
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
