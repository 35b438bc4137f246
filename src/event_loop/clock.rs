//! Points in time and spans as timers keep them: 8 bytes, compared by one instruction.
//!
//! An `Instant` and a `Duration` take 16 bytes each. A sleeping task holds a deadline, so half of
//! that is worth a type of our own.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A point in time: nanoseconds since the first use of this module in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(i64);

/// A non-negative time span in nanoseconds. Longer spans are cut to 292 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(i64);

thread_local! {
    /// What time it is for the loop of this thread, if it has a virtual clock.
    static VIRTUAL: Cell<Option<Moment>> = const { Cell::new(None) };
}

/// Gives this thread a virtual clock, which shows the present time and stands still, or the real
/// one.
pub(crate) fn set_virtual(on: bool) {
    if on != is_virtual() {
        VIRTUAL.set(on.then(Moment::now));
    }
}

/// True if this thread has a virtual clock.
pub(crate) fn is_virtual() -> bool {
    VIRTUAL.get().is_some()
}

/// Moves the virtual clock of this thread.
pub(crate) fn advance(span: impl Into<Span>) {
    let now = VIRTUAL.get();
    VIRTUAL.set(now.map(|now| now.saturating_add(span)));
}

impl Moment {
    /// Later than every other moment. Stands for all points in time more than 292 years away.
    pub(crate) const NEVER: Moment = Moment(i64::MAX);

    /// Reads the clock of this thread, virtual or real.
    pub(crate) fn now() -> Moment {
        VIRTUAL
            .get()
            .unwrap_or_else(|| Moment::from(Instant::now()))
    }

    /// True for a point in time that never comes.
    pub(crate) fn is_never(self) -> bool {
        self == Moment::NEVER
    }

    /// Converts to std's type, or returns `None` for [`Moment::NEVER`].
    pub(crate) fn instant(self) -> Option<Instant> {
        // Instants before the origin exist: those taken before the first timer was armed.
        let distance = Duration::from_nanos(self.0.unsigned_abs());
        match self {
            Moment::NEVER => None,
            Moment(0..) => origin().checked_add(distance),
            Moment(_) => origin().checked_sub(distance),
        }
    }

    /// Returns the time from `earlier` to `self`, or zero if `earlier` is later.
    pub(crate) fn saturating_duration_since(self, earlier: Moment) -> Duration {
        // A negative difference does not fit into the unsigned type.
        Duration::from_nanos(self.0.saturating_sub(earlier.0).try_into().unwrap_or(0))
    }

    /// Adds a span. The result is [`Moment::NEVER`] if it is beyond 292 years.
    pub(crate) fn saturating_add(self, span: impl Into<Span>) -> Moment {
        Moment(self.0.saturating_add(span.into().0))
    }
}

impl From<Instant> for Moment {
    fn from(instant: Instant) -> Moment {
        match instant.checked_duration_since(origin()) {
            Some(after) => Moment(Span::from(after).0),
            None => Moment(-Span::from(origin().saturating_duration_since(instant)).0),
        }
    }
}

/// Takes `None` as [`Moment::NEVER`]: the result of a `checked_add` that overflowed.
impl From<Option<Instant>> for Moment {
    fn from(instant: Option<Instant>) -> Moment {
        instant.map_or(Moment::NEVER, Moment::from)
    }
}

impl Span {
    pub(crate) const ZERO: Span = Span(0);
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Span {
        /// The number of whole seconds that fit, with any number of nanoseconds more.
        const MAX_SECONDS: u64 = (i64::MAX / 1_000_000_000) as u64 - 1;
        match duration.as_secs() {
            // One comparison, because each reading of the clock comes here.
            seconds @ 0..=MAX_SECONDS => {
                let nanoseconds = seconds * 1_000_000_000 + u64::from(duration.subsec_nanos());
                Span(nanoseconds as i64)
            }
            // So that `Duration::MAX` is a span that ends never and not an overflow.
            _ => Span(i64::MAX),
        }
    }
}

/// The instant that moments are counted from.
fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    // One origin for all threads, so that moments could be compared across them.
    *ORIGIN.get_or_init(Instant::now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_exact_and_292_years_are_never() {
        let now = Instant::now();
        const US: Duration = Duration::from_micros(1);
        let year = Duration::from_secs(365 * 86_400);
        for distance in [Duration::from_nanos(1), US, 8 * year] {
            let later = now + distance;
            assert_eq!(Moment::from(later).instant(), Some(later));
            assert!(Moment::from(now) < Moment::from(later));
            let earlier = now.checked_sub(distance);
            if let Some(earlier) = earlier {
                assert_eq!(Moment::from(earlier).instant(), Some(earlier));
                assert!(Moment::from(earlier) < Moment::from(now));
            }
        }
        let centuries = [Some(293 * year), Some(Duration::MAX), None];
        for distance in centuries {
            let far = distance.and_then(|distance| now.checked_add(distance));
            assert!(Moment::from(far).is_never());
            assert_eq!(Moment::from(far).instant(), None);
        }
        assert!(!Moment::from(now + 291 * year).is_never());
        let [early, late] = [Moment::from(now), Moment::from(now + 7 * US)];
        assert_eq!(late.saturating_duration_since(early), 7 * US);
        assert_eq!(early.saturating_duration_since(late), Duration::ZERO);
        assert_eq!(
            Moment(i64::MIN).saturating_duration_since(late),
            Duration::ZERO
        );
        assert!(Moment(i64::MIN).instant() < Some(now));
    }
}
