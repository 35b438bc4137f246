//! Sleeping, limits, and things that happen again and again.
//!
//! Timers never fire early, and about 0.1 ms late on an idle machine: waits are counted in
//! microseconds. All of them use [`Instant`], which stands still while a machine is suspended on
//! Linux and macOS: a sleep of an hour then takes an hour of running time. For a wall-clock
//! appointment, sleep in short steps and compare [`SystemTime`](std::time::SystemTime).
//!
//! What is more than 292 years away comes *never*. Nothing here panics.

use crate::event_loop::clock::{Moment, Span};
use crate::event_loop::timers::{Armed, Serial, TimerKey};
use crate::event_loop::{context, with};
use futures_util::stream::Stream;
use pin_project_lite::pin_project;
use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Waits until `duration` has passed since this call.
///
/// Costs nothing until it is polled. A duration of zero is ready at once.
///
/// # Cancel safety
/// Dropping it removes the timer.
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
pub fn sleep(duration: Duration) -> Sleep {
    Sleep::at(Moment::now().saturating_add(duration))
}

/// Waits until `deadline`; ready at once if that has passed.
///
/// # Cancel safety
/// Dropping it removes the timer.
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
    deadline: Moment,
    armed: Option<Serial>,
    // The timer is in the table of this thread's loop.
    _local: PhantomData<*mut ()>,
}

impl Sleep {
    fn at(deadline: Moment) -> Sleep {
        Sleep {
            deadline,
            armed: None,
            _local: PhantomData,
        }
    }

    /// When it will be ready; `None` if never.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.instant()
    }

    /// Whether the deadline has passed.
    pub fn is_elapsed(&self) -> bool {
        self.deadline <= Moment::now()
    }

    /// Changes the deadline, also of a sleep that was ready already. It has to be polled again.
    pub fn reset(&mut self, deadline: Instant) {
        self.disarm();
        self.deadline = deadline.into();
    }

    /// Changes the deadline to `duration` from now.
    pub fn reset_after(&mut self, duration: Duration) {
        self.disarm();
        self.deadline = Moment::now().saturating_add(duration);
    }

    /// The armed timer.
    fn key(&self) -> Option<TimerKey> {
        Some(TimerKey {
            deadline: self.deadline,
            serial: self.armed?,
        })
    }

    fn disarm(&mut self) {
        let key = self.key();
        self.armed = None;
        if let Some(key) = key {
            // Dropped here, with nothing borrowed.
            let waker = with(|l| l.timers.remove(key));
            drop(waker);
        }
    }

    /// Has the task woken at the deadline.
    fn arm(&mut self, cx: &Context<'_>) {
        if !self.deadline.is_never() {
            let waker = cx.waker().clone();
            self.armed = with(|l| l.timers.insert(self.deadline, waker));
        }
    }

    /// `poll` without the budget.
    fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let armed = match self.key() {
            Some(key) => with(|l| l.timers.state(key, cx.waker())),
            None if self.is_elapsed() => Some(Armed::Fired),
            None => {
                self.arm(cx);
                return Poll::Pending;
            }
        };
        match (armed, self.key()) {
            (Some(Armed::Known), _) => Poll::Pending,
            (Some(Armed::Unknown), Some(key)) => {
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
/// `future` is polled first, so what is ready at once wins over a limit of zero, and the clock is
/// not even looked at. It is never cut short, and may overrun by a turn of the loop.
///
/// # Errors
/// [`Elapsed`] if the limit passes first; `future` is dropped together with this.
///
/// # Cancel safety
/// That of `future`.
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

/// Runs `future` until `deadline`. See [`timeout`].
///
/// # Errors
/// [`Elapsed`] if the deadline passes first.
///
/// # Cancel safety
/// That of `future`.
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
        // What `sleep` is to be set to at the first poll.
        limit: Option<Span>,
        sleep: Sleep,
    }
}

