//! Durations and instants of every size through all that takes one: nothing panics, nothing is
//! early, and the loop is not kept from its work. Cargo.toml says how to run it.
#![no_main]

use fahrenheit::time::{
    MissedTickBehavior, interval, interval_at, sleep, sleep_until, timeout, timeout_at,
};
use futures_util::{future::select, stream::Stream};
use libfuzzer_sys::fuzz_target;
use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

const MISSED: [MissedTickBehavior; 3] = [
    MissedTickBehavior::Burst,
    MissedTickBehavior::Delay,
    MissedTickBehavior::Skip,
];

fn not_early<T>(polled: Poll<T>, due: Option<Instant>) {
    if polled.is_ready() {
        assert!(due.is_some_and(|due| due <= Instant::now()), "early");
    }
}

/// Timers of this duration, some of them from an instant that is `offset` away.
fn timers(duration: Duration, offset: Duration, missed: MissedTickBehavior) {
    let mut cx = Context::from_waker(Waker::noop());
    let now = Instant::now();
    let due = now.checked_add(duration);
    let start = now
        .checked_sub(offset)
        .or(now.checked_add(offset))
        .unwrap_or(now);
    let mut first = sleep(duration);
    not_early(Pin::new(&mut first).poll(&mut cx), due);
    first.reset(start);
    not_early(Pin::new(&mut first).poll(&mut cx), Some(start));
    first.reset_after(duration);
    not_early(Pin::new(&mut first).poll(&mut cx), due);
    not_early(pin!(sleep_until(start)).poll(&mut cx), Some(start));
    not_early(pin!(timeout(duration, pending::<()>())).poll(&mut cx), due);
    not_early(
        pin!(timeout_at(start, pending::<()>())).poll(&mut cx),
        Some(start),
    );
    for (mut ticks, begin) in [
        (interval(duration), now),
        (interval_at(start, duration), start),
    ] {
        ticks.set_missed_tick_behavior(missed);
        let tick = ticks.poll_tick(&mut cx);
        not_early(tick, Some(begin));
        if tick.is_ready() {
            not_early(
                Pin::new(&mut ticks).poll_next(&mut cx),
                begin.checked_add(duration),
            );
        }
        ticks.reset();
        not_early(ticks.poll_tick(&mut cx), due);
    }
    // Still armed, while the loop turns.
    fahrenheit::turn(Some(Duration::ZERO)).expect("descriptors are left");
    not_early(Pin::new(&mut first).poll(&mut cx), due);
}

/// With no other timer armed: one that is due within the slack is waited for.
fn settings(duration: Duration, slack: Duration) {
    let start = Instant::now();
    let short = Duration::from_micros(20);
    let builder = fahrenheit::Builder::new()
        .timer_slack(slack)
        .slow_poll(duration);
    let ran = builder.block_on(async {
        select(sleep(duration.min(short)), sleep(short)).await;
        assert!(start.elapsed() >= duration.min(short), "early");
    });
    ran.expect("descriptors are left");
    drop(fahrenheit::spawn(fahrenheit::yield_now()));
    fahrenheit::turn(Some(duration)).expect("descriptors are left");
    fahrenheit::turn(Some(duration.min(short))).expect("descriptors are left");
}

fuzz_target!(|cases: Vec<(u64, u32, u64, u32, u8)>| {
    for (secs, nanos, offset_secs, offset_nanos, missed) in cases.into_iter().take(16) {
        // The shifts make small ones as likely as huge ones.
        let duration = Duration::new(secs >> (missed >> 2), nanos % 1_000_000_000);
        let offset = Duration::new(offset_secs >> (missed >> 2), offset_nanos % 1_000_000_000);
        timers(duration, offset, MISSED[usize::from(missed) % MISSED.len()]);
        settings(duration, offset);
    }
    assert_eq!(fahrenheit::interest().deadline, None, "a timer is left");
});
