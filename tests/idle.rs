//! What waiting costs: CPU time and wake-ups of a whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "test code")]

#[path = "it/net_util.rs"]
mod net_util;

use fahrenheit::AsyncTcpListener;
use fahrenheit::prelude::*;
use fahrenheit::time::sleep;
use net_util::{alone, raise_fd_limit};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use std::net::TcpStream;
use std::time::Duration;

/// How many seconds to be idle; 3 unless this says otherwise.
const SECONDS: &str = "FAHRENHEIT_TEST_IDLE_SECONDS";

fn usage() -> Usage {
    getrusage(UsageWho::RUSAGE_SELF).unwrap()
}

fn cpu(usage: &Usage) -> Duration {
    let us = [usage.user_time(), usage.system_time()]
        .map(|t| t.tv_sec() as u64 * 1_000_000 + t.tv_usec() as u64);
    Duration::from_micros(us[0] + us[1])
}

/// Waits, and returns the CPU time and the context switches of that.
async fn idle() -> (Duration, std::ffi::c_long) {
    let seconds = std::env::var(SECONDS).map_or(3, |text| text.parse().unwrap());
    // What was spawned shall be waiting already.
    sleep(Duration::from_millis(50)).await;
    let before = usage();
    sleep(Duration::from_secs(seconds)).await;
    let after = usage();
    let n_switches = after.voluntary_context_switches() - before.voluntary_context_switches();
    (cpu(&after) - cpu(&before), n_switches)
}

#[test]
fn sf9_sh8_500_silent_connections_cost_nothing() {
    alone("sf9_sh8_500_silent_connections_cost_nothing", || {
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
            let (cpu, n_switches) = idle().await;
            println!("{n} connections: {cpu:?}, {n_switches} voluntary context switches");
            assert!(cpu < Duration::from_millis(5), "{cpu:?}");
            assert!(n_switches <= 5, "{n_switches} context switches");
        });
    });
}

#[test]
fn sf9_an_empty_loop_sleeps_until_its_timer() {
    alone("sf9_an_empty_loop_sleeps_until_its_timer", || {
        let (cpu, n_switches) = fahrenheit::block_on(idle());
        assert!(cpu < Duration::from_millis(5), "{cpu:?}");
        assert!(n_switches <= 5, "{n_switches} context switches");
    });
}
