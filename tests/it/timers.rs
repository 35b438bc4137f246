//! Sleeps, limits and intervals.

use crate::util::{Count, Trace, poll_with, round_trips_in, within};
use fahrenheit::prelude::*;
use fahrenheit::time::{
    MissedTickBehavior, Sleep, interval, interval_at, sleep, sleep_until, timeout, timeout_at,
};
use fahrenheit::{run, spawn, yield_now};
use futures_util::future::{join_all, poll_fn};
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

/// Durations of every size, the awkward ones first, then pseudo-random ones from a fixed seed.
fn durations(n: usize) -> impl Iterator<Item = Duration> {
    let awkward = [
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_nanos(999),
        Duration::from_nanos(1_001),
        Duration::from_millis(1),
        Duration::new(100_000_000, 0) + Duration::from_secs(1),
        Duration::from_secs((1 << 31) - 1),
        Duration::from_secs((1 << 32) + 1),
        Duration::from_secs(i64::MAX as u64),
        Duration::from_secs(u64::MAX / 10),
        Duration::MAX - Duration::from_nanos(1),
        Duration::MAX,
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let generated = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Of every magnitude, not only huge.
        let secs = state >> (state % 64);
        Duration::new(secs, (state >> 16) as u32 % 1_000_000_000)
    });
    awkward.into_iter().chain(generated).take(n)
}

/// What is ready must not be so before its time; `None` is never.
fn not_early<T>(polled: Poll<T>, due: Option<Instant>) {
    if polled.is_ready() {
        assert!(
            due.is_some_and(|due| due <= Instant::now()),
            "early: {due:?}"
        );
    }
}

/// Polls, once, every kind of timer there is with this duration, and keeps the sleep.
fn every_entry_point(duration: Duration, cx: &mut Context<'_>) -> Sleep {
    let now = Instant::now();
    let due = now.checked_add(duration);
    let later = due.unwrap_or(now);
    let mut kept = sleep(duration);
    not_early(Pin::new(&mut kept).poll(cx), due);
    assert!(kept.deadline().is_none_or(|deadline| deadline >= later));
    let mut sleep = sleep_until(later);
    not_early(Pin::new(&mut sleep).poll(cx), Some(later));
    sleep.reset_after(duration);
    not_early(Pin::new(&mut sleep).poll(cx), due);
    sleep.reset(later);
    not_early(Pin::new(&mut sleep).poll(cx), Some(later));
    let elapsed = sleep.is_elapsed();
    assert!(!elapsed || later <= Instant::now());
    let mut limited = Box::pin(timeout(duration, pending::<()>()));
    not_early(limited.as_mut().poll(cx), due);
    let mut limited = Box::pin(timeout_at(later, pending::<()>()));
    not_early(limited.as_mut().poll(cx), Some(later));
    for missed in [
        MissedTickBehavior::Burst,
        MissedTickBehavior::Delay,
        MissedTickBehavior::Skip,
    ] {
        let past = now.checked_sub(MS).unwrap_or(now);
        for (mut interval, first) in [
            (interval(duration), now),
            (interval_at(past, duration), past),
            (interval_at(later, duration), later),
        ] {
            interval.set_missed_tick_behavior(missed);
            let tick = interval.poll_tick(cx);
            not_early(tick, Some(first));
            let next = first.checked_add(duration);
            if tick.is_ready() {
                not_early(interval.poll_tick(cx), next);
            }
            interval.reset();
            not_early(interval.poll_tick(cx), due);
            let _ = Pin::new(&mut interval).poll_next(cx);
            assert!(interval.period() >= duration);
        }
    }
    kept
}

/// Gives this duration to everything of the loop that takes one.
fn every_setting(duration: Duration) {
    let start = Instant::now();
    let polled = fahrenheit::Builder::new()
        .timer_slack(duration)
        .slow_poll(duration)
        .block_on(async {
            // Later than the first, so that it is the slack that decides, and then not.
            let (first, second) = (sleep(MS / 100), sleep_until(start + MS / 50));
            futures_util::future::select(first, second).await;
            Instant::now()
        });
    let polled = polled.unwrap();
    assert!(polled >= start + MS / 100, "early");
    drop(spawn(yield_now()));
    // It has polled something, and does not wait for so long.
    fahrenheit::turn(Some(duration)).unwrap();
    fahrenheit::turn(Some(duration.min(MS / 100))).unwrap();
    assert!(fahrenheit::interest().time_left().is_none());
}

