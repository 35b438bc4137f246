//! What the reactor knows of one registered descriptor.

use super::waiters::Waiting;
use super::{Direction, Token};
use crate::sys::Trigger;
use std::panic::Location;

/// Maximum number of reads in a row that are made to find out that a socket is empty, before it is
/// assumed again.
const MAX_DOUBTS: u8 = 31;

/// Number of times in a row that a descriptor may be ready while the call says `WouldBlock`, before
/// the reactor backs off. The first times are other readers that were faster, or an edge that had
/// passed already.
pub(super) const MAX_FALSE: u8 = 3;

/// After this many, a tenured descriptor waits for its next edge, and is not looked at any more.
pub(super) const MAX_FALSE_LOOKS: u8 = 12;

/// After this many, a tenured descriptor waits in `select`, which leaves it out for a while: its
/// edges keep coming, although there is never anything to do.
pub(super) const MAX_FALSE_EDGES: u8 = 24;

/// Where the interests of a descriptor live.
///
/// ```text
///            MAX_SELECTS waits             the queue accepts it
///   Young ------------------------> asked ----------------------> Tenured
///     ^                               | the queue refuses it         |
///     |                               v                              |
///     |                            Refused <-------------------------+
///     |                                      the descriptor is closed
///     +--------------------------------------------------------------+
///        the queue is given up, or reports a listener without accept
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tenure {
    /// In the sets of `select`, of which it has been a member this many times.
    Young(u8),
    /// Parked: the kernel's queue watches the descriptor.
    Tenured,
    /// In `select` for good: the queue does not accept it, or must not have it.
    Refused,
}

/// What is believed about the next call in one direction.
///
/// ```text
///              the call said WouldBlock                    it is ready
///   Unknown ------------------------------------> Blocked ------------> Unknown
///      |                                             ^
///      | a TCP call took less than was offered       | a look: not ready
///      v                                             |
///   Guessed -------------------------------------> Doubted
///      |           time passes, no edge              |
///      |                                             | a look: it is ready
///      +---------------- it is ready ----------------+---------------> Unknown
/// ```
///
/// A guess may be wrong: urgent data cuts a read short, and so may a protocol below that we know
/// nothing of. So a guess that a task waits on is looked at once, by one `select` for all of them,
/// and then it is knowledge. Only tenured descriptors are guessed about. For a young one, and for a
/// listener, "wait first" is harmless: what watches them goes by their state, not by changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Belief {
    /// The next call may find something, so it is made.
    Unknown,
    /// Wait first: the last call said `WouldBlock`, and an edge will follow.
    Blocked,
    /// Wait first: the last call took less than was offered, so the socket is probably empty (or,
    /// for writes, full).
    Guessed,
    /// A guess that is older than the last look.
    Doubted,
}

/// One direction of a registered descriptor, to read or to write.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) belief: Belief,
    /// The descriptor was said to be ready, and no call has been made since.
    pub(super) is_hinted: bool,
    /// The last call took less than was offered. A single `WouldBlock` is then believed.
    pub(super) was_short: bool,
    /// Number of times in a row that it was ready and the call said `WouldBlock`.
    pub(super) n_false: u8,
    /// Number of times that a caller was told that it is ready, and made calls of its own. Wraps
    /// around.
    pub(super) n_reports: u8,
    /// Number of guesses still to be left out, because looks at earlier guesses were in vain.
    n_doubts: u8,
    /// What `n_doubts` began with; doubles with each look in vain.
    last_doubts: u8,
    pub(super) waiting: Waiting,
}

impl Way {
    const NEW: Way = Way {
        belief: Belief::Unknown,
        is_hinted: false,
        was_short: false,
        n_false: 0,
        n_reports: 0,
        n_doubts: 0,
        last_doubts: 0,
        waiting: Waiting::EMPTY,
    };

    /// Assumes that the next call would block, unless such guesses have cost more than they saved.
    ///
    /// A peer that answers at once ends the guess before it is looked at, which saves a call. With
    /// a slow one each guess would cost a look, so a second call is made instead.
    pub(super) fn guess(&mut self) {
        // Also where no guess is made: it says that a single `WouldBlock` is what to expect.
        self.was_short = true;
        match self.n_doubts.checked_sub(1) {
            None => self.belief = Belief::Guessed,
            Some(n_doubts) => self.n_doubts = n_doubts,
        }
    }

