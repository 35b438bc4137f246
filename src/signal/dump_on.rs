//! Printing a dump at a signal.

use super::{Signal, Signals};
use crate::event_loop::survey;
use crate::task::Builder;
use futures_util::stream::Stream;
use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::pin;

/// Writes a [`dump`](crate::dump) of this thread's loop to stderr whenever `signal` comes, for as
/// long as the thread lives. To look into a program from outside: `kill -USR1 PID`.
///
/// A daemon task listens to the signal and writes, so the dump comes when the loop has finished the
/// poll that is under way. A program that is stuck inside a poll says nothing.
///
/// # Errors
/// If the signal cannot be listened to, for the reasons that [`Signals::new`] gives.
///
/// # Examples
/// ```
/// use fahrenheit::signal::{self, Signal};
///
/// fahrenheit::run(async { signal::dump_on(Signal::USR1) })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn dump_on(signal: Signal) -> io::Result<()> {
    let signals = Signals::new([signal])?;
    let name = format!("dump on {signal}");
    let task = Builder::new().name(name).daemon(true);
    task.spawn(async move {
        let mut signals = pin!(signals);
        while poll_fn(|cx| signals.as_mut().poll_next(cx)).await.is_some() {
            // A closed stderr is no reason to end: the next signal may find it open again.
            let _ = io::stderr().write_all(survey::dump().to_string().as_bytes());
        }
    })
    .detach();
    Ok(())
}
