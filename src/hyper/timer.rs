//! [`Timer`]: how hyper waits.

use crate::sys::thread_bound::ThreadBound;
use crate::time::{self, sleep, sleep_until};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The timer of hyper, for its `timer` methods: sleeps on the loop of the thread that calls it.
///
/// A sleep takes one allocation, and a reset none.
///
/// # Panics
/// hyper demands that its sleeps are `Send`. Polled on another thread than the one that made it, a
/// sleep panics. If another thread drops it, its timer fires in vain.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Timer;

impl Timer {
    /// Returns a timer that goes by the clock of the loop.
    pub const fn new() -> Timer {
        Timer
    }
}

impl ::hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn ::hyper::rt::Sleep>> {
        Box::pin(Delay(ThreadBound::new(sleep(duration))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn ::hyper::rt::Sleep>> {
        Box::pin(Delay(ThreadBound::new(sleep_until(deadline))))
    }

    fn now(&self) -> Instant {
        time::now()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn ::hyper::rt::Sleep>>, deadline: Instant) {
        let delay = sleep.as_mut().downcast_mut_pin::<Delay>();
        match delay.and_then(|delay| delay.get_mut().0.get_mut()) {
            Some(delay) => delay.reset(deadline),
            None => *sleep = self.sleep_until(deadline),
        }
    }
}

/// A sleep that is `Send + Sync`, as hyper demands, and is used on one thread.
///
/// A [`Local`](crate::Local) would put it in a box of its own, so that it could be sent home.
struct Delay(ThreadBound<time::Sleep>);

impl ::hyper::rt::Sleep for Delay {}

impl Future for Delay {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.get_mut().0.get_mut();
        let sleep = sleep.expect("a sleep is polled on the thread that made it");
        Pin::new(sleep).poll(cx)
    }
}
