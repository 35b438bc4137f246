//! What a dump says of tasks, in text and in fields, down to the unit of a time.

use fahrenheit::diagnostics::{TaskState, WaitsFor};
use fahrenheit::{Builder, metrics, spawn, time, yield_now};
use std::future::pending;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_time_in_a_dump_has_the_unit_that_fits_it() {
    let times = [
        (Duration::from_nanos(1_500), "1.5µs"),
        (Duration::from_nanos(999_900), "999.9µs"),
        (Duration::from_millis(1), "1.0ms"),
        (Duration::from_micros(999_900), "999.9ms"),
        (SECOND, "1.0s"),
        (90 * SECOND, "90.0s"),
    ];
    // The virtual clock stands still until all tasks wait.
    let main = async {
        let tasks: Vec<_> = times.iter().map(|t| spawn(time::sleep(t.0))).collect();
        yield_now().await;
        let dump = fahrenheit::dump().to_string();
        for (_, text) in times {
            let line = format!("waits for a timer that is due in {text}\n");
            assert!(dump.contains(&line), "{line}{dump}");
        }
        tasks.iter().for_each(|task| task.abort());
    };
    Builder::new().virtual_clock(true).block_on(main).unwrap();
}

#[test]
fn a_task_is_lost_only_if_it_waits_and_nothing_has_its_waker() {
    fahrenheit::block_on(async {
        let lost = spawn(pending::<()>());
        let timed = spawn(time::sleep(90 * SECOND));
        let (sender, receiver) = futures_channel::oneshot::channel::<()>();
        let in_a_channel = spawn(async move { receiver.await.is_ok() });
        let finished = spawn(async {});
        yield_now().await;
        let queued = spawn(async {});
        let dump = fahrenheit::dump();
        let of = |id| dump.tasks.iter().find(|task| task.id == id).unwrap();
        assert!(of(lost.id()).is_lost(), "{dump}");
        assert!(!of(timed.id()).is_lost(), "{dump}");
        assert!(!of(in_a_channel.id()).is_lost(), "{dump}");
        assert_eq!(of(queued.id()).state, TaskState::Queued);
        assert!(!of(queued.id()).is_lost(), "{dump}");
        assert_eq!(of(finished.id()).state, TaskState::Finished);
        assert!(!of(finished.id()).is_lost(), "{dump}");
        let text = dump.to_string();
        let n_lost = text.matches("it will never be polled again").count();
        assert_eq!(n_lost, 1, "{text}");
        drop(sender);
        lost.abort();
        timed.abort();
    });
}

#[test]
fn a_dump_forgets_a_job_once_it_has_ended() {
    let folder = crate::unix::Folder::new();
    let path = folder.at("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    crate::util::go(async {
        let (ended, has_ended) = futures_channel::oneshot::channel();
        let reader = path.clone();
        let task = spawn(async move {
            // Opening it waits for a writer.
            fahrenheit::fs::read(reader).await.unwrap();
            ended.send(()).unwrap();
            time::sleep(90 * SECOND).await;
        });
        let waits = || {
            let dump = fahrenheit::dump();
            let of_task = dump.tasks.into_iter().find(|shown| shown.id == task.id());
            of_task.unwrap().waits_for
        };
        yield_now().await;
        assert_eq!(waits(), [WaitsFor::BlockingJob]);
        fahrenheit::fs::write(path, "the end").await.unwrap();
        has_ended.await.unwrap();
        yield_now().await;
        assert!(matches!(waits()[..], [WaitsFor::Timer(_)]), "{:?}", waits());
        task.abort();
    });
}

#[test]
fn every_wait_counts_once_by_what_has_ended_it() {
    let before = metrics();
    fahrenheit::block_on(async {
        time::sleep(Duration::from_millis(1)).await;
        // Until the loop was asleep when the message came.
        while metrics().waits_ended_by_wake == before.waits_ended_by_wake {
            let (wake, woken) = futures_channel::oneshot::channel();
            let thread = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                wake.send(()).unwrap();
            });
            woken.await.unwrap();
            thread.join().unwrap();
        }
    });
    let after = metrics();
    let waits = after.waits - before.waits;
    let by_wake = after.waits_ended_by_wake - before.waits_ended_by_wake;
    let by_fd = after.waits_ended_by_descriptor - before.waits_ended_by_descriptor;
    let by_time = after.waits_ended_by_time - before.waits_ended_by_time;
    assert_eq!(by_fd, 0, "{after:?}");
    assert!(by_wake >= 1 && by_time >= 1, "{after:?}");
    assert_eq!(by_wake + by_time, waits, "{after:?}");
}
