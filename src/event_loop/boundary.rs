//! The only place that runs foreign code: code that this crate calls but did not write.
//!
//! Polling a future, dropping a future, an output, a capture or a panic payload, waking and
//! dropping a waker, and writing a log record all run code of the program or of another crate. It
//! may panic, and it may call back into this crate. So it runs here, where a panic is caught, and
//! with nothing borrowed.
//!
//! **Invariant.** No function of this module unwinds.

use std::any::Any;
use std::fmt::Arguments;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// What a panic carries: usually a message, but any value of the program.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Calls `f`, and returns the payload if it panics.
///
/// Callers pass closures that leave their captures usable after a panic: futures that are dropped
/// and never polled again, or values that are consumed by the call.
pub(crate) fn contain<R>(f: impl FnOnce() -> R) -> Result<R, Payload> {
    catch_unwind(AssertUnwindSafe(f))
}

/// Wakes `waker`. A panic of the waker is logged.
pub(crate) fn wake(waker: Waker) {
    if let Err(payload) = contain(|| waker.wake()) {
        // First dropped, then logged: the logger may need what the destructor releases.
        drop_payload(payload);
        error!("a waker panicked");
    }
}

/// Drops `value`, and returns the payload if its destructor panics.
pub(crate) fn try_drop<T>(value: T) -> Result<(), Payload> {
    contain(|| drop(value))
}

/// Drops `value`, ignoring a panic of its destructor. The panic hook has reported that panic.
pub(crate) fn drop_value<T>(value: T) {
    if let Err(payload) = try_drop(value) {
        drop_payload(payload);
    }
}

/// Drops the payload of a panic, which may have a destructor that panics as well.
pub(crate) fn drop_payload(payload: Payload) {
    if let Err(second) = try_drop(payload) {
        // A payload whose destructor panics with such a payload again would never come to an end.
        mem::forget(second);
    }
}

/// True if a record of `level` would be logged. Asks the logger, which is foreign code.
#[inline]
pub(crate) fn is_logged(level: log::Level) -> bool {
    // The comparison needs no foreign code, and is all that a program without a logger pays.
    level <= log::max_level() && is_enabled(level)
}

#[cold]
fn is_enabled(level: log::Level) -> bool {
    contain(|| log::log_enabled!(level)).unwrap_or_else(|payload| {
        drop_payload(payload);
        false
    })
}

/// Writes a log record for the macros of this module. A panic of the logger is ignored: the panic
/// hook has reported it, and a second record would only meet the same logger.
#[cold]
pub(crate) fn write_record(level: log::Level, target: &'static str, text: Arguments<'_>) {
    if let Err(payload) = contain(|| log::log!(target: target, level, "{text}")) {
        drop_payload(payload);
    }
}

/// Writes a log record. The arguments are evaluated and formatted only if the level is enabled.
macro_rules! record {
    ($level:ident, $($arg:tt)+) => {
        // Two comparisons where nothing is logged, as in `log` itself.
        if log::Level::$level <= log::STATIC_MAX_LEVEL && log::Level::$level <= log::max_level() {
            $crate::event_loop::boundary::write_record(
                log::Level::$level,
                module_path!(),
                format_args!($($arg)+),
            );
        }
    };
}

macro_rules! error {
    ($($arg:tt)+) => { $crate::event_loop::boundary::record!(Error, $($arg)+) };
}

macro_rules! warning {
    ($($arg:tt)+) => { $crate::event_loop::boundary::record!(Warn, $($arg)+) };
}

macro_rules! debug {
    ($($arg:tt)+) => { $crate::event_loop::boundary::record!(Debug, $($arg)+) };
}

macro_rules! trace {
    ($($arg:tt)+) => { $crate::event_loop::boundary::record!(Trace, $($arg)+) };
}

pub(crate) use {debug, error, record, trace, warning};
