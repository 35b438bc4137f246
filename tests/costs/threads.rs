//! How many threads there are. They belong to the whole process, so the test runs in a process of
//! its own.
#![cfg(target_os = "linux")]

use crate::util::{alone, round_trips_in, within};
use fahrenheit::time::sleep;
use fahrenheit::{AsyncTcpListener, AsyncTcpStream, run, spawn, spawn_blocking};
use futures_util::future::join_all;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

fn n_threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// No thread unless asked: not for tasks, timers, sockets, or addresses that need no look-up.
fn no_hidden_thread() {
    let before = n_threads();
    run(async {
        round_trips_in(Duration::from_millis(5)).await;
        let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let client = AsyncTcpStream::connect(addr.to_string());
        let (client, accepted) = futures_util::join!(client, listener.accept());
        drop((client.unwrap(), accepted.unwrap()));
        spawn(sleep(Duration::from_millis(1))).await.unwrap();
    });
    assert_eq!(n_threads(), before);
}

/// As many as there are jobs at a time, and none once the loop's thread has ended.
fn no_thread_stays() {
    let before = n_threads();
    thread::spawn(move || {
        run(async move {
            let barrier = Arc::new(Barrier::new(4));
            let jobs = (0..4).map(|_| {
                let barrier = Arc::clone(&barrier);
                spawn_blocking(move || {
                    barrier.wait();
                    n_threads()
                })
            });
            for job in join_all(jobs).await {
                assert_eq!(job.unwrap(), before + 1 + 4);
            }
        });
    })
    .join()
    .unwrap();
    // Idle threads are told to leave; nothing says when they have.
    while n_threads() > before {
        thread::yield_now();
    }
}

#[test]
fn threads_come_when_asked_for_and_leave_with_their_loop() {
    alone(test_name!(), || {
        within(60, || {
            no_hidden_thread();
            no_thread_stays();
        });
    });
}