#[test]
fn ten_thousand_durations_through_every_entry_point_neither_panic_nor_stop_the_loop() {
    within(60, || {
        let (_, waker) = Count::waker();
        let mut cx = Context::from_waker(&waker);
        let mut kept: Vec<_> = durations(10_000)
            .map(|d| every_entry_point(d, &mut cx))
            .collect();
        // And the loop goes on beside them.
        let n_trips = fahrenheit::block_on(round_trips_in(20 * MS));
        assert!(n_trips > 0 && kept.len() == 10_000);
        for sleep in &mut kept {
            let due = sleep.deadline();
            not_early(Pin::new(sleep).poll(&mut cx), due);
        }
    });
}

#[test]
fn ten_thousand_durations_as_settings_of_the_loop_neither_panic_nor_stop_it() {
    within(60, || durations(10_000).for_each(every_setting));
}

#[test]
fn a_timer_beyond_representable_time_never_fires() {
    within(10, || {
        let mut never = sleep(Duration::MAX);
        assert_eq!(never.deadline(), None);
        assert!(!never.is_elapsed());
        run(async {
            assert!(timeout(5 * MS, &mut never).await.is_err());
            assert_eq!(timeout(Duration::MAX, sleep(MS)).await, Ok(()));
            let mut interval = interval(Duration::MAX);
            interval.tick().await;
            assert!(timeout(5 * MS, interval.tick()).await.is_err());
            never.reset_after(MS);
            never.await;
        });
    });
}

#[test]
fn a_thousand_timers_of_one_instant_fire_in_the_order_they_were_armed() {
    within(10, || {
        let order = Rc::new(RefCell::new(Vec::new()));
        // Long enough for the slowest machine to arm all of them.
        let deadline = Instant::now() + 500 * MS;
        for i in 0..1_000 {
            let order = Rc::clone(&order);
            drop(spawn(async move {
                sleep_until(deadline).await;
                order.borrow_mut().push(i);
            }));
        }
        run(async {});
        assert!(Instant::now() >= deadline);
        assert!(order.borrow().iter().copied().eq(0..1_000));
    });
}

/// Ticks once, stalls until two and a half periods after, and returns what the next three ticks
/// say, in tenths of a period since the first; rounded down.
fn ticks_after_a_stall(missed: MissedTickBehavior) -> Vec<u128> {
    let period = 100 * MS;
    within(30, || {
        run(async {
            let mut interval = interval(period);
            interval.set_missed_tick_behavior(missed);
            assert_eq!(interval.missed_tick_behavior(), missed);
            let start = interval.tick().await;
            // The loop is stuck.
            std::thread::sleep((start + period * 5 / 2).saturating_duration_since(Instant::now()));
            let mut ticks = Vec::new();
            for _ in 0..3 {
                let due = interval.tick().await;
                assert!(Instant::now() >= due, "early");
                ticks.push((due - start).as_millis() * 10 / period.as_millis());
            }
            ticks
        })
    })
}

#[test]
fn missed_ticks_come_at_once_by_default() {
    assert_eq!(MissedTickBehavior::default(), MissedTickBehavior::Burst);
    assert_eq!(ticks_after_a_stall(MissedTickBehavior::Burst), [10, 20, 30]);
}

/// Does something to a sleep when it is woken.
struct Meddler<F: Fn() + Send + Sync>(F);

impl<F: Fn() + Send + Sync> Wake for Meddler<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

thread_local! {
    static MEDDLED: RefCell<Option<Sleep>> = const { RefCell::new(None) };
}

