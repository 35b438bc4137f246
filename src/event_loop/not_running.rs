//! Reports a future that waits on a thread whose loop does not run.
//!
//! Polled by another executor, the futures of this crate wait for a loop that never turns, which
//! looks like a program that hangs. So this is said once per thread.

use super::context::{Current, current};
use super::{boundary, with};
use std::mem;

/// To be called when a future of this crate has become pending.
pub(crate) fn warn_if_not_running() {
    // One comparison while a task is being polled, as every operation that waits comes here.
    if current() == Current::Outside {
        warn_outside();
    }
}

#[cold]
fn warn_outside() {
    // Not if the loop is running: then a destructor or a waker has polled, and the loop goes on.
    let is_first = with(|l| !l.is_running && !mem::replace(&mut l.expects_turns, true));
    if is_first == Some(true) {
        boundary::warning!(
            "a future of fahrenheit waits on a thread that does not run its event loop; it becomes \
             ready only if this thread calls `fahrenheit::run`, `block_on` or `turn`: start the \
             program with one of them instead of another executor, or move the future to a thread \
             that does"
        );
    }
}
