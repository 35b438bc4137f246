//! What the reactor knows of one registered descriptor, and who waits for it.

use super::waiters::Waiters;
use crate::sys::Trigger;
use std::panic::Location;

/// Where the interests of a descriptor live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tenure {
    /// In the maps, and so in the sets of `select`, of which it has taken part in so many.
    Young(u8),
    /// With the source itself: the kernel's queue watches the descriptor.
    Tenured,
    /// In the maps for good: the queue does not take it, or must not have it.
    Refused,
}

/// What the reactor knows of a registered descriptor.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) generation: u64,
    /// Where the user registered it, for the log.
    pub(super) place: &'static Location<'static>,
    pub(super) tenure: Tenure,
    pub(super) trigger: Trigger,
    /// It turned out to be closed; every operation through this registration fails.
    pub(super) dead: bool,
    /// The peer has closed its end, so an edge may stand for data *and* the end: `select`, which
    /// looks at the state and not at changes, serves the reads from here on.
    pub(super) hung_up: bool,
    /// By direction: the last call would have waited, or took less than was offered. The next waits
    /// until the descriptor is ready before it asks the system again.
    pub(super) blocked: [bool; 2],
    /// By direction: it was said to be ready, and no call has been made since.
    pub(super) hinted: [bool; 2],
    /// By direction: how often it has been ready.
    pub(super) n_ready: [u32; 3],
    /// By direction: who waits, while it is tenured.
    pub(super) parked: [Option<Waiters>; 2],
}

impl Source {
    pub(super) fn new(
        generation: u64,
        place: &'static Location<'static>,
        trigger: Option<Trigger>,
    ) -> Source {
        Source {
            generation,
            place,
            tenure: if trigger.is_some() {
                Tenure::Young(0)
            } else {
                Tenure::Refused
            },
            trigger: trigger.unwrap_or(Trigger::Level),
            dead: false,
            hung_up: false,
            blocked: [false; 2],
            hinted: [false; 2],
            n_ready: [0; 3],
            parked: [None, None],
        }
    }

    /// Whether somebody waits for it in the kernel's queue.
    pub(super) fn has_parked(&self) -> bool {
        self.parked.iter().any(Option::is_some)
    }

    /// Notes that it is ready in the direction of this number.
    pub(super) fn note_ready(&mut self, direction: usize) {
        self.n_ready[direction] = self.n_ready[direction].wrapping_add(1);
        if direction < self.blocked.len() {
            self.blocked[direction] = false;
            self.hinted[direction] = true;
        }
    }
}