#[test]
fn timers_may_be_dropped_and_reset_from_inside_a_wake() {
    let deeds: [fn(); 3] = [
        || drop(MEDDLED.take()),
        || MEDDLED.with_borrow_mut(|s| s.as_mut().unwrap().reset_after(MS)),
        || MEDDLED.with_borrow_mut(|s| s.as_mut().unwrap().reset(Instant::now())),
    ];
    for deed in deeds {
        within(10, move || {
            run(async move {
                // Long enough to get there before it, on the slowest machine.
                let deadline = Instant::now() + 200 * MS;
                let (_, other) = Count::waker();
                let meddler = Waker::from(Arc::new(Meddler(deed)));
                // It is the first of three that are due in one tick; the second is meddled with.
                let mut timers = [deadline, deadline].map(sleep_until);
                assert!(poll_with(&mut timers[0], &meddler).is_pending());
                let mut victim = sleep_until(deadline);
                assert!(poll_with(&mut victim, &other).is_pending());
                MEDDLED.set(Some(victim));
                assert!(poll_with(&mut timers[1], &other).is_pending());
                sleep_until(deadline).await;
                for timer in timers {
                    timer.await;
                }
                if let Some(victim) = MEDDLED.take() {
                    victim.await;
                }
            });
        });
    }
}

#[test]
fn a_sleep_may_be_reset_again_and_again() {
    within(10, || {
        run(async {
            let mut sleep = sleep(Duration::from_secs(3_600));
            assert!(poll_with(&mut sleep, Waker::noop()).is_pending());
            let start = Instant::now();
            for _ in 0..3 {
                sleep.reset_after(2 * MS);
                assert!(!sleep.is_elapsed());
                (&mut sleep).await;
                assert!(sleep.is_elapsed());
            }
            assert!(start.elapsed() >= 6 * MS);
            sleep.reset(Instant::now() + Duration::from_secs(3_600));
            assert!(poll_with(&mut sleep, Waker::noop()).is_pending());
            drop(sleep);
            assert_eq!(
                fahrenheit::interest().deadline,
                None,
                "a dropped sleep leaves a timer"
            );
        });
    });
}

#[test]
fn a_sleep_may_be_polled_by_one_task_and_awaited_by_another() {
    within(10, || {
        let (count, waker) = Count::waker();
        run(async {
            let mut sleep = sleep(50 * MS);
            assert!(poll_with(&mut sleep, &waker).is_pending());
            let task = spawn(async move {
                sleep.await;
                Instant::now()
            });
            task.await.unwrap();
        });
        assert_eq!(count.get(), 0);
        drop(waker);
        assert_eq!(
            Arc::strong_count(&count),
            1,
            "the first waker is still kept"
        );
    });
}

#[test]
fn none_of_a_thousand_sleeps_is_early() {
    within(60, || {
        let mut late: Vec<Duration> = run(async {
            let sleeps = (0..1_000_u64).map(|i| async move {
                let deadline = Instant::now() + Duration::from_micros(200 + i * 397 % 200_000);
                sleep_until(deadline).await;
                Instant::now()
                    .checked_duration_since(deadline)
                    .expect("early")
            });
            join_all(sleeps.map(spawn))
                .await
                .into_iter()
                .map(Result::unwrap)
                .collect()
        });
        late.sort();
        println!(
            "of 1,000 sleeps: p50 {:?} late, p99 {:?} late",
            late[500], late[990]
        );
    });
}

#[test]
fn waits_of_microseconds_are_not_rounded_up_to_milliseconds() {
    within(60, || {
        run(async {
            // A loop that counts in milliseconds needs a second for this.
            let mut best = Duration::MAX;
            for _ in 0..10 {
                let start = Instant::now();
                for _ in 0..100 {
                    sleep(Duration::from_micros(50)).await;
                }
                let taken = start.elapsed();
                assert!(taken >= 5 * MS);
                best = best.min(taken);
            }
            println!("100 sleeps of 50 us: {best:?}");
            assert!(best < 90 * MS, "{best:?}");
        });
    });
}

