//! Looks at parked descriptors: one `select` that does not wait, for all of them.
//!
//! The kernel's queue speaks of changes only. Three things it never says: that a guess of ours was
//! wrong, that other code has closed a descriptor, and that other code has put another file behind
//! its number. So the loop looks:
//!
//! - While it is busy, a guess that no edge has ended within [`GUESS_PERIOD`] is looked at, and
//!   about every [`AUDIT_PERIOD`] all descriptors. If no timer is armed, a count of turns decides
//!   when to read the clock, so that a fast loop hardly ever does. Now and then a wait is cut
//!   short, to find out whether the loop still is fast.
//! - When nothing has happened for [`GUESS_PERIOD`], and a task waits on a guess, all guesses are
//!   looked at. After that the loop knows what it guessed, and sleeps.
//! - While it is idle, all descriptors are looked at after the delays of [`IDLE_DELAYS`], so that
//!   an idle loop waits at most five times in a minute.
//!
//! No look is taken if no task waits for a tenured descriptor.

use super::source::{Belief, Tenure};
use super::{ClosedFd, Direction, Reactor};
use crate::event_loop::clock::Moment;
use crate::sys::fd::is_open;
use crate::sys::select::Waited;
use std::os::fd::RawFd;
use std::task::Waker;
use std::time::Duration;

/// How old a guess may become before it is looked at. A peer that sends its next request within
/// this time costs no look: edges end the guesses about it.
const GUESS_PERIOD: Duration = Duration::from_millis(250);

/// Time between two looks for closed descriptors while the loop is busy.
const AUDIT_PERIOD: Duration = Duration::from_secs(2);

/// Delays between looks for closed descriptors while the loop is idle: after 2, 6, 14 and 30
/// seconds, and then every 30.
const IDLE_DELAYS: [Duration; 5] = [
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
    Duration::from_secs(30),
];

/// How long the loop sleeps after the third look, or already after the second, if it has also woken
/// up once or twice for other reasons in this minute.
const LONG_IDLE_DELAYS: [Duration; 2] = [Duration::from_secs(46), Duration::from_secs(54)];

/// The clock is read at least once in this many turns while a task waits for a tenured descriptor.
const MAX_SKIPPED: u32 = 4_096;

/// While the clock is read less often than this, one wait in as many turns is cut short.
const PROBE_GAP: u32 = 64;

/// Length of a wait that is cut short. If it passes, the loop turns slowly, and a count of turns
/// says nothing about time.
const PROBE: Duration = Duration::from_millis(1);

/// When the parked descriptors are looked at, and what was found out about the speed of the loop.
#[derive(Debug)]
pub(super) struct Looks {
    /// A task is parked because of a guess that has not been looked at.
    pub(super) has_guesses: bool,
    /// Nothing happened in the last wait, until it was time for a look.
    is_due: bool,
    /// Number of looks since something happened.
    n_idle: usize,
    /// Number of other wake-ups since something happened: for guesses, and from a cut wait.
    n_extra: usize,
    /// Number of turns until the clock is read, and what that began with.
    n_skipped: u32,
    skips: u32,
    /// Number of turns until a wait is cut short.
    n_to_probe: u32,
    last_clock: Option<Moment>,
    last_step: Option<Moment>,
    last_audit: Option<Moment>,
    /// When a host was asked to turn the loop for the next look.
    promised: Option<Moment>,
}

impl Default for Looks {
    fn default() -> Looks {
        Looks {
            has_guesses: false,
            is_due: false,
            n_idle: 0,
            n_extra: 0,
            n_skipped: MAX_SKIPPED,
            skips: MAX_SKIPPED,
            n_to_probe: PROBE_GAP,
            last_clock: None,
            last_step: None,
            last_audit: None,
            promised: None,
        }
    }
}

