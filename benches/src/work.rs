//! The work inside one process, written once for every runtime.
//!
//! Each piece does a part of the work first, so that what is measured has its memory and its
//! threads already, and asserts its result.

use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt;
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::histogram::Histogram;
use crate::rows::Inside;
use crate::runtimes::{Blocking, Executor, Timed};
use crate::sample::{Meter, Sample};
use crate::sys;

/// A future that is pending once, and wakes itself at once.
#[derive(Default)]
pub(crate) struct YieldOnce(bool);

impl Future for YieldOnce {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// How much of a piece of work is done.
#[derive(Clone, Copy)]
pub(crate) enum Amount {
    /// The usual amount divided by this, after a warm-up of a tenth as much.
    Timed { scale: usize },
    /// This many repetitions and no warm-up, so that a process that does twice as many executes
    /// the instructions of exactly that many more.
    Counted { n: usize },
}

impl Amount {
    /// The repetitions before the measurement starts, and those that are measured, of work that
    /// is usually repeated `usual` times.
    fn of(self, usual: usize) -> (usize, usize) {
        match self {
            Amount::Timed { scale } => (usual / scale / 10, usual / scale),
            Amount::Counted { n } => (0, n),
        }
    }
}

/// Tasks that a counted run spawns before it joins the first of them.
const COUNTED_SPAWNS: usize = 1_000;

/// Sleeps that a counted run starts at once. valgrind makes a process about 50 times slower; ten
/// thousand sleeps in a second keep it as busy as 100,000 keep a process without valgrind.
const COUNTED_SLEEPS: usize = 10_000;

/// What needs nothing but tasks. `None`: it needs more.
pub(crate) fn of_executor<E: Executor>(work: Inside, amount: Amount) -> Option<Sample> {
    Some(match work {
        Inside::Spawn => match amount {
            Amount::Timed { scale } => E::block_on(spawn::<E>(100_000 / scale, (1, 3))),
            Amount::Counted { n } => {
                E::block_on(spawn::<E>(COUNTED_SPAWNS, (0, n / COUNTED_SPAWNS)))
            }
        },
        Inside::Yield => E::block_on(yields::<E>(amount.of(100_000))),
        Inside::Mpsc => E::block_on(mpsc_hops::<E>(amount.of(500_000))),
        Inside::Oneshot => E::block_on(oneshot_hops::<E>(amount.of(300_000))),
        Inside::ThreadWake => E::block_on(thread_wakes(amount.of(50_000))),
        _ => return None,
    })
}

/// What needs a clock. `None`: it needs something else.
pub(crate) fn of_timed<E: Timed>(work: Inside, amount: Amount) -> Option<Sample> {
    Some(match (work, amount) {
        (Inside::TimeoutReady, _) => E::block_on(timeouts_ready::<E>(amount.of(1_000_000))),
        (Inside::TimeoutPending, _) => E::block_on(timeouts_pending::<E>(amount.of(500_000))),
        (Inside::Sleeps, Amount::Timed { .. }) => E::block_on(sleeps::<E>(100_000)),
        (Inside::Sleeps, Amount::Counted { n }) => {
            E::block_on(sleeps_without_clock::<E>(n / COUNTED_SLEEPS))
        }
        (Inside::TaskMemory, _) => E::block_on(task_memory::<E>(100_000)),
        _ => return None,
    })
}

/// What needs a pool of threads. `None`: it needs something else.
pub(crate) fn of_blocking<E: Blocking>(work: Inside, amount: Amount) -> Option<Sample> {
    match work {
        Inside::Blocking => Some(E::block_on(blocking::<E>(amount.of(50_000)))),
        _ => None,
    }
}

/// Spawns `n` tasks and joins them, as often as `repetitions` says.
async fn spawn<E: Executor>(n: usize, repetitions: (usize, usize)) -> Sample {
    let (before, measured) = repetitions;
    for _ in 0..before {
        spawn_and_join::<E>(n).await;
    }
    let meter = Meter::start();
    for _ in 0..measured {
        spawn_and_join::<E>(n).await;
    }
    meter.stop((measured * n) as u64)
}

async fn spawn_and_join<E: Executor>(n: usize) {
    let tasks: Vec<_> = (0..n).map(|i| E::spawn(async move { i })).collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await;
    }
    assert_eq!(sum, n * n.saturating_sub(1) / 2);
}

async fn yields<E: Executor>((before, n): (usize, usize)) -> Sample {
    sixteen_yield::<E>(before).await;
    let meter = Meter::start();
    sixteen_yield::<E>(n).await;
    meter.stop(16 * n as u64)
}

async fn sixteen_yield<E: Executor>(n: usize) {
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            E::spawn(async move {
                for _ in 0..n {
                    E::yield_now().await;
                }
                n
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await, n);
    }
}

async fn mpsc_hops<E: Executor>((before, n): (usize, usize)) -> Sample {
    let (to, mut inbox) = mpsc::unbounded::<usize>();
    let (back, mut replies) = mpsc::unbounded::<usize>();
    E::detach(async move {
        while let Some(word) = inbox.next().await {
            if back.unbounded_send(word + 1).is_err() {
                return;
            }
        }
    });
    let mut meter = Meter::start();
    for i in 0..before + n {
        if i == before {
            meter = Meter::start();
        }
        to.unbounded_send(i).expect("the other task listens");
        assert_eq!(replies.next().await, Some(i + 1));
    }
    meter.stop(2 * n as u64)
}

