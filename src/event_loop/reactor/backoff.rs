//! Descriptors that are ready and yet have nothing to give.
//!
//! A datagram socket with something in its error queue is readable for as long as nothing takes
//! that out, and so is a pipe that another process always reads first. `select` would report it in
//! each turn, and cost a core. So once this has happened several times in a row, a young
//! descriptor is left out of the sets for a millisecond, then for two, and so on up to 32. The
//! next operation that finds something ends that. (A tenured one waits for its next edge instead.)
//!
//! Callers of `readable` read by calls of their own, whose outcome is not known here. For them,
//! `poll(2)` tells whether there is more than an error.

use super::source::MAX_FALSE;
use super::{Direction, Reactor, Token};
use crate::event_loop::clock::Moment;
use crate::sys::select::has_only_error;
use std::os::fd::RawFd;
use std::time::Duration;

/// The first rest, and how often it doubles.
const FIRST_REST: Duration = Duration::from_millis(1);
const MAX_DOUBLINGS: u8 = 5;

/// Of the callers who are told that a descriptor is readable and read by calls of their own, each
/// eighth makes us look whether there is anything to read. A look costs a system call.
const REPORTS_PER_LOOK: u8 = 8;

/// A descriptor that is left out of the sets of `select` for a while.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) fd: RawFd,
    pub(super) direction: Direction,
    length: Duration,
    /// Set by the first wait, which knows what time it is.
    end: Option<Moment>,
}

/// Leaves `fd` out for a while. `n_before` such rests came directly before this one.
#[cold]
pub(super) fn rest(resting: &mut Vec<Rest>, fd: RawFd, direction: Direction, n_before: u8) {
    let is_known = |rest: &Rest| (rest.fd, rest.direction) == (fd, direction);
    if !resting.iter().any(is_known) {
        resting.push(Rest {
            fd,
            direction,
            length: FIRST_REST * (1 << n_before.min(MAX_DOUBLINGS)),
            end: None,
        });
    }
}

impl Reactor {
    /// Notes that a caller is about to be told that a descriptor is ready, and acts on it by calls
    /// of its own. Returns false if the caller has to wait for it once more, because all that there
    /// is to have is an error that reading does not take away.
    pub(crate) fn note_report(&mut self, token: Token, direction: Direction) -> bool {
        let source = self.source_mut(token);
        let Some(way) = source.and_then(|source| source.ways.get_mut(direction as usize)) else {
            return true;
        };
        // Should the caller take all there is, a task that reads through this source is not to
        // think that it was told wrong.
        let was_awaited = std::mem::take(&mut way.is_hinted);
        way.n_reports = way.n_reports.wrapping_add(1);
        let is_look = way.n_false > 0 || way.n_reports % REPORTS_PER_LOOK == 0;
        if direction != Direction::Read || !is_look {
            return true;
        }
        if !has_only_error(token.fd) {
            way.n_false = 0;
            return true;
        }
        way.n_false = way.n_false.saturating_add(1);
        // The error may also be one that the next call returns, so it is reported after each rest.
        way.n_false < MAX_FALSE || was_awaited
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
