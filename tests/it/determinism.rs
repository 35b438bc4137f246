//! Time and order as inputs of a test: the virtual clock, and seeds.
#![cfg(feature = "process")]

use crate::util::{again, is_alone};
use fahrenheit::prelude::*;
use fahrenheit::process::AsyncCommand;
use fahrenheit::{AsyncTcpListener, AsyncTcpStream, Builder, Event, time};
use futures_channel::mpsc;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

fn virtually<F: Future>(main: F) -> F::Output {
    Builder::new().virtual_clock(true).run(main).unwrap()
}

#[test]
fn an_hour_of_heartbeats_over_loopback_takes_a_moment() {
    let real = Instant::now();
    let (n_beats, passed) = virtually(async {
        let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = fahrenheit::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut n_beats = 0;
            let mut byte = [0];
            // A heartbeat that is late by more than half a second is an error.
            let limit = 3 * SECOND / 2;
            while time::timeout(limit, stream.read(&mut byte))
                .await
                .unwrap()
                .unwrap()
                > 0
            {
                n_beats += 1;
                stream.write_all(&byte).await.unwrap();
            }
            n_beats
        });
        let mut stream = AsyncTcpStream::connect(addr).await.unwrap();
        let start = time::now();
        let mut interval = time::interval(SECOND);
        while time::now() - start < HOUR {
            interval.tick().await;
            stream.write_all(b"x").await.unwrap();
            let mut back = [0];
            let answer = stream.read_exact(&mut back);
            time::timeout(SECOND / 2, answer).await.unwrap().unwrap();
        }
        drop(stream);
        (server.await.unwrap(), time::now() - start)
    });
    assert_eq!((n_beats, passed), (3_601, HOUR));
    println!("one virtual hour took {:?}", real.elapsed());
    assert!(real.elapsed() < HOUR / 4, "{:?}", real.elapsed());
}

#[test]
fn timers_fire_exactly_at_their_deadlines_and_in_their_order() {
    let fired = Rc::new(RefCell::new(Vec::new()));
    let start = virtually(async {
        let start = time::now();
        for n in [3_u64, 1, 2, 1_000_000] {
            let fired = Rc::clone(&fired);
            fahrenheit::spawn(async move {
                time::sleep(Duration::from_nanos(n)).await;
                fired.borrow_mut().push((n, time::now()));
            })
            .detach();
        }
        start
    });
    let expected = [1_u64, 2, 3, 1_000_000].map(|n| (n, start + Duration::from_nanos(n)));
    assert_eq!(fired.take(), expected);
}

#[test]
fn a_blocking_job_holds_time_back() {
    virtually(async {
        let start = time::now();
        let real_pause = Duration::from_millis(100);
        let job = fahrenheit::spawn_blocking(move || std::thread::sleep(real_pause));
        time::timeout(Duration::from_millis(1), job)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(time::now(), start);
    });
}

#[test]
fn children_and_threads_do_not_hold_time_back() {
    virtually(async {
        let mut child = AsyncCommand::new("sleep");
        let mut child = child.arg("1000").kill_on_drop(true).spawn().unwrap();
        assert!(time::timeout(HOUR, child.wait()).await.is_err());
        let (sender, receiver) = futures_channel::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(SECOND);
            drop(sender);
        });
        assert!(time::timeout(HOUR, receiver).await.is_err());
        thread.join().unwrap();
    });
}

#[test]
fn advance_fires_what_is_due_in_order_and_nothing_else() {
    let order = Rc::new(RefCell::new(Vec::new()));
    virtually(async {
        let start = time::now();
        for n in [5, 1, 3, 7] {
            let order = Rc::clone(&order);
            let task = fahrenheit::task::Builder::new().daemon(true);
            task.spawn(async move {
                time::sleep(n * SECOND).await;
                order.borrow_mut().push(n);
            })
            .detach();
        }
        fahrenheit::yield_now().await;
        time::advance(5 * SECOND).await;
        assert_eq!(*order.borrow(), [1, 3, 5]);
        assert_eq!(time::now() - start, 5 * SECOND);
    });
}

