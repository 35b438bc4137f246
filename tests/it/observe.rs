//! Dumps and metrics say what is going on in the loop.

use crate::util::within;
use fahrenheit::diagnostics::{Direction, Dump, TaskDump, TaskState, WaitsFor};
use fahrenheit::prelude::*;
use fahrenheit::process::AsyncCommand;
use fahrenheit::signal::{Signal, Signals};
use fahrenheit::{AsyncTcpListener, AsyncTcpStream, Builder, Event, task, time};
use std::future::pending;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);

fn task_of(dump: &Dump, id: task::Id) -> &TaskDump {
    let found = dump.tasks.iter().find(|task| task.id == id);
    found.unwrap_or_else(|| panic!("no task {id} in:\n{dump}"))
}

/// Lets all tasks run until each of them waits, and returns a dump. Some waits make the tasks look
/// twice.
async fn settle() -> Dump {
    for _ in 0..20 {
        time::sleep(Duration::from_millis(1)).await;
    }
    fahrenheit::dump()
}

#[test]
fn a_dump_says_what_each_task_waits_for() {
    within(60, || {
        fahrenheit::block_on(async {
            let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            let mut client = AsyncTcpStream::connect(addr).await.unwrap();
            let (_accepted, _) = listener.accept().await.unwrap();
            let accepts = fahrenheit::spawn(async move { listener.accept().await.map(drop) });
            let reads = fahrenheit::spawn(async move { client.read(&mut [0]).await });
            let sleeps = fahrenheit::spawn(time::sleep(HOUR));
            let target = fahrenheit::spawn(pending::<()>());
            let target_id = target.id();
            let joins = fahrenheit::spawn(async move { target.await.is_ok() });
            let (sender, receiver) = futures_channel::oneshot::channel::<()>();
            let channel = fahrenheit::spawn(async move { receiver.await.is_ok() });
            let mut child = AsyncCommand::new("sleep");
            let mut child = child.arg("1000").kill_on_drop(true).spawn().unwrap();
            let pid = child.id().unwrap();
            let child = fahrenheit::spawn(async move {
                child.wait().await.map(drop).unwrap();
            });
            let (done, wait) = std::sync::mpsc::channel::<()>();
            let job = fahrenheit::spawn_blocking(move || wait.recv().is_err());
            let signals = fahrenheit::spawn(async {
                let mut signals = Signals::new([Signal::WINCH, Signal::URG]).unwrap();
                signals.next().await
            });
            let event = fahrenheit::spawn(async { Event::new()?.wait().await });

            let dump = settle().await;
            let waits = |id| task_of(&dump, id).waits_for.as_slice();
            let fd = |id| match waits(id) {
                [
                    WaitsFor::Descriptor {
                        direction, what, ..
                    },
                ] => (*direction, what.clone()),
                other => panic!("{other:?} in:\n{dump}"),
            };
            let listens = format!("tcp listener {addr}");
            assert_eq!(fd(accepts.id()), (Direction::Read, listens));
            assert_eq!(fd(reads.id()), (Direction::Read, format!("tcp {addr}")));
            assert!(
                matches!(waits(sleeps.id()), [WaitsFor::Timer(left)] if *left > HOUR / 2),
                "{dump}"
            );
            assert_eq!(waits(joins.id()), [WaitsFor::Join(target_id)]);
            assert_eq!(task_of(&dump, joins.id()).n_wakers_elsewhere, 0, "{dump}");
            assert!(task_of(&dump, target_id).is_lost(), "{dump}");
            assert_eq!(waits(channel.id()), []);
            assert_eq!(task_of(&dump, channel.id()).n_wakers_elsewhere, 1, "{dump}");
            assert!(waits(child.id()).contains(&WaitsFor::Child(pid)), "{dump}");
            assert_eq!(waits(job.id()), [WaitsFor::BlockingJob]);
            let (_, what) = fd(signals.id());
            assert!(
                what.starts_with("signals ") && what.contains("SIGWINCH"),
                "{what}"
            );
            let is_event = |wait: &WaitsFor| matches!(wait, WaitsFor::Event { .. });
            assert!(waits(event.id()).iter().all(is_event), "{dump}");
            assert!(dump.tasks[0].is_main && dump.tasks[0].state == TaskState::Running);
            drop((sender, done));
            child.abort();
        });
    });
}

#[test]
fn a_dump_outside_of_the_loop_shows_what_is_left() {
    let line = line!() + 3;
    let sleeper = task::Builder::new()
        .name("sleeper")
        .spawn(time::sleep(HOUR));
    let queued = fahrenheit::dump();
    assert_eq!(task_of(&queued, sleeper.id()).state, TaskState::Queued);
    fahrenheit::block_on(async {});
    let dump = fahrenheit::dump();
    let task = task_of(&dump, sleeper.id());
    assert_eq!((task.state, task.n_polls), (TaskState::Waiting, 1));
    assert_eq!(task.name.as_deref(), Some("sleeper"));
    assert!(task.times.is_none(), "nothing is measured unasked");
    let text = dump.to_string();
    let place = format!("\"sleeper\" ({}:{line}:", file!());
    assert!(text.contains(&place), "{text}");
    assert!(
        text.contains("\n    waits for a timer that is due in 3"),
        "{text}"
    );
}

