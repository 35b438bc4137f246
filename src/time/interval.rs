//! Things that happen again and again: [`Interval`].

use super::{Sleep, now, sleep_until};
use futures_util::stream::Stream;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Ticks every `period`. The first tick comes at once.
///
/// A period of zero counts as one nanosecond.
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
    interval_at(now(), period)
}

/// Ticks every `period`. The first tick comes at `start`.
///
/// A period of zero counts as one nanosecond.
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

/// What an [`Interval`] does after it was polled too late for one or more ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissedTickBehavior {
    /// All missed ticks come at once, and later ticks come as planned. The default.
    #[default]
    Burst,
    /// One tick comes at once, and the next one period after it. Later ticks are shifted.
    Delay,
    /// One tick comes at once, and the next at the next planned time. Missed ticks are lost.
    Skip,
}

/// The ticks of [`interval`] and [`interval_at`]. A [`Stream`] that never ends.
#[derive(Debug)]
pub struct Interval {
    /// Waits for the next tick.
    sleep: Sleep,
    /// Time between two ticks. At least one nanosecond.
    period: Duration,
    /// What happens after ticks that came too late.
    missed: MissedTickBehavior,
}

impl Interval {
    /// Waits for the next tick, and returns the time for which it was planned.
    ///
    /// # Cancel safety
    /// Dropping the future loses no tick.
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// Polls for the next tick, for hand-written futures. The output is the time for which the tick
    /// was planned.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::time::{MissedTickBehavior, interval};
    /// use std::{future::poll_fn, time::Duration};
    ///
    /// fahrenheit::run(async {
    ///     let mut interval = interval(Duration::from_millis(1));
    ///     interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ///     assert_eq!(interval.missed_tick_behavior(), MissedTickBehavior::Skip);
    ///     assert_eq!(interval.period(), Duration::from_millis(1));
    ///     poll_fn(|cx| interval.poll_tick(cx)).await;
    ///     interval.reset();
    ///     interval.tick().await;
    /// });
    /// ```
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
                // Less than the period, which is a `Duration`, so both parts fit.
                let late =
                    Duration::new((late / 1_000_000_000) as u64, (late % 1_000_000_000) as u32);
                now.checked_add(period - late)
            }),
        };
        self.sleep.deadline = next.into();
        Poll::Ready(due)
    }

    /// Returns `next` if it is in the future, else the result of `late` for the current time and
    /// the period.
    fn unless_late(
        &self,
        next: Option<Instant>,
        late: impl FnOnce(Instant, Duration) -> Option<Instant>,
    ) -> Option<Instant> {
        let now = now();
        if next.is_some_and(|next| next <= now) {
            late(now, self.period)
        } else {
            next
        }
    }

    /// Returns the time between two ticks.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Returns what happens after missed ticks.
    pub fn missed_tick_behavior(&self) -> MissedTickBehavior {
        self.missed
    }

    /// Sets what happens after missed ticks.
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.missed = behavior;
    }

    /// Restarts the interval: the next tick comes one period from now.
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
