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

/// What needs nothing but tasks. `None`: it needs more.
pub(crate) fn of_executor<E: Executor>(work: Inside, scale: usize) -> Option<Sample> {
    Some(match work {
        Inside::Spawn => E::block_on(spawn::<E>(100_000 / scale)),
        Inside::Yield => E::block_on(yields::<E>(100_000 / scale)),
        Inside::Mpsc => E::block_on(mpsc_hops::<E>(500_000 / scale)),
        Inside::Oneshot => E::block_on(oneshot_hops::<E>(300_000 / scale)),
        Inside::ThreadWake => E::block_on(thread_wakes(50_000 / scale)),
        _ => return None,
    })
}

/// What needs a clock. `None`: it needs something else.
pub(crate) fn of_timed<E: Timed>(work: Inside, scale: usize) -> Option<Sample> {
    Some(match work {
        Inside::TimeoutReady => E::block_on(timeouts_ready::<E>(1_000_000 / scale)),
        Inside::TimeoutPending => E::block_on(timeouts_pending::<E>(500_000 / scale)),
        Inside::Sleeps => E::block_on(sleeps::<E>(100_000)),
        Inside::TaskMemory => E::block_on(task_memory::<E>(100_000)),
        _ => return None,
    })
}

/// What needs a pool of threads. `None`: it needs something else.
pub(crate) fn of_blocking<E: Blocking>(work: Inside, scale: usize) -> Option<Sample> {
    match work {
        Inside::Blocking => Some(E::block_on(blocking::<E>(50_000 / scale))),
        _ => None,
    }
}

async fn spawn<E: Executor>(n: usize) -> Sample {
    spawn_and_join::<E>(n).await;
    let meter = Meter::start();
    for _ in 0..3 {
        spawn_and_join::<E>(n).await;
    }
    meter.stop(3 * n as u64)
}

async fn spawn_and_join<E: Executor>(n: usize) {
    let tasks: Vec<_> = (0..n).map(|i| E::spawn(async move { i })).collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await;
    }
    assert_eq!(sum, n * n.saturating_sub(1) / 2);
}

async fn yields<E: Executor>(n: usize) -> Sample {
    sixteen_yield::<E>(n / 10).await;
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

async fn mpsc_hops<E: Executor>(n: usize) -> Sample {
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
    for i in 0..n + n / 10 {
        if i == n / 10 {
            meter = Meter::start();
        }
        to.unbounded_send(i).expect("the other task listens");
        assert_eq!(replies.next().await, Some(i + 1));
    }
    meter.stop(2 * n as u64)
}

async fn oneshot_hops<E: Executor>(n: usize) -> Sample {
    let (to, mut inbox) = mpsc::unbounded::<(usize, oneshot::Sender<usize>)>();
    E::detach(async move {
        while let Some((word, reply)) = inbox.next().await {
            if reply.send(word + 1).is_err() {
                return;
            }
        }
    });
    let mut meter = Meter::start();
    for i in 0..n + n / 10 {
        if i == n / 10 {
            meter = Meter::start();
        }
        let (reply, answer) = oneshot::channel();
        to.unbounded_send((i, reply))
            .expect("the other task listens");
        assert_eq!(answer.await, Ok(i + 1));
    }
    meter.stop(n as u64)
}

async fn thread_wakes(n: usize) -> Sample {
    let (to, inbox) = std::sync::mpsc::channel::<(usize, oneshot::Sender<usize>)>();
    let thread = std::thread::spawn(move || {
        for (word, reply) in inbox {
            if reply.send(word + 1).is_err() {
                return;
            }
        }
    });
    let mut meter = Meter::start();
    for i in 0..n + n / 10 {
        if i == n / 10 {
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

async fn blocking<E: Blocking>(n: usize) -> Sample {
    let mut meter = Meter::start();
    for i in 0..n + n / 10 {
        if i == n / 10 {
            meter = Meter::start();
        }
        assert_eq!(E::unblock(move || i + 1).await, i + 1);
    }
    meter.stop(n as u64)
}

async fn timeouts_ready<E: Timed>(n: usize) -> Sample {
    let mut meter = Meter::start();
    for i in 0..n + n / 10 {
        if i == n / 10 {
            meter = Meter::start();
        }
        let word = E::timeout(Duration::from_secs(60), async move { i }).await;
        assert_eq!(word, Some(i));
    }
    meter.stop(n as u64)
}

async fn timeouts_pending<E: Timed>(n: usize) -> Sample {
    let mut meter = Meter::start();
    for i in 0..n + n / 10 {
        if i == n / 10 {
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

/// Returns when all of so many tasks have begun to sleep.
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
