//! Time limits for tests, what the crate logs, and the messages of panics.

use std::cell::RefCell;
use std::future::Future;
use std::io::Write;
use std::panic::Location;
use std::sync::Once;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// No test takes so long, however loaded the machine is.
pub(crate) const LIMIT: Duration = Duration::from_secs(100);

/// Runs `test` on a thread of its own, with a loop of its own, and returns what it returns once
/// that thread and its loop are gone. If that takes too long, the whole process is aborted: a hang
/// is a result, not a stuck build.
#[track_caller]
pub(crate) fn within<R: Send>(seconds: u64, test: impl FnOnce() -> R + Send) -> R {
    let place = std::panic::Location::caller();
    let (alive, ended) = channel::<()>();
    thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let _alive = alive;
            test()
        });
        if ended.recv_timeout(Duration::from_secs(seconds)) == Err(RecvTimeoutError::Timeout) {
            // Not `eprintln!`, which the test harness would keep to itself.
            let _ = writeln!(
                std::io::stderr(),
                "{place}: the test hangs after {seconds} s"
            );
            std::process::abort();
        }
        match thread.join() {
            Ok(value) => value,
            Err(payload) => std::panic::resume_unwind(payload),
        }
    })
}

/// Ends the process if it is not dropped in time.
pub(crate) struct Watchdog {
    _fed: Sender<()>,
}

#[track_caller]
pub(crate) fn watchdog() -> Watchdog {
    let place = Location::caller();
    let (fed, food) = channel::<()>();
    std::thread::spawn(move || {
        if food.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
            eprintln!("the test at {place} hangs");
            std::process::abort();
        }
    });
    Watchdog { _fed: fed }
}

/// `fahrenheit::run` under a watchdog.
#[track_caller]
pub(crate) fn go<F: Future>(main: F) -> F::Output {
    let _dog = watchdog();
    fahrenheit::run(main)
}

/// Calls `f`, and returns also what this thread logged meanwhile, at `warn` and `error`.
pub(crate) fn record<R>(f: impl FnOnce() -> R) -> (R, Vec<String>) {
    struct Recorder;
    thread_local! { static RECORD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) }; }
    impl log::Log for Recorder {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            let line = format!("{} {}", record.level(), record.args());
            let _ = RECORD.try_with(|lines| lines.borrow_mut().as_mut().map(|l| l.push(line)));
        }
        fn flush(&self) {}
    }
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        log::set_logger(&Recorder).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
    });
    RECORD.set(Some(Vec::new()));
    let value = f();
    (value, RECORD.take().unwrap())
}

/// The message of a panic.
pub(crate) fn text(payload: &(dyn std::any::Any + Send)) -> &str {
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    owned.unwrap_or_else(|| payload.downcast_ref::<&str>().unwrap())
}
