//! What waiting costs: system calls, wake-ups and CPU time of a whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "test code")]

#[path = "it/net_util.rs"]
mod net_util;

use fahrenheit::AsyncTcpListener;
use fahrenheit::prelude::*;
use fahrenheit::time::sleep;
use net_util::{Cost, alone, is_alone, raise_fd_limit, traced};
use std::ffi::c_long;
use std::net::TcpStream;
use std::time::Duration;

/// How many seconds to be idle; 3 unless this says otherwise.
const SECONDS: &str = "FAHRENHEIT_TEST_IDLE_SECONDS";

/// Is idle, and returns how often the thread went to sleep for that.
async fn idle(what: &str) -> c_long {
    let seconds = std::env::var(SECONDS).map_or(3, |text| text.parse().unwrap());
    // What was spawned shall be waiting already, and the pipe have been rung once.
    let (tell, told) = futures_channel::oneshot::channel();
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        tell.send(()).unwrap();
    });
    told.await.unwrap();
    other.join().unwrap();
    let cost = Cost::begin_of_process();
    let n_before = cost.n_switches();
    sleep(Duration::from_secs(seconds)).await;
    let n_switches = cost.check(what, Duration::from_millis(5)).n_switches() - n_before;
    println!("{what}: {n_switches} voluntary context switches");
    n_switches
}
/// Has `body`, which is idle once, do so alone, where it may wake up 5 times, and again under
/// strace, where it makes one call that waits, and none in vain.
fn sleeps_through(name: &str, body: impl Fn() -> c_long) {
    let check = || assert!(body() <= 5, "the loop woke up");
    if is_alone(name) && std::env::var_os("FAHRENHEIT_TEST_TRACED").is_none() {
        alone(name, check);
        return;
    }
    if !is_alone(name) {
        alone(name, check);
    }
    let log = traced(name, &["-E", "FAHRENHEIT_TEST_TRACED=1"], || {
        body();
    });
    let Some(log) = log else { return };
    let marks: Vec<_> = log.split("getrusage(").collect();
    let [_, idle, _] = marks[..] else {
        panic!("{} marks\n{log}", marks.len() - 1);
    };
    let calls: Vec<_> = idle.lines().skip(1).collect();
    let waits = |call: &&&str| {
        ["select", "poll", "epoll"]
            .iter()
            .any(|part| call.contains(part))
    };
    assert_eq!(calls.iter().filter(waits).count(), 1, "{calls:#?}");
    // The loop looks through the descriptors that it no longer names to the kernel, some at a time.
    let n_others = calls
        .iter()
        .filter(|call| !call.contains("F_GETFD"))
        .count()
        - 1;
    assert!(n_others <= 3, "{calls:#?}");
}

#[test]
fn sf9_sh8_500_silent_connections_cost_nothing() {
    sleeps_through("sf9_sh8_500_silent_connections_cost_nothing", || {
        let n = raise_fd_limit().saturating_sub(64).min(1_000) / 2;
        // Without a watchdog, which is a thread; the process that waits for this one has a limit.
        fahrenheit::block_on(async {
            let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            let mut clients = Vec::new();
            for _ in 0..n {
                clients.push(TcpStream::connect(addr).unwrap());
                let (mut stream, _) = listener.accept().await.unwrap();
                drop(fahrenheit::spawn(
                    async move { stream.read(&mut [0; 64]).await },
                ));
            }
            idle(&format!("being idle beside {n} connections")).await
        })
    });
}

#[test]
fn sf9_an_empty_loop_sleeps_until_its_timer() {
    sleeps_through("sf9_an_empty_loop_sleeps_until_its_timer", || {
        fahrenheit::block_on(idle("being idle"))
    });
}