impl<F> Timeout<F> {
    /// The future that is being limited.
    pub fn get_ref(&self) -> &F {
        &self.future
    }

    /// Gives the future back, and forgets the limit.
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
                // It cannot have passed: no need to look at the clock a second time.
                this.sleep.arm(cx);
                return Poll::Pending;
            }
        }
        // The clock is looked at even if the future has used up the budget.
        this.sleep.poll_elapsed(cx).map(|()| Err(Elapsed(())))
    }
}

/// A limit has passed. Converts into an [`io::Error`] of kind
/// [`TimedOut`](io::ErrorKind::TimedOut).
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

/// Ticks every `period`, the first time at once.
///
/// A period of zero is taken as one nanosecond.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// fahrenheit::run(async {
///     let mut interval = fahrenheit::time::interval(Duration::from_millis(1));
///     let first = interval.tick().await;
///     assert!(interval.tick().await - first >= Duration::from_millis(1));
/// });
/// ```
pub fn interval(period: Duration) -> Interval {
    interval_at(Instant::now(), period)
}

/// Ticks every `period`, the first time at `start`.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now() + Duration::from_millis(1);
/// let mut interval = fahrenheit::time::interval_at(start, Duration::from_secs(3_600));
/// assert_eq!(fahrenheit::run(interval.tick()), start);
/// ```
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    Interval {
        sleep: sleep_until(start),
        period: period.max(Duration::from_nanos(1)),
        missed: MissedTickBehavior::default(),
    }
}

/// What an [`Interval`] does after ticks that nobody waited for in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissedTickBehavior {
    /// All missed ticks come at once, then it goes on as planned. The default.
    #[default]
    Burst,
    /// One tick comes, and the next a period after that.
    Delay,
    /// One tick comes, and the next at the next planned time.
    Skip,
}

/// The future ticks of [`interval`] and [`interval_at`]. It is a [`Stream`] that never ends.
#[derive(Debug)]
pub struct Interval {
    sleep: Sleep,
    period: Duration,
    missed: MissedTickBehavior,
}

impl Interval {
    /// Waits for the next tick, and returns the time at which it was due.
    ///
    /// # Cancel safety
    /// No tick is lost by dropping the future.
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// `tick` for hand-written futures.
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        let Some(due) = self.sleep.deadline() else {
            return Poll::Pending;
        };
        ready!(Pin::new(&mut self.sleep).poll(cx));
        let next = due.checked_add(self.period);
        let next = match self.missed {
            MissedTickBehavior::Burst => next,
            MissedTickBehavior::Delay => {
                self.unless_late(next, |now, period| now.checked_add(period))
            }
            MissedTickBehavior::Skip => self.unless_late(next, |now, period| {
                let late = now.saturating_duration_since(due).as_nanos() % period.as_nanos();
                // Below the period's own nanoseconds, so the parts fit.
                let late =
                    Duration::new((late / 1_000_000_000) as u64, (late % 1_000_000_000) as u32);
                now.checked_add(period - late)
            }),
        };
        self.sleep.deadline = next.into();
        Poll::Ready(due)
    }

    /// `next`, unless that has passed: then what `late` makes of the present and the period.
    fn unless_late(
        &self,
        next: Option<Instant>,
        late: impl FnOnce(Instant, Duration) -> Option<Instant>,
    ) -> Option<Instant> {
        let now = Instant::now();
        if next.is_some_and(|next| next <= now) {
            late(now, self.period)
        } else {
            next
        }
    }

    /// How far ticks are apart.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// What happens after missed ticks.
    pub fn missed_tick_behavior(&self) -> MissedTickBehavior {
        self.missed
    }

    /// Sets what happens after missed ticks.
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.missed = behavior;
    }

    /// The next tick comes a period from now.
    pub fn reset(&mut self) {
        self.sleep.reset_after(self.period);
    }
}

impl Stream for Interval {
    type Item = Instant;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Instant>> {
        self.poll_tick(cx).map(Some)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}
