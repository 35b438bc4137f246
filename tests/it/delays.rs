//! Upper bounds of what is documented about time. A slow machine can make any wait longer, so each
//! test measures again until one attempt stays below the bound. A wrong constant stays below it in
//! no attempt.

use crate::util::{round_trip, tcp_pair, within};
use fahrenheit::time::{MissedTickBehavior, interval, sleep, sleep_until, timeout, timeout_at};
use fahrenheit::{Builder, run, spawn, task, yield_now};
use std::cell::Cell;
use std::future::{Future, pending};
use std::rc::Rc;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

/// Repeats `attempt` until it returns true. Each attempt counts as a failure of the machine, up to
/// 30 of them.
fn until_true(what: &str, mut attempt: impl FnMut() -> bool) {
    assert!((0..30).any(|_| attempt()), "not once in 30 times: {what}");
}

/// How long `wait` takes.
fn measured<F: Future>(wait: impl FnOnce() -> F) -> Duration {
    let start = Instant::now();
    run(wait());
    start.elapsed()
}

#[test]
fn waits_of_1_ms_end_within_5_ms() {
    within(60, || {
        let is_quick = |elapsed: Duration| {
            assert!(elapsed >= MS, "early: {elapsed:?}");
            elapsed < 5 * MS
        };
        until_true("sleep", || is_quick(measured(|| sleep(MS))));
        until_true("sleep_until", || {
            is_quick(measured(|| sleep_until(Instant::now() + MS)))
        });
        until_true("timeout", || {
            is_quick(measured(|| timeout(MS, pending::<()>())))
        });
        until_true("timeout_at", || {
            let limited = || timeout_at(Instant::now() + MS, pending::<()>());
            is_quick(measured(limited))
        });
        until_true("interval", || {
            let mut ticks = interval(MS);
            is_quick(measured(async || {
                ticks.tick().await;
                ticks.tick().await
            }))
        });
    });
}

#[test]
fn a_sleep_and_an_interval_that_are_reset_count_from_then() {
    within(60, || {
        run(async {
            let (length, period) = (7 * MS, 5 * MS);
            let (mut sleep, mut interval) = (sleep(Duration::from_secs(3_600)), interval(period));
            interval.tick().await;
            for _ in 0..3 {
                let before = Instant::now();
                sleep.reset_after(length);
                interval.reset();
                let after = Instant::now();
                let due = sleep.deadline().unwrap();
                assert!((before + length..=after + length).contains(&due));
                let tick = interval.tick().await;
                assert!((before + period..=after + period).contains(&tick));
                (&mut sleep).await;
                let later = after + 9 * MS;
                sleep.reset(later);
                assert_eq!(sleep.deadline(), Some(later));
                (&mut sleep).await;
                assert!(Instant::now() >= later);
            }
        });
        until_true("reset_after", || {
            let mut again = sleep(MS);
            measured(async || {
                (&mut again).await;
                again.reset_after(MS);
                again.await;
            }) < 6 * MS
        });
    });
}

/// Ticks once, blocks the thread until two and a half periods later, and returns for when the next
/// three ticks were planned, in periods since the first tick. `None` if the machine was so slow
/// that the loop saw the time of a further tick pass.
fn ticks_after_a_stall(missed: MissedTickBehavior) -> Option<Vec<f64>> {
    let period = 20 * MS;
    run(async {
        let mut interval = interval(period);
        interval.set_missed_tick_behavior(missed);
        let start = interval.tick().await;
        std::thread::sleep((start + period * 5 / 2).saturating_duration_since(Instant::now()));
        let first = interval.tick().await;
        let is_stalled = Instant::now() >= start + period * 3;
        let mut ticks = vec![first - start];
        for _ in 0..2 {
            let due = interval.tick().await;
            // The next tick is planned when this one is returned, so it must not be too late.
            if Instant::now() >= due + period {
                return None;
            }
            ticks.push(due - start);
        }
        let ticks = ticks
            .iter()
            .map(|tick| tick.as_secs_f64() / period.as_secs_f64());
        (!is_stalled).then(|| ticks.collect())
    })
}

#[test]
fn after_a_stall_delay_ticks_one_period_later_and_skip_at_the_next_planned_time() {
    let is_near = |value: f64, wanted: f64| (value - wanted).abs() < 1e-9;
    within(60, || {
        until_true("delay", || {
            let Some(ticks) = ticks_after_a_stall(MissedTickBehavior::Delay) else {
                return false;
            };
            // The late tick was returned between 2.5 and 3 periods after the first.
            is_near(ticks[0], 1.0)
                && (3.5..4.0).contains(&ticks[1])
                && is_near(ticks[2], ticks[1] + 1.0)
        });
        until_true("skip", || {
            let ticks = ticks_after_a_stall(MissedTickBehavior::Skip).unwrap_or_default();
            let wanted = [1.0, 3.0, 4.0];
            ticks.len() == 3
                && ticks
                    .iter()
                    .zip(wanted)
                    .all(|(&t, wanted)| is_near(t, wanted))
        });
    });
}

