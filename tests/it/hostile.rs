//! Wakers that do things: whatever happens to a waker may run code that comes back into the loop.

use crate::util::{Count, Event, arm, n_strikes, poll_with, tcp_pair, with_hostile_waker, within};
use fahrenheit::prelude::*;
use fahrenheit::time::{Sleep, sleep};
use fahrenheit::{AsyncTcpStream, run, spawn, yield_now};
use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

/// What a hostile waker does, and how to see afterwards that it worked.
struct Deed {
    act: Box<dyn FnOnce()>,
    check: Pin<Box<dyn Future<Output = ()>>>,
}

/// Polls a read once, so that the socket waits with `waker`.
fn wait_to_read(stream: &mut AsyncTcpStream, waker: &Waker) {
    let read = Pin::new(stream).poll_read(&mut Context::from_waker(waker), &mut [0]);
    assert!(read.is_pending());
}

fn drop_a_socket_that_waits() -> Deed {
    let (mut victim, peer) = tcp_pair();
    let (count, waker) = Count::waker();
    wait_to_read(&mut victim, &waker);
    drop(waker);
    Deed {
        act: Box::new(move || drop(victim)),
        check: Box::pin(async move {
            assert_eq!((count.get(), Arc::strong_count(&count)), (1, 1));
            assert_eq!((&peer).read(&mut [0]).await.unwrap(), 0);
        }),
    }
}

fn spawn_a_task() -> Deed {
    let done = Rc::new(Cell::new(false));
    let theirs = Rc::clone(&done);
    Deed {
        act: Box::new(move || drop(spawn(async move { theirs.set(true) }))),
        check: Box::pin(async move {
            while !done.get() {
                yield_now().await;
            }
        }),
    }
}

fn start_a_timer() -> Deed {
    let started: Rc<RefCell<Option<Sleep>>> = Rc::default();
    let theirs = Rc::clone(&started);
    Deed {
        act: Box::new(move || {
            let mut sleep = sleep(Duration::from_millis(30));
            assert!(poll_with(&mut sleep, Waker::noop()).is_pending());
            theirs.replace(Some(sleep));
        }),
        check: Box::pin(async move {
            let sleep = started.take().unwrap();
            sleep.await;
        }),
    }
}

fn abort_a_task() -> Deed {
    // A daemon, so that `run` ends if it never is aborted.
    let daemon = fahrenheit::task::Builder::new().daemon(true);
    let task = daemon.spawn(pending::<()>());
    let handle = task.abort_handle();
    Deed {
        act: Box::new(move || handle.abort()),
        check: Box::pin(async move { assert!(task.await.unwrap_err().is_cancelled()) }),
    }
}

/// All four deeds, at each of the three events, around what `target` makes. `n_struck` says how
/// many of the twelve have to come to pass.
fn twelve_cases<F: Future<Output = ()>>(n_expected: usize, target: impl Fn() -> F) {
    let deeds = [
        drop_a_socket_that_waits,
        spawn_a_task,
        start_a_timer,
        abort_a_task,
    ];
    for event in [Event::Clone, Event::Wake, Event::Drop] {
        for deed in deeds {
            run(async {
                let Deed { act, check } = deed();
                let before = n_strikes();
                let target = target();
                arm(event, act);
                target.await;
                if n_strikes() > before {
                    check.await;
                }
            });
        }
    }
    assert_eq!(n_strikes(), n_expected);
}

#[test]
fn a_read_of_tcp_with_hostile_wakers_in_12_cases() {
    within(30, || {
        twelve_cases(12, || async {
            let (mut near, far) = tcp_pair();
            let writer = async {
                yield_now().await;
                yield_now().await;
                (&far).write_all(b"!").await.unwrap();
            };
            let mut byte = [0];
            let read = with_hostile_waker(near.read_exact(&mut byte));
            futures_util::join!(async { read.await.unwrap() }, writer);
            assert_eq!(byte, *b"!");
        });
    });
}

#[test]
fn a_sleep_with_hostile_wakers_in_12_cases() {
    within(30, || {
        twelve_cases(12, || with_hostile_waker(sleep(Duration::from_millis(30))));
    });
}

#[test]
fn a_join_with_hostile_wakers_in_12_cases() {
    within(30, || {
        twelve_cases(12, || async {
            let task = spawn(sleep(Duration::from_millis(30)));
            with_hostile_waker(task).await.unwrap();
        });
    });
}

#[test]
fn a_blocking_job_with_hostile_wakers_in_12_cases() {
    within(30, || {
        twelve_cases(12, || async {
            let (go, wait) = std::sync::mpsc::channel::<()>();
            let job = fahrenheit::spawn_blocking(move || wait.recv().is_err());
            let release = async {
                yield_now().await;
                yield_now().await;
                drop(go);
            };
            let job = with_hostile_waker(job);
            futures_util::join!(async { assert!(job.await.unwrap()) }, release);
        });
    });
}

/// A future that is dropped while it waits gives its waker back: dropped, or woken.
async fn dropped_while_it_waits<F: Future>(future: F) {
    let mut future = pin!(Some(with_hostile_waker(future)));
    std::future::poll_fn(|cx| {
        let future = future.as_mut().as_pin_mut().unwrap();
        assert!(future.poll(cx).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    future.set(None);
}

#[test]
fn futures_dropped_while_they_wait_with_hostile_wakers() {
    within(30, || {
        // Clone and drop: no task is woken by a timer that is taken back.
        twelve_cases(8, || {
            dropped_while_it_waits(sleep(Duration::from_secs(3_600)))
        });
    });
    within(30, || {
        twelve_cases(8, || async {
            let task = spawn(sleep(Duration::from_millis(30)));
            dropped_while_it_waits(task).await;
        });
    });
    within(30, || {
        // A socket that is closed wakes those who wait.
        twelve_cases(12, || async {
            let (mut near, _far) = tcp_pair();
            dropped_while_it_waits(async move { near.read_exact(&mut [0]).await }).await;
        });
    });
}

#[test]
fn a_sleep_that_is_moved_to_another_waker_with_hostile_wakers() {
    within(30, || {
        // The first waker is cloned, displaced and dropped; it is never woken.
        twelve_cases(8, || async {
            let mut moved = Box::pin(with_hostile_waker(sleep(Duration::from_millis(30))));
            std::future::poll_fn(|cx| {
                assert!(moved.as_mut().poll(cx).is_pending());
                assert!(moved.as_mut().poll(cx).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
        });
    });
}