    /// Notes that a look has found a guess to be right.
    pub(super) fn confirm_guess(&mut self) {
        // From here on only an edge or an end of the registration changes it, so the loop can
        // sleep.
        self.belief = Belief::Blocked;
        self.last_doubts = (2 * self.last_doubts + 1).min(MAX_DOUBTS);
        self.n_doubts = self.last_doubts;
    }

    /// True if the next call is not made before the descriptor is ready, only because of a guess.
    pub(super) fn is_guess(&self) -> bool {
        matches!(self.belief, Belief::Guessed | Belief::Doubted)
    }

    fn note_ready(&mut self) {
        // An edge came before any look, so guesses about this peer pay off.
        if self.is_guess() {
            self.last_doubts = 0;
        }
        self.belief = Belief::Unknown;
        self.is_hinted = true;
    }
}

/// What the reactor knows of a registered descriptor.
#[derive(Debug)]
pub(super) struct Source {
    /// Tells this registration from earlier ones of the same number.
    pub(super) generation: u64,
    /// Where the user registered it, for the log.
    pub(super) place: &'static Location<'static>,
    pub(super) tenure: Tenure,
    /// How the kernel's queue watches it, if it does.
    pub(super) trigger: Trigger,
    /// It turned out to be closed; every operation through this registration fails.
    pub(super) is_dead: bool,
    /// The peer has closed its end, so an edge may stand for data *and* the end: `select`, which
    /// goes by the state and not by changes, serves the reads from here on.
    pub(super) hung_up: bool,
    /// Urgent data has come. A read stops before it, with more to read behind it, so nothing is
    /// guessed about this connection from here on.
    pub(super) is_urgent: bool,
    /// To read and to write.
    pub(super) ways: [Way; 2],
    /// Who waits for an exceptional condition. Hardly any program does, so it takes no room.
    excepting: Option<Box<Waiting>>,
    /// By direction: how often it has been ready.
    pub(super) n_ready: [u32; 3],
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
            is_dead: false,
            hung_up: false,
            is_urgent: false,
            ways: [Way::NEW, Way::NEW],
            excepting: None,
            n_ready: [0; 3],
        }
    }

    /// Returns whether this is the registration that `token` names.
    pub(super) fn is_current(&self, token: Token) -> bool {
        self.generation == token.generation
    }

    /// Returns whether a task that waits in `direction` is parked, and not served by `select`.
    pub(super) fn parks(&self, direction: Direction, needs_select: bool) -> bool {
        // After the peer has hung up, one edge may have stood for the data and for the end.
        let end_may_follow = direction == Direction::Read && self.hung_up;
        self.tenure == Tenure::Tenured && !needs_select && !end_may_follow
    }

    /// Who waits in `direction`; `None` if no task ever did.
    pub(super) fn waiting(&self, direction: Direction) -> Option<&Waiting> {
        match self.ways.get(direction as usize) {
            Some(way) => Some(&way.waiting),
            None => self.excepting.as_deref(),
        }
    }

    /// Who waits in `direction`, to be changed.
    #[inline]
    pub(super) fn waiting_mut(&mut self, direction: Direction) -> &mut Waiting {
        match self.ways.get_mut(direction as usize) {
            Some(way) => &mut way.waiting,
            None => self
                .excepting
                .get_or_insert_with(|| Box::new(Waiting::EMPTY)),
        }
    }

    /// Returns whether a task that waits to read or to write may have missed an edge, so that the
    /// descriptor must stay in `select`.
    pub(super) fn needs_select(&self) -> bool {
        self.ways.iter().any(|way| way.waiting.needs_select())
    }

    /// Returns whether a task waits for it, in `select` or in the kernel's queue.
    pub(super) fn is_awaited(&self) -> bool {
        let excepting = self.excepting.as_ref();
        self.ways.iter().any(|way| !way.waiting.is_empty())
            || excepting.is_some_and(|waiting| !waiting.is_empty())
    }

    /// Returns whether a task waits for it in the kernel's queue.
    pub(super) fn has_parked(&self) -> bool {
        self.ways.iter().any(|way| way.waiting.has_parked())
    }

    /// Notes that it is ready in the direction of this number.
    pub(super) fn note_ready(&mut self, direction: usize) {
        // Counted, and not a flag, so that of several tasks in `readable()` each sees the change.
        self.n_ready[direction] = self.n_ready[direction].wrapping_add(1);
        if let Some(way) = self.ways.get_mut(direction) {
            way.note_ready();
        }
    }
}