impl Reactor {
    /// Returns the length of a wait that is cut short, if this is the time for one.
    pub(super) fn probe(&mut self) -> Option<Duration> {
        let looks = &mut self.looks;
        // After a wait in which nothing happened, the loop is slow for certain.
        if self.n_parked == 0 || looks.skips <= PROBE_GAP || looks.n_idle + looks.n_extra > 0 {
            return None;
        }
        looks.n_to_probe -= 1;
        if looks.n_to_probe > 0 {
            return None;
        }
        // The clock is about to be read once in thousands of turns. If the loop has become slow
        // since that was decided, those turns may take hours, and only a cut wait finds that out.
        looks.n_to_probe = PROBE_GAP;
        Some(PROBE)
    }

    /// Notes that a wait was cut short, and nothing was ready by then.
    pub(super) fn note_slow(&mut self) {
        // It waited a whole millisecond, so reading the clock in every turn is cheap from here on.
        self.looks.n_extra += 1;
        self.looks.n_skipped = 0;
        self.looks.skips = 0;
    }

    /// Returns how long a wait may last before the next look; `None` if none is needed.
    pub(super) fn patience(&self) -> Option<Duration> {
        if self.n_parked == 0 {
            return None;
        }
        if self.looks.has_guesses {
            return Some(GUESS_PERIOD);
        }
        let n_idle = self.looks.n_idle;
        // A loop that goes to sleep waits no more than five times in its first minute.
        match (self.looks.n_extra, n_idle) {
            (1, 3) => Some(LONG_IDLE_DELAYS[0]),
            (2.., 2) => Some(LONG_IDLE_DELAYS[1]),
            _ => Some(IDLE_DELAYS[n_idle.min(IDLE_DELAYS.len() - 1)]),
        }
    }

    /// Returns true if [`next_look`](Reactor::next_look) or [`next_rest`](Reactor::next_rest) has
    /// anything to say.
    pub(crate) fn has_appointments(&self) -> bool {
        self.n_parked > 0 || self.has_resting()
    }

    /// Returns when a host has to turn the loop for the next look, if it is `now`.
    pub(crate) fn next_look(&mut self, now: Moment) -> Option<Moment> {
        let due = now.saturating_add(self.patience()?);
        // A host that asks again and again without turning must not put it off for ever.
        let due = self
            .looks
            .promised
            .map_or(due, |promised| promised.min(due));
        self.looks.promised = Some(due);
        Some(due)
    }

    /// Notes how a wait has ended: at the time for a look, or at least without anything ready.
    pub(super) fn note_wait(&mut self, is_due: bool, is_quiet: bool) {
        self.looks.is_due = is_due;
        // The delays grow only while nothing happens; afterwards the first look comes early again.
        if !is_quiet {
            self.looks.n_idle = 0;
            self.looks.n_extra = 0;
            self.looks.promised = None;
        }
    }

    /// Returns whether [`look_if_due`](Reactor::look_if_due) needs to know what time it is,
    /// although no timer does.
    pub(crate) fn wants_time(&mut self) -> bool {
        if self.n_parked == 0 {
            return false;
        }
        // A host turns the loop when it likes, so a count of turns says nothing about time.
        if self.looks.promised.is_some() {
            return true;
        }
        // Counted down instead of reading the clock: in a turn without system calls a reading would
        // cost more than all the rest of this.
        let is_due = self.looks.n_skipped == 0;
        self.looks.n_skipped = self.looks.n_skipped.saturating_sub(1);
        is_due
    }

    /// Looks at the parked descriptors if it is time, which it hardly ever is. Wakes those who wait
    /// on a wrong guess, and adds the descriptors that were closed to `closed`. Returns whether the
    /// loop was idle, so that it can afford to check also what costs more.
    #[inline]
    pub(crate) fn look_if_due(
        &mut self,
        now: Option<Moment>,
        woken: &mut Vec<Waker>,
        closed: &mut Vec<ClosedFd>,
    ) -> bool {
        if now.is_none() && !self.looks.is_due {
            return false;
        }
        self.look_now(now, woken, closed)
    }