async fn oneshot_hops<E: Executor>((before, n): (usize, usize)) -> Sample {
    let (to, mut inbox) = mpsc::unbounded::<(usize, oneshot::Sender<usize>)>();
    E::detach(async move {
        while let Some((word, reply)) = inbox.next().await {
            if reply.send(word + 1).is_err() {
                return;
            }
        }
    });
    let mut meter = Meter::start();
    for i in 0..before + n {
        if i == before {
            meter = Meter::start();
        }
        let (reply, answer) = oneshot::channel();
        to.unbounded_send((i, reply))
            .expect("the other task listens");
        assert_eq!(answer.await, Ok(i + 1));
    }
    meter.stop(n as u64)
}

async fn thread_wakes((before, n): (usize, usize)) -> Sample {
    let (to, inbox) = std::sync::mpsc::channel::<(usize, oneshot::Sender<usize>)>();
    let thread = std::thread::spawn(move || {
        for (word, reply) in inbox {
            if reply.send(word + 1).is_err() {
                return;
            }
        }
    });
    let mut meter = Meter::start();
    for i in 0..before + n {
        if i == before {
            meter = Meter::start();
        }
        let (reply, answer) = oneshot::channel();
        to.send((i, reply)).expect("the thread listens");
        assert_eq!(answer.await, Ok(i + 1));
    }
    let sample = meter.stop(n as u64);
    drop(to);
    thread.join().expect("the thread does not panic");
    sample
}

async fn blocking<E: Blocking>((before, n): (usize, usize)) -> Sample {
    let mut meter = Meter::start();
    for i in 0..before + n {
        if i == before {
            meter = Meter::start();
        }
        assert_eq!(E::unblock(move || i + 1).await, i + 1);
    }
    meter.stop(n as u64)
}

async fn timeouts_ready<E: Timed>((before, n): (usize, usize)) -> Sample {
    let mut meter = Meter::start();
    for i in 0..before + n {
        if i == before {
            meter = Meter::start();
        }
        let word = E::timeout(Duration::from_secs(60), async move { i }).await;
        assert_eq!(word, Some(i));
    }
    meter.stop(n as u64)
}

async fn timeouts_pending<E: Timed>((before, n): (usize, usize)) -> Sample {
    let mut meter = Meter::start();
    for i in 0..before + n {
        if i == before {
            meter = Meter::start();
        }
        let once = YieldOnce::default();
        assert_eq!(E::timeout(Duration::from_secs(60), once).await, Some(()));
    }
    meter.stop(n as u64)
}

/// Lengths of sleep that look random and are the same for every runtime.
fn lengths(n: usize) -> impl Iterator<Item = Duration> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..n).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Duration::from_micros(1_000 + state % 999_000)
    })
}

async fn sleeps<E: Timed>(n: usize) -> Sample {
    let lateness = Rc::new(RefCell::new(Histogram::new()));
    let meter = Meter::start();
    let tasks: Vec<_> = lengths(n)
        .map(|length| {
            let lateness = Rc::clone(&lateness);
            E::spawn(async move {
                // A sleep begins when it is first polled; some runtimes count from its making.
                let deadline = Instant::now() + length;
                E::sleep(length).await;
                let late = Instant::now().checked_duration_since(deadline);
                // Two runtimes round down to a tick; a sleep that is early counts as on time.
                lateness.borrow_mut().add(late.unwrap_or_default());
            })
        })
        .collect();
    for task in tasks {
        task.await;
    }
    let mut sample = meter.stop(n as u64);
    sample.set_percentiles(&lateness.borrow());
    sample
}

/// The work of `sleeps` without its measuring of lateness, so that the instructions counted are
/// those of the runtime.
async fn sleeps_without_clock<E: Timed>(repetitions: usize) -> Sample {
    let meter = Meter::start();
    for _ in 0..repetitions {
        let tasks: Vec<_> = lengths(COUNTED_SLEEPS)
            .map(|length| E::spawn(async move { E::sleep(length).await }))
            .collect();
        for task in tasks {
            task.await;
        }
    }
    meter.stop((repetitions * COUNTED_SLEEPS) as u64)
}

async fn task_memory<E: Timed>(n: usize) -> Sample {
    let this = std::process::id();
    sleep_for_ever::<E>(1_000).await;
    let before = sys::resident(this).expect("smaps_rollup can be read");
    sleep_for_ever::<E>(n).await;
    let after = sys::resident(this).expect("smaps_rollup can be read");
    let mut sample = Sample::default();
    sample.set("cost", after.saturating_sub(before) as f64 / n as f64);
    sample.set("operations", n as f64);
    sample
}

/// How many tasks have not begun yet, and whom the last of them tells.
type Left = RefCell<(usize, Option<oneshot::Sender<()>>)>;

fn begin(left: &Left) {
    let mut left = left.borrow_mut();
    left.0 -= 1;
    if left.0 == 0 {
        let last = left.1.take().expect("only one task is the last");
        last.send(()).expect("the main task waits");
    }
}

/// Returns when all tasks, of which there are as many as asked for, have begun to sleep.
async fn sleep_for_ever<E: Timed>(n: usize) {
    let (last, begun) = oneshot::channel();
    let left = Rc::new(RefCell::new((n, Some(last))));
    for _ in 0..n {
        let left = Rc::clone(&left);
        E::detach(async move {
            begin(&left);
            drop(left);
            E::sleep(Duration::from_secs(3_600)).await;
        });
    }
    begun.await.expect("the last task tells");
}
