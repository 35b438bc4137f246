//! How often the clock is read. This puts a function between std and the clock of the system.
#![cfg(all(target_os = "linux", target_pointer_width = "64", feature = "unix"))]
#![allow(unsafe_code)]

use fahrenheit::prelude::*;
use fahrenheit::time::sleep;
use fahrenheit::{AsyncUnixStream, spawn};
use nix::libc;
use std::cell::Cell;
use std::time::{Duration, Instant};

thread_local! {
    static N_LOOKS: Cell<u64> = const { Cell::new(0) };
}

/// Stands in for that of the C library, which does not show in a trace of system calls.
// SAFETY: it has the name and the type of the one that it replaces, and does the same.
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    N_LOOKS.set(N_LOOKS.get() + 1);
    // SAFETY: the caller has promised what the system asks for.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as libc::c_int }
}

/// Sends this number of words there and back; the loop waits for each.
async fn ping_pong(n: usize) -> u64 {
    let (mut near, mut far) = AsyncUnixStream::pair().unwrap();
    let echo = spawn(async move {
        let mut word = [0];
        while far.read(&mut word).await.unwrap() > 0 {
            far.write_all(&word).await.unwrap();
        }
    });
    let before = N_LOOKS.get();
    for _ in 0..n {
        near.write_all(b"x").await.unwrap();
        near.read_exact(&mut [0]).await.unwrap();
    }
    let n_looks = N_LOOKS.get() - before;
    drop(near);
    echo.await.unwrap();
    n_looks
}

#[test]
fn a_read_of_the_clock_is_counted() {
    let before = N_LOOKS.get();
    assert!(Instant::now().elapsed() < Duration::from_secs(60));
    assert_eq!(N_LOOKS.get() - before, 2);
}

#[test]
fn a_tick_with_nothing_armed_reads_no_clock() {
    assert_eq!(fahrenheit::block_on(ping_pong(500)), 0);
}

#[test]
fn a_tick_with_a_timer_armed_reads_the_clock() {
    let n_looks = fahrenheit::block_on(async {
        let timer = spawn(sleep(Duration::from_secs(3_600)));
        fahrenheit::yield_now().await;
        let n_looks = ping_pong(500).await;
        timer.abort();
        n_looks
    });
    assert!(n_looks >= 500, "{n_looks}");
}
