//! Nothing is starved: not descriptors by tasks that are always ready, and not timers by
//! descriptors.

use crate::util::{echo, round_trip, round_trips_in, tcp_pair, within};
use fahrenheit::prelude::*;
use fahrenheit::time::{interval, sleep, timeout};
use fahrenheit::{run, spawn, task, yield_now};
use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Whoever is starved makes one or two in half a second; a hundred times slower is not starved.
const LEAST_TRIPS: usize = 20;

/// Makes `n_tasks` daemons that run `body` again and again, and counts echoes beside them.
fn echoes_beside<F: Future + 'static>(n_tasks: usize, body: fn() -> F) -> usize {
    within(30, || {
        for _ in 0..n_tasks {
            drop(task::Builder::new().daemon(true).spawn(async move {
                loop {
                    body().await;
                }
            }));
        }
        fahrenheit::block_on(round_trips_in(Duration::from_millis(500)))
    })
}

#[test]
fn echoes_go_on_beside_one_and_a_hundred_tasks_that_always_wake_themselves() {
    for (n_tasks, goal) in [(1, 2_000), (100, 500)] {
        let n_trips = echoes_beside(n_tasks, yield_now);
        println!("beside {n_tasks} self-wakers: {n_trips} round trips in 500 ms (goal {goal})");
        assert!(n_trips >= LEAST_TRIPS, "{n_trips}");
    }
}

#[test]
fn echoes_go_on_beside_ten_tasks_that_sleep_for_no_time_at_all() {
    let n_trips = echoes_beside(10, || sleep(Duration::ZERO));
    println!("beside 10 tasks in sleep(0): {n_trips} round trips in 500 ms (goal 2,000)");
    assert!(n_trips >= LEAST_TRIPS, "{n_trips}");
    let n_trips = echoes_beside(10, || async {
        sleep(Duration::ZERO).await;
        sleep(Duration::from_nanos(1)).await;
    });
    assert!(n_trips >= LEAST_TRIPS, "{n_trips}");
}

#[test]
fn a_timer_fires_beside_tasks_that_always_wake_themselves() {
    within(30, || {
        for _ in 0..100 {
            drop(task::Builder::new().daemon(true).spawn(async {
                loop {
                    yield_now().await;
                }
            }));
        }
        fahrenheit::block_on(sleep(Duration::from_millis(20)));
    });
}

#[test]
fn a_socket_that_is_always_ready_leaves_the_ticker_its_ticks() {
    within(30, || {
        let (mut near, mut far) = tcp_pair();
        drop(task::Builder::new().daemon(true).spawn(async move {
            let bytes = [0; 4096];
            while near.write_all(&bytes).await.is_ok() {}
        }));
        drop(task::Builder::new().daemon(true).spawn(async move {
            // One byte at a time: there is always another.
            while far.read_exact(&mut [0]).await.is_ok() {}
        }));
        fahrenheit::block_on(async {
            let mut ticker = interval(Duration::from_millis(50));
            let mut worst = Duration::ZERO;
            for _ in 0..6 {
                let due = ticker.tick().await;
                worst = worst.max(due.elapsed());
            }
            println!("ticks beside an endless stream: {worst:?} late at worst (goal 50 ms)");
            assert!(worst < Duration::from_millis(500));
        });
    });
}

#[test]
fn operations_that_are_always_ready_yield_after_a_budget() {
    within(30, || {
        let (mut near, mut far) = tcp_pair();
        run(async move {
            near.write_all(&[0; 10_000]).await.unwrap();
            let turns = Rc::new(Cell::new(0));
            let theirs = Rc::clone(&turns);
            let other = spawn(async move {
                loop {
                    theirs.set(theirs.get() + 1);
                    yield_now().await;
                }
            });
            for _ in 0..10_000 {
                far.read_exact(&mut [0]).await.unwrap();
            }
            other.abort();
            // 10,000 operations at 128 a poll.
            assert!(turns.get() >= 50, "{}", turns.get());
        });
    });
}

#[test]
fn without_the_budget_no_other_task_gets_a_turn() {
    within(30, || {
        let (mut near, mut far) = tcp_pair();
        run(async move {
            near.write_all(&[0; 10_000]).await.unwrap();
            far.readable().await.unwrap();
            let turns = Rc::new(Cell::new(0));
            let theirs = Rc::clone(&turns);
            let other = spawn(async move {
                loop {
                    theirs.set(theirs.get() + 1);
                    yield_now().await;
                }
            });
            task::unconstrained(async {
                for _ in 0..1_000 {
                    far.read_exact(&mut [0]).await.unwrap();
                }
            })
            .await;
            other.abort();
            assert_eq!(turns.get(), 0);
        });
    });
}

#[test]
fn a_limit_holds_though_its_future_uses_up_the_budget() {
    within(30, || {
        let start = Instant::now();
        let endless = async {
            loop {
                sleep(Duration::ZERO).await;
            }
        };
        let limited: Result<(), _> = run(timeout(Duration::from_millis(20), endless));
        assert!(limited.is_err());
        assert!(start.elapsed() >= Duration::from_millis(20));
    });
}

#[test]
fn one_task_that_waits_for_ever_does_not_hold_up_another() {
    within(30, || {
        let ((mut stuck, _silent), (mut near, far)) = (tcp_pair(), tcp_pair());
        run(async move {
            let stuck = spawn(async move { stuck.read_exact(&mut [0]).await });
            drop(spawn(echo(far)));
            for _ in 0..100 {
                round_trip(&mut near).await;
            }
            stuck.abort();
        });
    });
}
