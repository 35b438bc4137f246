//! What dumps and metrics count exactly, and what the end of a thread does with wakers.

use crate::util::within;
use fahrenheit::prelude::*;
use fahrenheit::{AsyncTcpListener, AsyncTcpStream, block_on, spawn, spawn_blocking, time};
#[cfg(feature = "dump")]
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);

/// So long that it is not over before its first poll on a slow machine: that would arm no timer.
const PAUSE: Duration = Duration::from_millis(50);

#[test]
fn each_wait_is_ended_by_a_wake_or_a_descriptor_or_the_time() {
    within(60, || {
        block_on(async {
            let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            let accepted = spawn(async move { listener.accept().await.unwrap().0 });
            time::sleep(PAUSE).await;
            assert_eq!(fahrenheit::metrics().descriptors_young, 1);
            let mut client = AsyncTcpStream::connect(addr).await.unwrap();
            let mut accepted = accepted.await.unwrap();
            for _ in 0..3 {
                let write = spawn(async move {
                    time::sleep(PAUSE).await;
                    client.write_all(b"x").await.unwrap();
                    client
                });
                accepted.read_exact(&mut [0]).await.unwrap();
                client = write.await.unwrap();
                spawn_blocking(|| std::thread::sleep(Duration::from_millis(1)))
                    .await
                    .unwrap();
            }
        });
        let seen = fahrenheit::metrics();
        let (by_wake, by_fd) = (seen.waits_ended_by_wake, seen.waits_ended_by_descriptor);
        assert!(
            by_fd > 0 && by_wake > 0 && by_wake + by_fd < seen.waits,
            "{seen:?}"
        );
        assert_eq!(by_wake + by_fd + seen.waits_ended_by_time, seen.waits);
        assert_eq!(seen.timers_fired, 4);
    });
}

#[cfg(feature = "dump")]
#[test]
fn a_task_is_lost_if_it_waits_and_has_no_waker() {
    within(60, || {
        block_on(async {
            let lost = spawn(pending::<()>()).id();
            let sleeps = spawn(time::sleep(HOUR)).id();
            time::sleep(Duration::from_millis(1)).await;
            let unpolled = spawn(pending::<()>()).id();
            let dump = fahrenheit::dump();
            let is_lost = |id| {
                dump.tasks
                    .iter()
                    .find(|task| task.id == id)
                    .unwrap()
                    .is_lost()
            };
            assert!(
                is_lost(lost) && !is_lost(sleeps) && !is_lost(unpolled),
                "{dump}"
            );
            let ids = [lost, sleeps, unpolled].map(|id| id.to_string().parse::<u64>().unwrap());
            assert!(ids[0] < ids[1] && ids[1] < ids[2], "{ids:?}");
        });
        fahrenheit::drop_all_tasks();
    });
}

#[cfg(feature = "dump")]
#[test]
fn a_job_that_has_ended_is_not_waited_for_any_more() {
    within(60, || {
        block_on(async {
            let (sender, ended) = futures_channel::oneshot::channel();
            let task = spawn(async move {
                spawn_blocking(|| std::thread::sleep(Duration::from_millis(20)))
                    .await
                    .unwrap();
                sender.send(()).unwrap();
                pending::<()>().await;
            });
            ended.await.unwrap();
            time::sleep(Duration::from_millis(1)).await;
            let dump = fahrenheit::dump();
            let found = dump.tasks.iter().find(|seen| seen.id == task.id()).unwrap();
            assert!(
                found.waits_for.is_empty() && dump.unattributed.is_empty(),
                "{dump}"
            );
        });
        fahrenheit::drop_all_tasks();
    });
}

/// A waker that panics when it is dropped.
struct BadWaker;

impl Wake for BadWaker {
    fn wake(self: Arc<Self>) {}
}

impl Drop for BadWaker {
    fn drop(&mut self) {
        panic!("a waker that cannot be dropped");
    }
}

#[test]
fn a_thread_ends_although_the_waker_of_a_timer_panics_when_it_is_dropped() {
    within(60, || {
        std::thread::spawn(|| {
            block_on(async {
                let waker = Waker::from(Arc::new(BadWaker));
                let sleep = Box::leak(Box::new(time::sleep(HOUR)));
                let polled = pin!(sleep).poll(&mut Context::from_waker(&waker));
                assert!(polled.is_pending());
                // Only the timer, which is left to the end of the thread, still has the waker.
                drop(waker);
            });
        })
        .join()
        .unwrap();
    });
}