/// When a timer that is due after 5 ms fires beside another that is due after 60 ms.
fn first_of_two_timers(builder: Builder) -> Duration {
    builder
        .block_on(async {
            let start = Instant::now();
            let other = spawn(sleep_until(start + 60 * MS));
            sleep_until(start + 5 * MS).await;
            let elapsed = start.elapsed();
            other.abort();
            elapsed
        })
        .unwrap()
}

#[test]
fn a_timer_waits_for_another_that_is_due_within_the_slack_and_for_no_other() {
    within(60, || {
        let slack = |slack| Builder::new().timer_slack(slack);
        until_true("the default", || {
            first_of_two_timers(Builder::new()) < 60 * MS
        });
        assert!(first_of_two_timers(slack(100 * MS)) >= 60 * MS);
        let is_early = |builder| first_of_two_timers(builder) < 60 * MS;
        until_true("no slack", || is_early(slack(Duration::ZERO)));
        until_true("slack too short", || is_early(slack(20 * MS)));
        // The setting stays until it is set again, and a lone timer is not delayed by it.
        assert!(first_of_two_timers(slack(100 * MS)) >= 60 * MS);
        assert!(!is_early(Builder::new()));
        until_true("a lone timer", || measured(|| sleep(MS)) < 50 * MS);
    });
}

/// Starts a daemon that wakes itself for ever, and returns how often it has been polled.
fn self_waker() -> Rc<Cell<usize>> {
    let n_polls = Rc::new(Cell::new(0));
    let theirs = Rc::clone(&n_polls);
    drop(task::Builder::new().daemon(true).spawn(async move {
        loop {
            theirs.set(theirs.get() + 1);
            yield_now().await;
        }
    }));
    n_polls
}

/// A turn polls 200 times and takes one batch more; a round trip takes three or four turns.
const MAX_POLLS_OF_OTHERS: usize = 1_500;

#[test]
fn a_round_trip_beside_tasks_that_wake_themselves_waits_for_a_few_hundred_polls() {
    for n_tasks in [1, 100] {
        let n_polls = within(60, || {
            let counts: Vec<_> = (0..n_tasks).map(|_| self_waker()).collect();
            fahrenheit::block_on(async {
                let (mut near, far) = tcp_pair();
                drop(spawn(crate::util::echo(far)));
                round_trip(&mut near).await;
                let before: usize = counts.iter().map(|count| count.get()).sum();
                for _ in 0..20 {
                    round_trip(&mut near).await;
                }
                let after: usize = counts.iter().map(|count| count.get()).sum();
                after - before
            })
        });
        println!("beside {n_tasks}: {} polls a round trip", n_polls / 20);
        assert!(n_polls <= 20 * MAX_POLLS_OF_OTHERS, "{n_polls} polls");
    }
}

#[test]
fn beside_a_task_that_is_always_ready_another_is_polled_after_a_budget_of_operations() {
    within(60, || {
        let (mut near, mut far) = tcp_pair();
        run(async move {
            use fahrenheit::prelude::*;
            near.write_all(&[0; 10_000]).await.unwrap();
            let n_reads = Rc::new(Cell::new(0));
            let theirs = Rc::clone(&n_reads);
            let reader = spawn(async move {
                for _ in 0..10_000 {
                    far.read_exact(&mut [0]).await.unwrap();
                    theirs.set(theirs.get() + 1);
                }
            });
            let (mut before, mut most) = (0, 0);
            while !reader.is_finished() {
                yield_now().await;
                most = most.max(n_reads.get() - before);
                before = n_reads.get();
            }
            // Documented: about 128.
            assert!((64..=256).contains(&most), "{most} reads in one poll");
        });
    });
}

#[test]
fn a_timer_beside_a_task_that_wakes_itself_fires_within_a_few_hundred_polls() {
    within(60, || {
        let start = Instant::now();
        let deadline = start + 20 * MS;
        let n_late = Rc::new(Cell::new(0));
        let theirs = Rc::clone(&n_late);
        drop(task::Builder::new().daemon(true).spawn(async move {
            loop {
                if Instant::now() >= deadline {
                    theirs.set(theirs.get() + 1);
                }
                yield_now().await;
            }
        }));
        fahrenheit::block_on(sleep_until(deadline));
        // The turn in which the deadline passes, and the one after its wait.
        assert!(n_late.get() <= 600, "{} polls", n_late.get());
    });
}
