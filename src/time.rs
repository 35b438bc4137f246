//! Sleeping, timeouts and intervals.
//!
//! A timer never fires early. On an idle machine it fires about 0.1 ms late. All timers use
//! [`Instant`], which does not advance while a Linux or macOS machine is suspended: a sleep of one
//! hour then takes one hour of running time. To wait for a wall-clock time, sleep in short steps
//! and compare [`SystemTime`](std::time::SystemTime).
//!
//! A deadline more than 292 years away never comes. Nothing in this module panics.

mod interval;

pub use interval::{Interval, MissedTickBehavior, interval, interval_at};

use crate::event_loop::clock::{self, Moment, Span};
use crate::event_loop::not_running::warn_if_not_running;
use crate::event_loop::timers::{Armed, TimerKey};
use crate::event_loop::{context, with};
use crate::sys::thread_bound::NotSend;
use pin_project_lite::pin_project;
use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Returns the present time of this thread's loop: that of its virtual clock if it has one (see
/// [`Builder::virtual_clock`](crate::Builder::virtual_clock)), else `Instant::now()`.
///
/// # Examples
/// ```
/// let deadline = fahrenheit::time::now() + std::time::Duration::from_micros(10);
/// fahrenheit::run(fahrenheit::time::sleep_until(deadline));
/// assert!(fahrenheit::time::now() >= deadline);
/// ```
pub fn now() -> Instant {
    if !clock::is_virtual() {
        // Without converting there and back.
        return Instant::now();
    }
    // Only a virtual clock that was moved by centuries shows no time.
    Moment::now().instant().unwrap_or_else(Instant::now)
}

/// Moves the virtual clock forward by `duration`, and has all timers fire that are due by then, in
/// the order of their deadlines. Unlike a [`sleep`], it does not wait for blocking jobs.
///
/// All of these timers find the clock at its new time.
///
/// # Panics
/// If the loop of this thread has no virtual clock.
///
/// # Cancel safety
/// The clock is moved by the first poll.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use fahrenheit::time;
///
/// fahrenheit::Builder::new().virtual_clock(true).run(async {
///     let hour = Duration::from_secs(3_600);
///     let sleeper = fahrenheit::spawn(time::sleep(hour));
///     fahrenheit::yield_now().await;
///     time::advance(hour).await;
///     assert!(sleeper.is_finished());
/// })?;
/// # Ok::<(), fahrenheit::CreateError>(())
/// ```
pub async fn advance(duration: Duration) {
    assert!(
        clock::is_virtual(),
        "`time::advance` was called on a loop without a virtual clock: see `Builder::virtual_clock`"
    );
    clock::advance(duration);
    // Two timers that are due now. The first is woken behind all that were armed before it, so when
    // the second fires, the tasks that those have woken were polled.
    for _ in 0..2 {
        let mut sleep = Sleep::at(Moment::now());
        poll_fn(|cx| match sleep.armed {
            Some(_) => sleep.poll_elapsed(cx),
            None => {
                sleep.arm(cx);
                Poll::Pending
            }
        })
        .await;
    }
}

/// Waits until `duration` has passed since this call.
///
/// The timer is armed at the first poll. A duration of zero is ready at once.
///
/// # Cancel safety
/// Dropping the future removes the timer.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
///
/// fahrenheit::run(async {
///     let start = Instant::now();
///     fahrenheit::time::sleep(Duration::from_micros(300)).await;
///     assert!(start.elapsed() >= Duration::from_micros(300));
/// });
/// ```
#[doc(alias("Timer", "delay"))]
pub fn sleep(duration: Duration) -> Sleep {
    Sleep::at(Moment::now().saturating_add(duration))
}

/// Waits until `deadline`. Ready at once if the deadline has passed.
///
/// # Cancel safety
/// Dropping the future removes the timer.
///
/// # Examples
/// ```
/// use std::time::Instant;
/// fahrenheit::run(fahrenheit::time::sleep_until(Instant::now()));
/// ```
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep::at(deadline.into())
}

/// The future of [`sleep`] and [`sleep_until`].
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct Sleep {
    /// When the future becomes ready.
    deadline: Moment,
    /// The armed timer. `None` before the first poll and after the end.
    armed: Option<TimerKey>,
    // The timer is in the table of this thread's loop.
    _not_send: NotSend,
}

impl Sleep {
    fn at(deadline: Moment) -> Sleep {
        Sleep {
            deadline,
            armed: None,
            _not_send: PhantomData,
        }
    }

