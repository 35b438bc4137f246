//! What needs a clock: how old tasks are, how long polls take, how long the loop sleeps, how late
//! timers are. Kept only after `Builder::track(true)`.
//!
//! Times are those of the real clock, also with a virtual one. Between two waits the clock is read
//! once per poll: the end of one poll is the beginning of the next, so the few instructions in
//! between count as part of it.
//!
//! Cheaper ways were measured, and each is blind to a single long poll, which is what people look
//! for: to time one poll of 16 adds 33 instructions to each poll in place of 200, and the coarse
//! clock of Linux, which costs a sixth of the exact one in time, stands still for 1 to 10 ms.

use super::clock::Moment;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
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

/// A table of this many tasks is not made smaller.
const MIN_CAPACITY: usize = 64;

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
    longest_poll: Nanos,
    /// The sum of all its polls.
    busy: Nanos,
}

impl Times {
    pub(super) fn longest_poll(&self) -> Duration {
        Duration::from_nanos(self.longest_poll)
    }

    pub(super) fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy)
    }
}

/// A span in nanoseconds, up to 584 years. Each poll adds to several sums, and the addition of a
/// `Duration`, which checks for carry and overflow, takes ten instructions more.
type Nanos = u64;

fn nanos(span: Duration) -> Nanos {
    // The seconds of a span between two looks at the clock do not overflow.
    span.as_secs() * 1_000_000_000 + Nanos::from(span.subsec_nanos())
}

/// Spreads the ids of tasks, which are counted up and chosen by no peer.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u64(&mut self, id: u64) {
        // The golden ratio: the upper bits differ for ids in sequence.
        self.0 = (self.0 ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

struct Tracker {
    /// By the ids of the tasks that have not ended. Each poll looks up its task, and a `BTreeMap`
    /// took a quarter of all instructions for that, with a thousand tasks.
    tasks: HashMap<u64, Times, BuildHasherDefault<IdHasher>>,
    busy: Nanos,
    idle: Nanos,
    longest_poll: Nanos,
    /// Number of timers by lateness; the last one counts those beyond all bounds.
    lateness: [u64; BOUNDS.len() + 1],
    lateness_sum: Duration,
}

impl Tracker {
    const NEW: Tracker = Tracker {
        tasks: HashMap::with_hasher(BuildHasherDefault::new()),
        busy: 0,
        idle: 0,
        longest_poll: 0,
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
    with_tracker(|tracker| {
        let tasks = &mut tracker.tasks;
        tasks.remove(&id);
        // A table that was large for once gives its memory back.
        if tasks.capacity() > MIN_CAPACITY && tasks.len() < tasks.capacity() / 8 {
            tasks.shrink_to(2 * tasks.len());
        }
    });
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
        let took = nanos(took);
        with_tracker(|tracker| {
            tracker.busy += took;
            tracker.longest_poll = tracker.longest_poll.max(took);
            let times = tracker.tasks.entry(id).or_insert(Times {
                first_seen: begin,
                last_poll: None,
                longest_poll: 0,
                busy: 0,
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
        with_tracker(|tracker| tracker.busy += nanos(now.saturating_duration_since(last_end)));
    }
    Some(now)
}

/// Notes the end of a wait that began at `begin`.
pub(super) fn wait_ended(begin: Option<Instant>) {
    if let Some(begin) = begin {
        let now = Instant::now();
        LAST_END.set(Some(now));
        with_tracker(|tracker| tracker.idle += nanos(now.saturating_duration_since(begin)));
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
                busy: Duration::from_nanos(tracker.busy),
                idle: Duration::from_nanos(tracker.idle),
                longest_poll: Duration::from_nanos(tracker.longest_poll),
                lateness: lateness.collect(),
                lateness_sum: tracker.lateness_sum,
            }
        })
    });
    tracked.flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_have_ended_leave_no_memory_behind() {
        set(true);
        let n_tasks = 10_000;
        for id in 0..n_tasks {
            let _ = poll_ended(id, Instant::now());
        }
        assert!((0..n_tasks).all(|id| times(id).is_some()));
        (1..n_tasks).for_each(task_ended);
        let capacity = with_tracker(|tracker| tracker.tasks.capacity());
        assert!(capacity <= Some(2 * MIN_CAPACITY), "{capacity:?}");
        assert!(times(0).is_some() && times(1).is_none());
        set(false);
    }
}