#[test]
fn a_finished_task_is_shown_until_its_output_is_taken() {
    fahrenheit::block_on(async {
        let task = fahrenheit::spawn(async { 7 });
        fahrenheit::yield_now().await;
        let id = task.id();
        assert_eq!(task_of(&fahrenheit::dump(), id).state, TaskState::Finished);
        task.await.unwrap();
        assert!(fahrenheit::dump().tasks.iter().all(|task| task.id != id));
    });
}

#[test]
fn waits_of_combinators_with_wakers_of_their_own_are_listed_apart() {
    fahrenheit::block_on(async {
        let many: futures_util::stream::FuturesUnordered<_> =
            (0..3).map(|_| time::sleep(HOUR)).collect();
        let task = fahrenheit::spawn(many.collect::<Vec<_>>());
        fahrenheit::yield_now().await;
        let dump = fahrenheit::dump();
        assert_eq!(dump.unattributed.len(), 3, "{dump}");
        assert_eq!(task_of(&dump, task.id()).n_wakers_elsewhere, 1, "{dump}");
    });
}

#[test]
fn tracking_measures_polls_sleep_and_lateness() {
    const BUSY: Duration = Duration::from_millis(20);
    let main = async {
        let task = task::Builder::new().spawn(async {
            std::thread::sleep(BUSY);
            pending::<()>().await;
        });
        time::sleep(2 * BUSY).await;
        (fahrenheit::dump(), task.id())
    };
    let (dump, id) = Builder::new().track(true).block_on(main).unwrap();
    let times = task_of(&dump, id).times.unwrap();
    assert!(times.longest_poll >= BUSY && times.busy >= BUSY, "{dump}");
    assert!(times.age >= 2 * BUSY, "{dump}");
    assert!(times.since_last_poll.unwrap() < times.age, "{dump}");
    let tracked = dump.metrics.tracked.unwrap();
    assert!(tracked.busy >= BUSY && tracked.idle > Duration::ZERO);
    assert_eq!(tracked.lateness.last().unwrap(), &(None, 1));
    assert!(tracked.lateness.is_sorted_by_key(|(_, n)| *n));
    Builder::new().track(false).block_on(async {}).unwrap();
    assert!(fahrenheit::metrics().tracked.is_none());
}

#[test]
fn metrics_count_turns_polls_waits_and_what_ended_them() {
    let before = fahrenheit::metrics();
    fahrenheit::block_on(async {
        let task = fahrenheit::spawn(async {
            for _ in 0..9 {
                fahrenheit::yield_now().await;
            }
        });
        task.await.unwrap();
        time::sleep(Duration::from_millis(1)).await;
        let (waker, woken) = futures_channel::oneshot::channel();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            waker.send(()).unwrap();
        });
        woken.await.unwrap();
        thread.join().unwrap();
        let event = Event::new().unwrap();
        let notifier = event.notifier();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            notifier.notify().unwrap();
        });
        event.wait().await.unwrap();
        thread.join().unwrap();
    });
    let after = fahrenheit::metrics();
    assert_eq!(after.tasks_spawned - before.tasks_spawned, 1);
    assert!(after.polls - before.polls >= 14, "{after:?}");
    assert!(after.turns - before.turns >= 3, "{after:?}");
    assert_eq!(after.timers_fired - before.timers_fired, 1);
    assert!(after.waits_ended_by_time > before.waits_ended_by_time);
    assert!(after.waits_ended_by_wake > before.waits_ended_by_wake);
    assert!(after.waits_ended_by_descriptor > before.waits_ended_by_descriptor);
    assert_eq!((after.tasks, after.timers_armed), (0, 0));
}

#[test]
fn another_thread_gets_a_dump_by_a_handle() {
    within(60, || {
        fahrenheit::block_on(async {
            let handle = task::Handle::current();
            let sleeper = task::Builder::new()
                .name("sleeper")
                .spawn(time::sleep(HOUR));
            let thread = std::thread::spawn(move || fahrenheit::block_on(handle.dump()));
            let dump = loop {
                if thread.is_finished() {
                    break thread.join().unwrap().unwrap();
                }
                time::sleep(Duration::from_millis(1)).await;
            };
            let found = task_of(&dump, sleeper.id());
            assert_eq!(found.name.as_deref(), Some("sleeper"));
        });
    });
}

#[test]
fn tasks_that_wait_for_each_other_are_found_while_others_go_on() {
    fahrenheit::block_on(async {
        type Slot = std::rc::Rc<std::cell::RefCell<Option<task::JoinHandle<()>>>>;
        let [first, second] = [Slot::default(), Slot::default()];
        let awaits = |slot: &Slot| {
            let slot = Slot::clone(slot);
            fahrenheit::spawn(async move {
                let handle = slot.take().unwrap();
                handle.await.unwrap();
            })
        };
        let (one, other) = (awaits(&first), awaits(&second));
        let expected = [one.id(), other.id()];
        let lost = fahrenheit::spawn(pending::<()>());
        let lost_id = lost.id();
        let behind = fahrenheit::spawn(lost);
        let sleeper = fahrenheit::spawn(time::sleep(HOUR));
        let fine = fahrenheit::spawn(sleeper);
        // Each gets the handle of the other.
        first.replace(Some(other));
        second.replace(Some(one));
        fahrenheit::yield_now().await;
        fahrenheit::yield_now().await;
        let dump = fahrenheit::dump();
        let [a, b] = expected;
        assert_eq!(dump.stuck(), [a, b, lost_id, behind.id()], "{dump}");
        let line = format!("task {a} is stuck");
        assert!(dump.to_string().contains(&line), "{dump}");
        drop(fine);
    });
}
