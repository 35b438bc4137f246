//! Wakes: from other threads, in the middle of a poll, in storms, and too late.

use crate::util::{OnDrop, cpu_time, within};
use fahrenheit::{run, spawn, yield_now};
use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt;
use futures_util::future::poll_fn;
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

/// The waker of the task that awaits this.
async fn own_waker() -> Waker {
    poll_fn(|cx| Poll::Ready(cx.waker().clone())).await
}

/// Waits until `flag` is set by code that wakes this task as well.
async fn until(flag: &AtomicBool) {
    poll_fn(|_| match flag.load(Ordering::SeqCst) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

/// `FAHRENHEIT_PINGS` asks for another number of them.
#[test]
fn none_of_20_000_ping_pongs_between_threads_is_lost() {
    let n_pings = std::env::var("FAHRENHEIT_PINGS").map_or(20_000, |n| n.parse().unwrap());
    within(60 + n_pings as u64 / 2_000, move || {
        let (to_thread, mut pings) = mpsc::unbounded();
        let (to_loop, mut pongs) = mpsc::unbounded();
        let thread = thread::spawn(move || {
            run(async move {
                while let Some(n) = pings.next().await {
                    to_loop.unbounded_send(n).unwrap();
                }
            });
        });
        let mut took = run(async move {
            let mut took = Vec::new();
            for n in 0..n_pings {
                let begun = Instant::now();
                to_thread.unbounded_send(n).unwrap();
                assert_eq!(pongs.next().await, Some(n));
                took.push(begun.elapsed());
            }
            took
        });
        thread.join().unwrap();
        took.sort();
        let p99 = took[n_pings * 99 / 100];
        println!("{n_pings} ping-pongs: none lost, p99 {p99:?}");
    });
}

/// Two threads that each wake their own task, at the same moment, once a round.
#[derive(Default)]
struct Duet {
    round: AtomicUsize,
    n_waiting: AtomicUsize,
    heard: [AtomicUsize; 2],
    wakers: [Mutex<Option<Waker>>; 2],
}

impl Duet {
    /// Waits for the wake of one thread in `round`, which begins when both are waited for.
    async fn hear(&self, who: usize, round: usize) {
        let mut waiting = false;
        poll_fn(|cx| {
            if self.heard[who].load(Ordering::SeqCst) == round {
                return Poll::Ready(());
            }
            *self.wakers[who].lock().unwrap() = Some(cx.waker().clone());
            if !waiting && self.n_waiting.fetch_add(1, Ordering::SeqCst) % 2 == 1 {
                self.round.store(round, Ordering::SeqCst);
            }
            waiting = true;
            Poll::Pending
        })
        .await;
    }

    fn wake(&self, who: usize, n_rounds: usize) {
        for round in 1..=n_rounds {
            let mut n_looks = 0_u32;
            while self.round.load(Ordering::SeqCst) < round {
                n_looks += 1;
                if n_looks % 64 == 0 {
                    thread::yield_now();
                }
            }
            // Sooner and later, so that all places of the loop's turn are met.
            for _ in 0..round % [97, 2_503][who] {
                std::hint::spin_loop();
            }
            let waker = self.wakers[who].lock().unwrap().clone();
            self.heard[who].store(round, Ordering::SeqCst);
            waker.unwrap().wake();
        }
    }
}

#[test]
fn both_of_two_simultaneous_wakes_are_heard_20_000_times() {
    const N_ROUNDS: usize = 20_000;
    within(60, || {
        let duet = Arc::new(Duet::default());
        let threads = [0, 1].map(|who| {
            let duet = Arc::clone(&duet);
            thread::spawn(move || duet.wake(who, N_ROUNDS))
        });
        run(async {
            for round in 1..=N_ROUNDS {
                let tasks = [0, 1].map(|who| {
                    let duet = Arc::clone(&duet);
                    spawn(async move { duet.hear(who, round).await })
                });
                for task in tasks {
                    task.await.unwrap();
                }
            }
        });
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn wake_and_wake_by_ref_from_a_plain_thread_end_a_sleep_without_limit() {
    within(10, || {
        for by_ref in [true, false] {
            let done = Arc::new(AtomicBool::new(false));
            run(async {
                let waker = own_waker().await;
                let theirs = Arc::clone(&done);
                thread::spawn(move || {
                    // Until the loop has gone to sleep, most likely; right in any case.
                    thread::sleep(Duration::from_millis(20));
                    theirs.store(true, Ordering::SeqCst);
                    if by_ref {
                        waker.wake_by_ref();
                    } else {
                        waker.wake();
                    }
                });
                until(&done).await;
            });
        }
    });
}

#[test]
fn a_oneshot_from_a_thread_wakes_a_task_and_main() {
    within(10, || {
        let (send, receive) = oneshot::channel();
        let (send_main, receive_main) = oneshot::channel();
        let task = spawn(receive);
        let thread = thread::spawn(move || {
            send.send(1).unwrap();
            send_main.send(2).unwrap();
        });
        assert_eq!(run(receive_main), Ok(2));
        assert_eq!(run(task).unwrap(), Ok(1));
        thread.join().unwrap();
    });
}

#[test]
fn a_million_wakes_while_the_loop_is_stuck_neither_block_nor_get_lost() {
    within(60, || {
        run(async {
            let waker = own_waker().await;
            let (polls, done) = (Cell::new(0), Arc::new(AtomicBool::new(false)));
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let waker = waker.clone();
                    thread::spawn(move || (0..250_000).for_each(|_| waker.wake_by_ref()))
                })
                .collect();
            // The loop is stuck here, and no code reads the pipe.
            threads.into_iter().for_each(|t| t.join().unwrap());
            let theirs = Arc::clone(&done);
            thread::spawn(move || {
                theirs.store(true, Ordering::SeqCst);
                waker.wake();
            });
            poll_fn(|_| {
                polls.set(polls.get() + 1);
                match done.load(Ordering::SeqCst) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
            .await;
            assert!(polls.get() <= 3, "{} polls", polls.get());
        });
    });
}

#[test]
fn a_wake_from_another_thread_in_the_middle_of_a_poll_polls_again() {
    within(20, || {
        for _ in 0..100 {
            let polls = Cell::new(0);
            let task = poll_fn(move |cx| {
                polls.set(polls.get() + 1);
                if polls.get() == 2 {
                    return Poll::Ready(2);
                }
                let waker = cx.waker().clone();
                thread::spawn(move || waker.wake()).join().unwrap();
                Poll::Pending
            });
            assert_eq!(run(async { spawn(task).await.unwrap() }), 2);
        }
    });
}

#[test]
fn a_thousand_self_wakes_never_wait() {
    within(10, || {
        let cpu = run(async {
            let start = (std::time::Instant::now(), cpu_time());
            for _ in 0..1_000 {
                yield_now().await;
            }
            let (wall, cpu) = (start.0.elapsed(), cpu_time() - start.1);
            println!("1,000 self-wakes: {wall:?}, of which CPU {cpu:?}");
            cpu
        });
        assert!(cpu < Duration::from_millis(500));
    });
}

#[test]
fn wakers_that_outlive_their_loop_and_thread_may_be_used_and_dropped() {
    within(60, || {
        let mut kept = Vec::new();
        for _ in 0..50 {
            let wakers = Arc::new(Mutex::new(Vec::new()));
            let theirs = Arc::clone(&wakers);
            let thread = thread::spawn(move || {
                run(async {
                    let own = own_waker().await;
                    theirs.lock().unwrap().push(own);
                    let (ended, left) = (Arc::clone(&theirs), Arc::clone(&theirs));
                    spawn(async move {
                        let own = own_waker().await;
                        ended.lock().unwrap().push(own)
                    })
                    .await
                    .unwrap();
                    let daemon = fahrenheit::task::Builder::new().daemon(true);
                    drop(daemon.spawn(async move {
                        let own = own_waker().await;
                        left.lock().unwrap().push(own);
                        pending::<()>().await;
                    }));
                    yield_now().await;
                });
            });
            thread.join().unwrap();
            kept.append(&mut wakers.lock().unwrap());
        }
        assert_eq!(kept.len(), 150);
        for waker in &kept {
            let clone = waker.clone();
            clone.wake_by_ref();
            waker.wake_by_ref();
        }
        thread::spawn(move || drop(kept)).join().unwrap();
        assert_eq!(run(async { 3 }), 3);
    });
}

/// Runs a loop with `n` tasks on a thread of its own: one half ends, the other stays behind.
/// Returns their wakers when all of that is gone.
fn wakers_of_the_dead(n: usize) -> Vec<Waker> {
    let run_all = move || {
        let wakers = Rc::new(RefCell::new(Vec::new()));
        let theirs = Rc::clone(&wakers);
        run(async move {
            for i in 0..n {
                let wakers = Rc::clone(&theirs);
                let task = fahrenheit::task::Builder::new().daemon(true);
                drop(task.spawn(async move {
                    let own = own_waker().await;
                    wakers.borrow_mut().push(own);
                    if i % 2 == 0 {
                        pending().await
                    }
                }));
            }
            yield_now().await;
        });
        wakers.take()
    };
    thread::spawn(run_all).join().unwrap()
}

#[test]
fn ten_thousand_wakers_kept_after_the_end_may_be_used_by_many_threads_at_once() {
    within(60, || {
        let kept: Vec<_> = (0..20).flat_map(|_| wakers_of_the_dead(500)).collect();
        assert_eq!(kept.len(), 10_000);
        let barrier = Barrier::new(4);
        thread::scope(|scope| {
            for offset in 0..4 {
                let (kept, barrier) = (&kept, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for i in 0..kept.len() {
                        let waker = &kept[(i + offset * 2_500) % kept.len()];
                        waker.wake_by_ref();
                        let clone = waker.clone();
                        assert!(clone.will_wake(waker));
                        clone.wake();
                    }
                });
            }
        });
        // Of each, the last but one and the last go at the same time.
        let clones = kept.clone();
        let thread = thread::spawn(move || clones.into_iter().for_each(Waker::wake));
        drop(kept);
        thread.join().unwrap();
        assert_eq!(run(async { 3 }), 3);
    });
}

#[test]
fn wakes_that_race_with_the_end_of_the_thread_are_harmless() {
    within(60, || {
        for _ in 0..200 {
            let (send, receive) = std::sync::mpsc::channel();
            let thread = thread::spawn(move || {
                fahrenheit::block_on(async move {
                    drop(spawn(async move {
                        send.send(own_waker().await).unwrap();
                        pending::<()>().await;
                    }));
                    yield_now().await;
                });
            });
            let waker: Waker = receive.recv().unwrap();
            (0..100).for_each(|_| waker.wake_by_ref());
            thread.join().unwrap();
            waker.wake();
        }
    });
}

#[test]
fn a_future_is_dropped_on_its_own_thread_whoever_drops_the_last_waker() {
    within(10, || {
        let dropped_on = Arc::new(Mutex::new(Vec::new()));
        let record = |dropped_on: &Arc<Mutex<Vec<_>>>| {
            let dropped_on = Arc::clone(dropped_on);
            OnDrop(move || dropped_on.lock().unwrap().push(thread::current().id()))
        };
        let guards = [record(&dropped_on), record(&dropped_on)];
        let thread = thread::spawn(move || {
            fahrenheit::block_on(async {
                let barrier = Arc::new(Barrier::new(3));
                for guard in guards {
                    let theirs = Arc::clone(&barrier);
                    drop(spawn(async move {
                        let _guard = guard;
                        let waker = own_waker().await;
                        thread::spawn(move || {
                            waker.wake_by_ref();
                            theirs.wait();
                            drop(waker);
                        });
                        pending::<()>().await;
                    }));
                }
                yield_now().await;
                barrier.wait();
            });
        });
        let id = thread.thread().id();
        thread.join().unwrap();
        assert_eq!(*dropped_on.lock().unwrap(), [id, id]);
    });
}

#[test]
fn a_million_wakes_of_one_task_are_as_many_polls_as_the_loop_has_time_for() {
    within(60, || {
        run(async {
            let waker = own_waker().await;
            let done = Arc::new(AtomicBool::new(false));
            let theirs = Arc::clone(&done);
            let thread = thread::spawn(move || {
                (0..1_000_000).for_each(|_| waker.wake_by_ref());
                theirs.store(true, Ordering::SeqCst);
                waker.wake();
            });
            let before = rss_kib();
            until(&done).await;
            let grown = rss_kib().saturating_sub(before);
            thread.join().unwrap();
            println!("resident memory grew by {grown} KiB");
            // A queue with an entry for every wake would be 16 MiB; others run beside this test.
            assert!(grown < 12 * 1024, "{grown} KiB");
        });
    });
}

/// Memory of the process that is not swapped out; 0 where there is no way to know.
fn rss_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

#[test]
fn wakes_between_two_polls_are_one_poll() {
    within(10, || {
        let polls = Rc::new(Cell::new(0));
        let (theirs, kept) = (Rc::clone(&polls), Rc::new(RefCell::new(None)));
        let slot = Rc::clone(&kept);
        run(async move {
            let task = spawn(poll_fn(move |cx| {
                theirs.set(theirs.get() + 1);
                slot.replace(Some(cx.waker().clone()));
                Poll::<()>::Pending
            }));
            yield_now().await;
            let waker: Waker = kept.take().unwrap();
            let storm = thread::spawn(move || (0..10_000).for_each(|_| waker.wake_by_ref()));
            storm.join().unwrap();
            yield_now().await;
            yield_now().await;
            assert_eq!(polls.get(), 2);
            task.abort();
        });
    });
}

#[test]
fn wakers_may_be_forgotten_and_clones_know_each_other() {
    within(10, || {
        let n_dropped = Arc::new(AtomicUsize::new(0));
        let guard = crate::util::counted(&n_dropped);
        run(async {
            let task = spawn(async move {
                let _guard = guard;
                let waker = own_waker().await;
                assert!(waker.will_wake(&waker.clone()));
                assert!(!waker.will_wake(Waker::noop()));
                for _ in 0..1_000 {
                    std::mem::forget(waker.clone());
                }
                yield_now().await;
                assert!(
                    waker.will_wake(&own_waker().await),
                    "the same in every poll"
                );
                waker
            });
            let waker = task.await.unwrap();
            assert!(!waker.will_wake(&own_waker().await));
            std::mem::forget(waker);
        });
        assert_eq!(n_dropped.load(Ordering::SeqCst), 1);
    });
}
