//! Descriptors that are ready and yet have nothing to give.
//!
//! A datagram socket with something in its error queue is readable for as long as nothing takes
//! that out, and so is a pipe that another process always reads first. `select` would report it in
//! each turn, and cost a core. So once this has happened several times in a row, a young
//! descriptor is left out of the sets for a millisecond, then for two, and so on up to 32. The
//! next operation that finds something ends that. (A tenured one waits for its next edge instead.)

use super::{Direction, Reactor};
use crate::event_loop::clock::Moment;
use std::os::fd::RawFd;
use std::time::Duration;

/// The first rest, and how often it doubles.
const FIRST_REST: Duration = Duration::from_millis(1);
const MAX_DOUBLINGS: u8 = 5;

/// A descriptor that is left out of the sets of `select` for a while.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) fd: RawFd,
    pub(super) direction: Direction,
    length: Duration,
    /// Set by the first wait, which knows what time it is.
    end: Option<Moment>,
}

impl Reactor {
    /// Leaves `fd` out for a while. `n_before` such rests came directly before this one.
    pub(super) fn rest(&mut self, fd: RawFd, direction: Direction, n_before: u8) {
        let mut resting = self.resting.iter();
        if !resting.any(|rest| (rest.fd, rest.direction) == (fd, direction)) {
            self.resting.push(Rest {
                fd,
                direction,
                length: FIRST_REST * (1 << n_before.min(MAX_DOUBLINGS)),
                end: None,
            });
        }
    }

    /// Returns true if [`next_rest`](Reactor::next_rest) has anything to say.
    pub(crate) fn has_resting(&self) -> bool {
        !self.resting.is_empty()
    }

    /// Ends the rests that are over at `now`, and returns when the next one is.
    pub(crate) fn next_rest(&mut self, now: Moment) -> Option<Moment> {
        self.resting.retain_mut(|rest| {
            let end = rest.end.get_or_insert(now.saturating_add(rest.length));
            *end > now
        });
        self.resting.iter().filter_map(|rest| rest.end).min()
    }
}
