//! Loops that can never end are told from those that only wait long.

use fahrenheit::{AsyncFd, Builder, task};
use std::future::pending;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Longer than the loop waits before it asks itself whether it is stuck.
const LONG: Duration = Duration::from_millis(1_200);

/// What the panic of a stuck loop says.
fn panic_of<F: Future>(main: F) -> String {
    let run = || Builder::new().panic_when_stuck(true).run(main).map(drop);
    let payload = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
    *payload.downcast::<String>().unwrap()
}

#[test]
fn a_main_future_that_nobody_can_wake_is_reported() {
    let text = panic_of(pending::<()>());
    assert!(
        text.contains("the main future was pending without arranging to be woken"),
        "{text}"
    );
}

#[test]
fn a_stuck_loop_is_reported_after_one_second() {
    let report = || {
        let start = Instant::now();
        panic_of(pending::<()>());
        start.elapsed()
    };
    let (least, most) = (Duration::from_secs(1), Duration::from_millis(1_500));
    let mut elapsed = Vec::new();
    // A slow machine gets more attempts.
    while elapsed.iter().all(|&took| took >= most) && elapsed.len() < 5 {
        elapsed.push(report());
    }
    assert!(elapsed.iter().all(|&took| took >= least), "{elapsed:?}");
    assert!(elapsed.iter().any(|&took| took < most), "{elapsed:?}");
}

#[test]
fn a_stuck_task_is_reported_with_its_name_its_place_and_who_awaits_it() {
    let line = line!() + 2;
    let text = panic_of(async {
        let stuck = task::Builder::new().name("reader").spawn(pending::<()>());
        stuck.await
    });
    let place = format!("(\"reader\", spawned at {}:{line}:", file!());
    assert!(text.contains(&place), "{text}");
    assert!(text.contains("the main future awaits task "), "{text}");
}

#[test]
fn a_task_that_is_left_when_the_main_future_has_ended_is_reported() {
    let text = panic_of(async { drop(fahrenheit::spawn(pending::<()>())) });
    assert!(text.contains("tests/it/stuck.rs"), "{text}");
    assert!(!text.contains("the main future"), "{text}");
}

#[test]
fn a_task_that_waits_for_another_thread_is_not_stuck() {
    let (send, receive) = futures_channel::oneshot::channel();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(LONG);
        send.send(7).unwrap();
    });
    let answer = Builder::new().panic_when_stuck(true).run(receive);
    assert_eq!(answer.unwrap().unwrap(), 7);
    thread.join().unwrap();
}

#[test]
fn a_task_that_waits_for_a_blocking_job_is_not_stuck() {
    let job = async { fahrenheit::spawn_blocking(|| std::thread::sleep(LONG)).await };
    let answer = Builder::new().panic_when_stuck(true).run(job);
    answer.unwrap().unwrap();
}

#[test]
fn a_task_that_waits_for_a_descriptor_is_not_stuck() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(LONG);
        theirs.write_all(b"x").unwrap();
    });
    let fd = AsyncFd::new(ours).unwrap();
    let waits = Builder::new().panic_when_stuck(true).run(fd.readable());
    waits.unwrap().unwrap();
    thread.join().unwrap();
}

#[test]
fn a_task_that_waits_for_a_timer_is_not_stuck() {
    let waits = Builder::new().panic_when_stuck(true);
    waits.run(fahrenheit::time::sleep(LONG)).unwrap();
}