    fn look_now(
        &mut self,
        now: Option<Moment>,
        woken: &mut Vec<Waker>,
        closed: &mut Vec<ClosedFd>,
    ) -> bool {
        let mut is_idle = std::mem::take(&mut self.looks.is_due);
        if let (Some(promised), Some(now)) = (self.looks.promised, now) {
            is_idle |= promised <= now;
        }
        if is_idle && self.n_parked > 0 {
            self.looks.promised = None;
            if self.looks.has_guesses {
                self.looks.n_extra += 1;
            } else {
                self.looks.n_idle += 1;
            }
            self.looks.last_audit = now;
            closed.extend(self.look(true, woken));
            return true;
        }
        if let Some(now) = now.filter(|_| self.n_parked > 0) {
            closed.extend(self.look_while_busy(now, woken));
        }
        false
    }

    fn look_while_busy(&mut self, now: Moment, woken: &mut Vec<Waker>) -> Vec<ClosedFd> {
        let looks = &mut self.looks;
        let since = |last: Option<Moment>| last.map(|last| now.saturating_duration_since(last));
        // The clock is to be read a few times in each period, however fast the loop turns.
        looks.skips = match since(looks.last_clock) {
            Some(time) if time < GUESS_PERIOD / 8 => (2 * looks.skips + 1).min(MAX_SKIPPED),
            Some(time) if time > GUESS_PERIOD / 2 => looks.skips / 4,
            _ => looks.skips,
        };
        looks.n_skipped = looks.skips;
        looks.last_clock = Some(now);
        let is_audit = match since(looks.last_audit) {
            Some(time) => time >= AUDIT_PERIOD,
            // The first turn with a parked task: nothing can have gone wrong yet.
            None => {
                looks.last_audit = Some(now);
                false
            }
        };
        let is_step = match since(looks.last_step) {
            Some(time) => time >= GUESS_PERIOD,
            None => {
                looks.last_step = Some(now);
                false
            }
        };
        if is_step {
            looks.last_step = Some(now);
        }
        if is_audit {
            looks.last_audit = Some(now);
        }
        if is_audit || (is_step && looks.has_guesses && self.doubt_guesses()) {
            return self.look(false, woken);
        }
        Vec::new()
    }

    /// Doubts all guesses, and returns whether one was doubted already.
    fn doubt_guesses(&mut self) -> bool {
        let mut was_doubted = false;
        self.sources.for_each_mut(|_, source| {
            if source.tenure == Tenure::Tenured {
                was_doubted |= source.ways.iter().any(|w| w.belief == Belief::Doubted);
            }
        });
        // In two steps, so that a guess is looked at only if it has stood for a whole period. Peers
        // that answer faster cost no look.
        if !was_doubted {
            self.sources.for_each_mut(|_, source| {
                let ways = source.ways.iter_mut();
                let guesses = ways.filter(|way| way.belief == Belief::Guessed);
                guesses.for_each(|way| way.belief = Belief::Doubted);
            });
        }
        was_doubted
    }

