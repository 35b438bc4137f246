//! How much later than its deadline a timer may fire, so that one wake-up serves several.
//!
//! A wake-up costs about 40 µs of CPU on a virtual machine, far more than a timer. So the more
//! often timers wake the loop, the more of them are served together.

use super::clock::Moment;
use std::time::Duration;

/// The slack of a loop that timers wake now and then.
const MIN_SLACK: Duration = Duration::from_micros(100);

/// The slack of a loop that timers wake without a pause: it then wakes up about 2,000 times a
/// second.
const MAX_SLACK: Duration = Duration::from_micros(500);

/// Wake-ups that follow each other within this time make the slack grow.
const PAUSE: Duration = Duration::from_millis(1);

/// The slack of one loop.
#[derive(Debug)]
pub(crate) struct Slack {
    /// What the program has chosen.
    chosen: Option<Duration>,
    /// What the frequency of wake-ups has led to.
    found: Duration,
    /// When a timer has last woken the loop.
    last: Option<Moment>,
}

impl Slack {
    pub(super) const NEW: Slack = Slack {
        chosen: None,
        found: MIN_SLACK,
        last: None,
    };

    /// Sets the slack, or with `None` has it found.
    pub(crate) fn choose(&mut self, chosen: Option<Duration>) {
        self.chosen = chosen;
    }

    pub(super) fn get(&self) -> Duration {
        self.chosen.unwrap_or(self.found)
    }

    /// Notes that a timer has fired at `now`.
    pub(super) fn note_wake_up(&mut self, now: Moment) {
        let is_frequent = self
            .last
            .is_some_and(|last| now < last.saturating_add(PAUSE));
        self.last = Some(now);
        // It grows in steps, so that two timers in a row change little, and falls at once.
        self.found = match is_frequent {
            true => (self.found * 5 / 4).min(MAX_SLACK),
            false => MIN_SLACK,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_wake_ups_make_the_slack_grow_and_a_pause_ends_that() {
        let (mut slack, mut now) = (Slack::NEW, Moment::now());
        let mut after = |slack: &mut Slack, us| {
            now = now.saturating_add(Duration::from_micros(us));
            slack.note_wake_up(now);
            slack.get()
        };
        for _ in 0..100 {
            assert_eq!(after(&mut slack, 1_000), MIN_SLACK);
        }
        let grown: Vec<_> = (0..20).map(|_| after(&mut slack, 999)).collect();
        assert!(grown[0] < MIN_SLACK * 2 && grown.is_sorted());
        assert_eq!(grown[19], MAX_SLACK);
        assert_eq!(after(&mut slack, 1_000), MIN_SLACK);
        slack.choose(Some(Duration::ZERO));
        assert_eq!(after(&mut slack, 1), Duration::ZERO);
    }
}