    /// Returns when the future becomes ready, or `None` if that is never.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.instant()
    }

    /// Returns whether the deadline has passed.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::time::sleep;
    /// use std::{pin::pin, time::{Duration, Instant}};
    ///
    /// fahrenheit::run(async {
    ///     let mut sleep = pin!(sleep(Duration::from_secs(3_600)));
    ///     assert!(!sleep.is_elapsed());
    ///     sleep.reset(Instant::now());
    ///     sleep.as_mut().await;
    ///     sleep.reset_after(Duration::from_millis(1));
    ///     sleep.as_mut().await;
    ///     assert!(sleep.is_elapsed());
    /// });
    /// ```
    pub fn is_elapsed(&self) -> bool {
        self.deadline <= Moment::now()
    }

    /// Changes the deadline. A sleep that was ready already can be used again. The future has to be
    /// polled after this call, so that the new timer is armed.
    pub fn reset(&mut self, deadline: Instant) {
        self.disarm();
        self.deadline = deadline.into();
    }

    /// Changes the deadline to `duration` from now. The future has to be polled after this call, so
    /// that the new timer is armed.
    pub fn reset_after(&mut self, duration: Duration) {
        self.disarm();
        self.deadline = Moment::now().saturating_add(duration);
    }

    fn disarm(&mut self) {
        if let Some(key) = self.armed.take() {
            let waker = with(|l| l.timers.remove(key));
            // The loop is no longer borrowed: dropping a waker may run foreign code.
            drop(waker);
        }
    }

    /// Arms a timer that wakes the task at the deadline.
    fn arm(&mut self, cx: &Context<'_>) {
        if !self.deadline.is_never() {
            let waker = cx.waker().clone();
            self.armed = with(|l| l.timers.insert(self.deadline, waker));
        }
        warn_if_not_running();
    }

    /// Polls without spending from the budget of the task.
    fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let armed = match self.armed {
            Some(key) => with(|l| l.timers.state(key, cx.waker())),
            None if self.is_elapsed() => Some(Armed::Fired),
            None => {
                self.arm(cx);
                return Poll::Pending;
            }
        };
        match (armed, self.armed) {
            (Some(Armed::SameWaker), _) => Poll::Pending,
            (Some(Armed::OtherWaker), Some(key)) => {
                let waker = cx.waker().clone();
                let displaced = with(|l| l.timers.set_waker(key, waker));
                drop(displaced);
                Poll::Pending
            }
            _ => {
                self.armed = None;
                Poll::Ready(())
            }
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        ready!(context::poll_budget(cx));
        ready!(self.poll_elapsed(cx));
        context::spend_budget();
        Poll::Ready(())
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}

/// Runs `future` for at most `limit`, counted from its first poll.
///
/// `future` is polled before the clock is read, so a future that is ready at once succeeds even
/// with a limit of zero. `future` is never interrupted inside a poll, and may overrun the limit by
/// one turn of the loop.
///
/// # Errors
/// [`Elapsed`] if the limit passes first. `future` is dropped together with the timeout.
///
/// # Cancel safety
/// Dropping this drops `future` and removes the timer. What is lost with `future` depends on it.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use fahrenheit::time::timeout;
///
/// fahrenheit::run(async {
///     assert_eq!(timeout(Duration::from_secs(1), async { 1 }).await, Ok(1));
///     let never = std::future::pending::<()>();
///     assert!(timeout(Duration::from_millis(1), never).await.is_err());
/// });
/// ```
pub fn timeout<F: IntoFuture>(limit: Duration, future: F) -> Timeout<F::IntoFuture> {
    Timeout {
        future: future.into_future(),
        limit: Some(limit.into()),
        sleep: Sleep::at(Moment::NEVER),
    }
}

/// Runs `future` until `deadline` at the latest.
///
/// `future` is polled before the clock is read, so a future that is ready at once succeeds even if
/// the deadline has passed.
///
/// # Errors
/// [`Elapsed`] if the deadline passes first. `future` is dropped together with the timeout.
///
/// # Cancel safety
/// Dropping this drops `future` and removes the timer. What is lost with `future` depends on it.
///
/// # Examples
/// ```
/// use std::time::Instant;
/// let ready = fahrenheit::time::timeout_at(Instant::now(), async { 1 });
/// assert_eq!(fahrenheit::run(ready), Ok(1));
/// ```
pub fn timeout_at<F: IntoFuture>(deadline: Instant, future: F) -> Timeout<F::IntoFuture> {
    Timeout {
        future: future.into_future(),
        limit: None,
        sleep: sleep_until(deadline),
    }
}

pin_project! {
    /// The future of [`timeout`] and [`timeout_at`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        // The time to wait, counted from the first poll. `None` once `sleep` has the deadline.
        limit: Option<Span>,
        sleep: Sleep,
    }
}

impl<F> Timeout<F> {
    /// Returns a reference to the future.
    pub fn get_ref(&self) -> &F {
        &self.future
    }

    /// Returns the future, without its limit.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::time::timeout;
    /// use std::{future::ready, time::Duration};
    ///
    /// let limited = timeout(Duration::from_secs(1), ready(1));
    /// println!("{:?}", limited.get_ref());
    /// assert_eq!(fahrenheit::run(limited.into_inner()), 1);
    /// ```
    pub fn into_inner(self) -> F {
        self.future
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        if let Some(limit) = this.limit.take() {
            this.sleep.deadline = Moment::now().saturating_add(limit);
            if limit > Span::ZERO {
                // This limit cannot have passed, so the clock need not be read a second time.
                this.sleep.arm(cx);
                return Poll::Pending;
            }
        }
        // Not subject to the budget: a future that always uses it up would never be timed out.
        this.sleep.poll_elapsed(cx).map(|()| Err(Elapsed(())))
    }
}

/// The error of [`timeout`] and [`timeout_at`]: the time limit has passed. Converts into an
/// [`io::Error`] of kind [`TimedOut`](io::ErrorKind::TimedOut).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed(());

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time limit has passed")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, elapsed)
    }
}