    /// Looks at everything that is parked. Guesses that are right become knowledge: all of them, or
    /// those that were doubted before.
    fn look(&mut self, all_guesses: bool, woken: &mut Vec<Waker>) -> Vec<ClosedFd> {
        let mut closed = Vec::new();
        // `select` takes them all in one call, and goes by their state and not by changes.
        let mut waited = self.select_parked();
        // EBADF names no descriptor, so each is asked about. That is rare.
        if waited == Waited::BadFd {
            let fds: Vec<_> = self.parked_fds().collect();
            closed.extend(fds.into_iter().filter_map(|fd| self.closed_fd(fd)));
            waited = self.select_parked();
        }
        if !matches!(waited, Waited::Ready(_)) {
            // Out of memory, or closed meanwhile: there will be another look.
            return closed;
        }
        // Set again below if a guess is left that was not doubted yet.
        self.looks.has_guesses = false;
        let (sets, waiters, looks) = (&self.sets, &mut self.waiters, &mut self.looks);
        let n_parked = &mut self.n_parked;
        let mut unreported = Vec::new();
        self.sources.for_each_mut(|fd, source| {
            if source.tenure != Tenure::Tenured {
                return;
            }
            let is_ready = [sets.read.contains(fd), sets.write.contains(fd)];
            for (direction, is_ready) in is_ready.into_iter().enumerate() {
                let way = &source.ways[direction];
                if !way.waiting.has_parked() {
                    continue;
                }
                if !way.is_guess() {
                    if is_ready {
                        unreported.push((fd, direction));
                    }
                    continue;
                }
                if is_ready {
                    source.note_ready(direction);
                    *n_parked -= 1;
                    waiters.take_parked(&mut source.ways[direction].waiting, woken);
                } else if all_guesses || way.belief == Belief::Doubted {
                    source.ways[direction].confirm_guess();
                } else {
                    source.ways[direction].belief = Belief::Doubted;
                    looks.has_guesses = true;
                }
            }
        });
        self.check_watches(&unreported);
        closed
    }

    /// Checks that the queue still watches these descriptors, which are ready although it has not
    /// said so.
    ///
    /// Usually their event is on its way. But `dup2` by other code may have put another file behind
    /// a number, of which the queue knows nothing. Only descriptors that are ready are asked about,
    /// because a task would wait for any other file, too.
    fn check_watches(&mut self, unreported: &[(RawFd, usize)]) {
        let Some(queue) = &self.queue else { return };
        let to_write = Direction::Write as usize;
        let mut replaced = unreported
            .iter()
            .filter(|&&(fd, direction)| !queue.watches(fd, direction == to_write));
        if replaced.next().is_some() {
            // All go back to `select`, which takes whatever file a number has now. The old file may
            // live on in a duplicate, and there is no number left to end its watch by.
            self.close_queue();
        }
    }

    /// Asks `select` which parked descriptors are ready, without waiting.
    fn select_parked(&mut self) -> Waited {
        // The sets are only as long as the highest number needs.
        let Some(highest) = self.parked_fds().last() else {
            return Waited::Ready(0);
        };
        let sets = &mut self.sets;
        sets.reset(highest);
        for (fd, source) in self.sources.iter() {
            let [reads, writes] = &source.ways;
            if reads.waiting.has_parked() {
                sets.read.insert(fd);
            }
            if writes.waiting.has_parked() {
                sets.write.insert(fd);
            }
        }
        sets.wait(Some(Duration::ZERO))
    }

    fn parked_fds(&self) -> impl Iterator<Item = RawFd> {
        let parked = self.sources.iter().filter(|(_, s)| s.has_parked());
        parked.map(|(fd, _)| fd)
    }

    /// After EBADF: finds the descriptors in `select` that are no longer open, marks their
    /// registrations dead, and takes their waiters.
    pub(crate) fn find_closed_fds(&mut self) -> Vec<ClosedFd> {
        // A copy, since ending a registration changes the sets.
        let fds = self.young.iter().flat_map(|young| young.fds().iter());
        let fds: Vec<RawFd> = fds.collect();
        // A number that is in several sets is reported once: its first report takes it out of all.
        fds.into_iter()
            .filter_map(|fd| self.closed_fd(fd))
            .collect()
    }

    /// Ends the registration of `fd` if it is no longer open.
    fn closed_fd(&mut self, fd: RawFd) -> Option<ClosedFd> {
        if is_open(fd) || self.sources.get(fd)?.is_dead {
            return None;
        }
        let mut waiters = Vec::new();
        self.take_all(fd, &mut waiters);
        let source = self.sources.get_mut(fd)?;
        // The registration stays until its owner is dropped. Without it, the owner's token would be
        // unknown, and a later one of the same number could not be told from it.
        source.is_dead = true;
        source.tenure = Tenure::Refused;
        Some(ClosedFd {
            fd,
            place: source.place,
            waiters,
        })
    }
}