#[test]
fn a_loop_with_100_000_armed_timers_works() {
    within(60, || {
        fn ticks(n: u32) -> Duration {
            let start = Instant::now();
            for _ in 0..n {
                fahrenheit::turn(Some(Duration::ZERO)).unwrap();
            }
            start.elapsed() / n
        }
        let without = ticks(2_000);
        let mut armed: Vec<_> = (0..100_000)
            .map(|i| sleep(Duration::from_secs(3_600) + i * MS))
            .collect();
        for sleep in &mut armed {
            assert!(poll_with(sleep, Waker::noop()).is_pending());
        }
        let with = ticks(2_000);
        println!("a tick without timers: {without:?}; with 100,000: {with:?} (goal: 2 times)");
        assert!(with < without * 20 + MS);
        run(sleep(MS));
        drop(armed);
        assert_eq!(fahrenheit::interest().deadline, None);
    });
}

#[test]
fn sleeps_of_no_time_and_sleeps_inside_sleeps_come_in_order() {
    within(60, || {
        let expected = ["at once", "main", "outer", "inner", "last"];
        // A thread that gets no processor for the difference between two sleeps finds both due, and
        // wakes them in the order of their deadlines. So the differences grow until one is enough.
        let traces = (0..8).map(|doublings| order_of_sleeps(MS * (1 << doublings)));
        let traces: Vec<_> = traces.take_while(|trace| *trace != expected).collect();
        assert!(traces.len() < 8, "{traces:?}");
    });
}

/// The order in which sleeps of different lengths, in multiples of `unit`, end.
fn order_of_sleeps(unit: Duration) -> Vec<String> {
    let trace = Trace::default();
    let after = |wait: Duration, name: &'static str| {
        let trace = trace.clone();
        async move {
            sleep(wait).await;
            trace.add(name);
            trace
        }
    };
    let nested = after(2 * unit, "outer");
    drop(spawn(async move {
        let trace = nested.await;
        drop(spawn(async move {
            sleep(3 * unit).await;
            trace.add("inner");
        }));
    }));
    drop(spawn(after(30 * unit, "last")));
    drop(spawn(after(Duration::ZERO, "at once")));
    run(async { trace.add("main") });
    trace.take()
}

#[test]
fn timeout_polls_its_future_first_and_only_then_looks_at_the_clock() {
    within(10, || {
        run(async {
            assert_eq!(timeout(Duration::ZERO, async { 1 }).await, Ok(1));
            let past = Instant::now() - MS;
            assert_eq!(timeout_at(past, async { 2 }).await, Ok(2));
            let polls = Cell::new(0);
            let counted = poll_fn(|_| {
                polls.set(polls.get() + 1);
                Poll::<()>::Pending
            });
            let error = timeout_at(past, counted).await.unwrap_err();
            assert_eq!(polls.get(), 1);
            assert_eq!(error.to_string(), "the time limit has passed");
            let error = std::io::Error::from(error);
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
            assert_eq!(
                timeout(MS, pending::<u8>()).into_inner().now_or_never(),
                None
            );
        });
    });
}

#[test]
fn a_limit_drops_its_future_and_its_timer() {
    within(10, || {
        let dropped = Arc::default();
        let guard = crate::util::counted(&dropped);
        run(async {
            let limited = timeout(MS, async move {
                let _guard = guard;
                pending::<()>().await;
            });
            assert!(limited.await.is_err());
            assert_eq!(dropped.load(std::sync::atomic::Ordering::SeqCst), 1);
            assert_eq!(
                timeout(Duration::from_secs(3_600), yield_now()).await,
                Ok(())
            );
            assert_eq!(fahrenheit::interest().deadline, None);
        });
    });
}

#[test]
fn an_interval_is_a_stream_whose_first_tick_is_at_once() {
    within(10, || {
        run(async {
            let start = Instant::now();
            let ticks: Vec<_> = interval(2 * MS).take(4).collect().await;
            assert!(ticks[0] - start < MS + 2 * start.elapsed());
            assert!(ticks.windows(2).all(|pair| pair[1] - pair[0] == 2 * MS));
            assert!(Instant::now() >= start + 6 * MS);
            // No tick is lost by dropping the future.
            let mut interval = interval(200 * MS);
            let first = interval.tick().await;
            assert!(timeout(Duration::ZERO, interval.tick()).await.is_err());
            assert_eq!(interval.tick().await, first + 200 * MS);
        });
    });
}
