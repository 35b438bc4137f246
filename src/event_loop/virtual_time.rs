//! The wait of a loop with a virtual clock: instead of sleeping, it moves the clock.
//!
//! Time stands still while anything can happen by itself: while a task is queued, a descriptor is
//! ready or a blocking job runs. Otherwise it jumps to the next deadline. What is on its way inside
//! the kernel may show up a moment after a look, so the descriptors are looked at twice before time
//! jumps. Child processes, signals and other threads do not hold time back: there is no telling
//! whether they will do anything.

use super::{EventLoop, clock, with};
use crate::sys::select::Waited;
use std::os::fd::RawFd;
use std::time::Duration;

/// How often descriptors are looked at before time jumps.
const N_LOOKS: usize = 2;

/// How often if no task waits for a descriptor, so that only the wake-up pipe is looked at. Each
/// further look would let other processes run first, which takes milliseconds on a busy machine.
const N_LOOKS_AT_PIPE: usize = 1;

/// How long the loop waits for a blocking job before it looks again. A job says when it has ended,
/// but not when its thread is free, which is slightly later.
const JOB_WAIT: Duration = Duration::from_millis(1);

/// Waits for at most `limit` of real time, or moves the clock to the next deadline if nothing else
/// can happen. Returns what `Reactor::wait` does.
pub(super) fn wait(pipe: RawFd, limit: Option<Duration>) -> Option<(Waited, bool)> {
    let look = |limit| with(|l: &mut EventLoop| l.reactor.wait(pipe, limit));
    let n_looks = match with(|l| l.reactor.is_idle())? {
        true => N_LOOKS_AT_PIPE,
        false => N_LOOKS,
    };
    for n in 0..n_looks {
        let found = look(Some(Duration::ZERO))?;
        if found != (Waited::Ready(0), false) {
            return Some(found);
        }
        if n + 1 < n_looks {
            // Whatever is to deliver something may need the processor for it.
            std::thread::yield_now();
        }
    }
    let pool = with(|l| l.pool.counts())?;
    if pool.n_busy + pool.n_queued > 0 {
        return look(Some(JOB_WAIT));
    }
    match with(EventLoop::time_left).flatten() {
        Some(left) => {
            clock::advance(left);
            Some((Waited::Ready(0), false))
        }
        None => look(limit),
    }
}
