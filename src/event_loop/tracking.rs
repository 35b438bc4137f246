//! What needs a clock: how old tasks are, how long polls take, how long the loop sleeps, how late
//! timers are. Kept only after `Builder::track(true)`.
//!
//! Times are those of the real clock, also with a virtual one. Between two waits the clock is read
//! once per poll: the end of one poll is the beginning of the next, so the few instructions in
//! between count as part of it.

use super::clock::Moment;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The upper bounds of the buckets of [`Tracked::lateness`].
const BOUNDS: [Duration; 11] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_secs(1),
];

thread_local! {
    static IS_ON: Cell<bool> = const { Cell::new(false) };
    /// When the last poll or wait has ended.
    static LAST_END: Cell<Option<Instant>> = const { Cell::new(None) };
    static TRACKER: RefCell<Tracker> = const { RefCell::new(Tracker::NEW) };
}

/// What is known of one task.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// When its first poll began since tracking was turned on. A task is polled soon after it is
    /// spawned, so a look at the clock in each spawn would tell little more.
    pub(super) first_seen: Instant,
    /// When its last poll has ended.
    pub(super) last_poll: Option<Instant>,
    pub(super) longest_poll: Duration,
    /// The sum of all its polls.
    pub(super) busy: Duration,
}

struct Tracker {
    /// By the ids of the tasks that have not ended.
    tasks: BTreeMap<u64, Times>,
    busy: Duration,
    idle: Duration,
    longest_poll: Duration,
    /// Number of timers by lateness; the last one counts those beyond all bounds.
    lateness: [u64; BOUNDS.len() + 1],
    lateness_sum: Duration,
}

impl Tracker {
    const NEW: Tracker = Tracker {
        tasks: BTreeMap::new(),
        busy: Duration::ZERO,
        idle: Duration::ZERO,
        longest_poll: Duration::ZERO,
        lateness: [0; BOUNDS.len() + 1],
        lateness_sum: Duration::ZERO,
    };
}

/// What a loop measures by the clock, after [`Builder::track`](crate::Builder::track).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Tracked {
    /// Counter: time in polls, and in what the loop does between them.
    pub busy: Duration,
    /// Counter: time in which the loop has waited.
    pub idle: Duration,
    /// Gauge: the longest poll so far.
    pub longest_poll: Duration,
    /// Counter: how late timers fired, as upper bounds with the number of timers that were not
    /// later. `None` stands for no bound. As Prometheus has it, each count includes those of the
    /// smaller bounds.
    pub lateness: Vec<(Option<Duration>, u64)>,
    /// Counter: the sum of these latenesses.
    pub lateness_sum: Duration,
}

/// Turns tracking on or off for this thread's loop.
pub(super) fn set(on: bool) {
    IS_ON.set(on);
    LAST_END.set(None);
    if !on {
        with_tracker(|tracker| *tracker = Tracker::NEW);
    }
}

/// True if the program wants times to be measured. The other functions are marked as cold, so that
/// a loop that measures nothing pays for this look and no more.
pub(crate) fn is_on() -> bool {
    IS_ON.get()
}

fn with_tracker<R>(f: impl FnOnce(&mut Tracker) -> R) -> Option<R> {
    // The thread may be ending.
    let result = TRACKER.try_with(|tracker| f(&mut tracker.borrow_mut()));
    result.ok()
}

/// Forgets a task that has ended.
#[cold]
pub(super) fn task_ended(id: u64) {
    with_tracker(|tracker| tracker.tasks.remove(&id));
}

/// Returns when the poll that begins now begins.
#[cold]
pub(super) fn poll_begins() -> Instant {
    // After another poll this saves one of two readings.
    let last_end = LAST_END.get().filter(|_| is_on());
    last_end.unwrap_or_else(Instant::now)
}

/// Notes a poll of the task with this id, and returns how long it took.
#[cold]
pub(super) fn poll_ended(id: u64, begin: Instant) -> Duration {
    let now = Instant::now();
    let took = now.saturating_duration_since(begin);
    if is_on() {
        LAST_END.set(Some(now));
        with_tracker(|tracker| {
            tracker.busy += took;
            tracker.longest_poll = tracker.longest_poll.max(took);
            let times = tracker.tasks.entry(id).or_insert(Times {
                first_seen: begin,
                last_poll: None,
                longest_poll: Duration::ZERO,
                busy: Duration::ZERO,
            });
            times.last_poll = Some(now);
            times.longest_poll = times.longest_poll.max(took);
            times.busy += took;
        });
    }
    took
}

/// Notes that the loop may sleep from now on.
pub(super) fn wait_begins() -> Option<Instant> {
    if !is_on() {
        return None;
    }
    let now = Instant::now();
    if let Some(last_end) = LAST_END.get() {
        with_tracker(|tracker| tracker.busy += now.saturating_duration_since(last_end));
    }
    Some(now)
}

/// Notes the end of a wait that began at `begin`.
pub(super) fn wait_ended(begin: Option<Instant>) {
    if let Some(begin) = begin {
        let now = Instant::now();
        LAST_END.set(Some(now));
        with_tracker(|tracker| tracker.idle += now.saturating_duration_since(begin));
    }
}

/// Notes that a timer which was due at `deadline` fires at `now`.
pub(super) fn timer_fires(deadline: Moment, now: Moment) {
    let late = now.saturating_duration_since(deadline);
    let bucket = BOUNDS.partition_point(|bound| *bound < late);
    with_tracker(|tracker| {
        tracker.lateness[bucket] += 1;
        tracker.lateness_sum += late;
    });
}

/// Returns what is known of the task with this id.
pub(super) fn times(id: u64) -> Option<Times> {
    with_tracker(|tracker| tracker.tasks.get(&id).copied()).flatten()
}

/// Returns what was measured, if anything is.
pub(super) fn tracked() -> Option<Tracked> {
    let tracked = is_on().then(|| {
        with_tracker(|tracker| {
            let mut sum = 0;
            let bounds = BOUNDS.into_iter().map(Some).chain([None]);
            let lateness = bounds.zip(tracker.lateness).map(|(bound, n)| {
                sum += n;
                (bound, sum)
            });
            Tracked {
                busy: tracker.busy,
                idle: tracker.idle,
                longest_poll: tracker.longest_poll,
                lateness: lateness.collect(),
                lateness_sum: tracker.lateness_sum,
            }
        })
    });
    tracked.flatten()
}
