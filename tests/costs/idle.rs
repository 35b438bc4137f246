//! What waiting costs: system calls, wake-ups and CPU time of a whole process.
#![cfg(target_os = "linux")]

use crate::util::{Cost, alone, is_alone, raise_fd_limit, traced};
use fahrenheit::AsyncTcpListener;
use fahrenheit::prelude::*;
use fahrenheit::time::sleep;
use std::ffi::c_long;
use std::net::TcpStream;
use std::time::Duration;

/// How many seconds to be idle; 3 unless this says otherwise.
const SECONDS: &str = "FAHRENHEIT_TEST_IDLE_SECONDS";

fn seconds() -> u64 {
    std::env::var(SECONDS).map_or(3, |text| text.parse().unwrap())
}

/// Is idle, and returns how often the thread went to sleep for that.
async fn idle(what: &str) -> c_long {
    // What was spawned shall be waiting already, and the pipe have been written to once.
    let (tell, told) = futures_channel::oneshot::channel();
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        tell.send(()).unwrap();
    });
    told.await.unwrap();
    other.join().unwrap();
    let cost = Cost::begin_of_process();
    let n_before = cost.n_switches();
    sleep(Duration::from_secs(seconds())).await;
    let n_switches = cost.check(what, Duration::from_millis(5)).n_switches() - n_before;
    println!("{what}: {n_switches} voluntary context switches");
    n_switches
}
/// Has `body`, which is idle once, do so alone, where it may wake up 5 times, and again under
/// strace, where it makes at most 5 calls a minute that wait.
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
    let asks = |call: &str| {
        let mut names = ["select", "poll", "epoll_wait", "epoll_pwait"].iter();
        names.any(|name| call.contains(name))
    };
    // A question that waits for nothing is no wait.
    let is_look = |call: &str| call.contains("tv_sec=0, tv_nsec=0}");
    let n_waits = calls.iter().filter(|c| asks(c) && !is_look(c)).count();
    let n_minutes = seconds().div_ceil(60) as usize;
    assert!((1..=5 * n_minutes).contains(&n_waits), "{calls:#?}");
    // Tenured descriptors are looked at after 2, 6, 14 and 30 seconds, and so are the pipe and the
    // queue: four calls that do not wait.
    assert!(calls.len() <= 5 * n_waits + 3, "{calls:#?}");
}

#[test]
fn five_hundred_silent_connections_cost_nothing() {
    sleeps_through(test_name!(), || {
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
fn an_empty_loop_sleeps_until_its_timer() {
    sleeps_through(test_name!(), || fahrenheit::block_on(idle("being idle")));
}