#[test]
fn advance_needs_a_virtual_clock_and_turn_a_real_one() {
    let advance = || fahrenheit::run(time::advance(SECOND));
    let payload = catch_unwind(AssertUnwindSafe(advance)).unwrap_err();
    let text = payload.downcast_ref::<&str>().unwrap();
    assert!(text.contains("Builder::virtual_clock"), "{text}");
    virtually(async {});
    let error = fahrenheit::turn(Some(Duration::ZERO)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert!(fahrenheit::interest().queued);
    Builder::new().virtual_clock(false).run(async {}).unwrap();
    fahrenheit::turn(Some(Duration::ZERO)).unwrap();
    let start = Instant::now();
    fahrenheit::run(time::sleep(Duration::from_millis(5)));
    assert!(
        start.elapsed() >= Duration::from_millis(5),
        "time is real again"
    );
}

#[cfg(feature = "dump")]
#[test]
fn a_stuck_loop_with_a_virtual_clock_is_reported_at_once() {
    let run = || {
        let builder = Builder::new().virtual_clock(true).panic_when_stuck(true);
        builder.run(pending::<()>())
    };
    let payload = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
    let text = payload.downcast_ref::<String>().unwrap();
    assert!(text.contains("the main future was pending"), "{text}");
}

/// The order of events of ten tasks that send each other messages and sleep.
fn trace(builder: Builder) -> Vec<(usize, u32)> {
    const N: usize = 10;
    let trace = Rc::new(RefCell::new(Vec::new()));
    let main = async {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..N).map(|_| mpsc::unbounded::<u32>()).unzip();
        for (n, mut receiver) in receivers.into_iter().enumerate() {
            let next = senders[(n + 1) % N].clone();
            let trace = Rc::clone(&trace);
            fahrenheit::spawn(async move {
                while let Some(hops) = receiver.next().await {
                    trace.borrow_mut().push((n, hops));
                    if hops == 0 {
                        break;
                    }
                    time::sleep(Duration::from_millis(u64::from(hops % 2))).await;
                    let _ = next.unbounded_send(hops - 1);
                }
            })
            .detach();
        }
        for sender in &senders {
            sender.unbounded_send(5).unwrap();
        }
    };
    builder.virtual_clock(true).run(main).unwrap();
    trace.take()
}

#[test]
fn a_thousand_seeds_give_the_same_trace_twice_and_many_different_ones() {
    let of_seed = |seed| std::thread::spawn(move || trace(Builder::new().seed(seed)));
    let mut traces = BTreeSet::new();
    for seed in 0..1_000 {
        let (first, second) = (of_seed(seed), of_seed(seed));
        let (first, second) = (first.join().unwrap(), second.join().unwrap());
        assert_eq!(first, second, "seed {seed}");
        traces.insert(first);
    }
    println!("{} different traces of 1,000 seeds", traces.len());
    assert!(traces.len() >= 900, "{} different traces", traces.len());
}

#[test]
fn without_a_seed_tasks_are_served_first_come_first_served() {
    let starts: Vec<_> = trace(Builder::new()).into_iter().take(10).collect();
    let expected: Vec<_> = (0..10).map(|n| (n, 5)).collect();
    assert_eq!(starts, expected);
}

/// The order in which one task, which cannot be reordered itself, hears of eight things that happen
/// together.
fn order_within_a_task(seed: u64, things: fn(usize) -> Thing) -> Vec<usize> {
    let main = async {
        let all: futures_util::stream::FuturesUnordered<_> = (0..8)
            .map(|n| {
                let thing = things(n);
                async move {
                    thing.await;
                    n
                }
            })
            .collect();
        all.collect().await
    };
    let builder = Builder::new().virtual_clock(true).seed(seed);
    builder.run(main).unwrap()
}

type Thing = std::pin::Pin<Box<dyn Future<Output = ()>>>;

#[test]
fn timers_and_descriptors_that_are_ready_together_are_reordered() {
    let timer = |_| -> Thing { Box::pin(time::sleep(SECOND)) };
    let event = |_| -> Thing {
        Box::pin(async {
            let event = Event::new().unwrap();
            let notifier = event.notifier();
            let wait = event.wait();
            // All are notified after all of them wait.
            let notify = async {
                time::sleep(SECOND).await;
                notifier.notify().unwrap();
                pending::<()>().await;
            };
            futures_util::future::select(Box::pin(wait), Box::pin(notify)).await;
        })
    };
    for things in [timer as fn(usize) -> Thing, event] {
        let orders: Vec<_> = (0..20)
            .map(|seed| order_within_a_task(seed, things))
            .collect();
        let different: BTreeSet<_> = orders.iter().collect();
        assert!(different.len() > 10, "{orders:?}");
        let again: Vec<_> = (0..20)
            .map(|seed| order_within_a_task(seed, things))
            .collect();
        assert_eq!(orders, again);
    }
}

#[test]
fn the_seed_of_the_environment_takes_precedence() {
    let name = test_name!();
    if is_alone(name) {
        println!("trace: {:?}", trace(Builder::new().seed(1)));
        return;
    }
    let child = |seed: &str| {
        let output = again(name).env("FAHRENHEIT_SEED", seed).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let begin = text.find("trace: ").unwrap();
        text[begin..].lines().next().unwrap().to_owned()
    };
    let of = |seed| format!("trace: {:?}", trace(Builder::new().seed(seed)));
    assert_eq!(child("7"), of(7));
    assert_eq!(child("8"), of(8));
    assert_eq!(child("no number"), of(1));
    assert_ne!(of(7), of(8));
}
