//! Tasks that wait for each other, by the ends of tasks and by events, are reported; tasks that
//! something else may wake are not.

use crate::util::within;
use fahrenheit::diagnostics::WaitsFor;
use fahrenheit::task::{self, Handle, JoinHandle};
use fahrenheit::{Builder, Event, Local, spawn, yield_now};
use std::cell::RefCell;
use std::io::Write;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

/// Longer than the loop waits before it checks whether it is stuck.
const LONG: Duration = Duration::from_millis(1_200);

/// What the panic of a stuck loop says, which is the same with both clocks.
fn panic_of<F: Future>(main: impl Fn() -> F) -> String {
    let run = |virtual_clock| {
        let builder = Builder::new().virtual_clock(virtual_clock);
        let builder = builder.panic_when_stuck(true);
        let run = || builder.block_on(main()).map(drop);
        let payload = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
        fahrenheit::drop_all_tasks();
        *payload.downcast::<String>().unwrap()
    };
    let text = run(true);
    assert_eq!(run(false).matches(';').count(), text.matches(';').count());
    text
}

fn run<F: Future>(main: F) -> F::Output {
    let builder = Builder::new().panic_when_stuck(true);
    builder.block_on(main).unwrap()
}

/// Spawns tasks each of which awaits the next one, and the last the first.
fn circle(n: usize) -> Vec<task::Id> {
    type Slot = Rc<RefCell<Option<JoinHandle<()>>>>;
    let slots: Vec<_> = (0..n).map(|_| Slot::default()).collect();
    let tasks = slots.iter().map(|slot| {
        let slot = Slot::clone(slot);
        spawn(async move {
            let handle = slot.take().unwrap();
            handle.await.unwrap();
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let ids = tasks.iter().map(JoinHandle::id).collect();
    for (n, task) in tasks.into_iter().enumerate() {
        let before = (n + slots.len() - 1) % slots.len();
        slots[before].replace(Some(task));
    }
    ids
}

#[test]
fn tasks_that_await_each_other_are_named_in_their_order() {
    within(60, || {
        let named = RefCell::new(String::new());
        let text = panic_of(|| {
            let ids = circle(3);
            let [a, b, c] = ids[..] else { unreachable!() };
            named.replace(format!(
                "task {a} waits for task {b}, which waits for task {c}, which waits for task {a}"
            ));
            std::future::pending::<()>()
        });
        // The ids are those of the second run.
        let shape = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
        assert!(shape(&text).contains(&shape(&named.take())), "{text}");
    });
}

#[test]
fn a_dump_lists_each_circle_once_and_nothing_that_only_leads_to_one() {
    fahrenheit::block_on(async {
        let (pair, alone) = (circle(2), circle(1));
        let lost = spawn(std::future::pending::<()>());
        let leads_to_lost = spawn(lost);
        yield_now().await;
        yield_now().await;
        let dump = fahrenheit::dump();
        assert_eq!(dump.circles(), [pair.clone(), alone.clone()], "{dump}");
        let line = format!("task {} waits for task {0}\n", alone[0]);
        assert!(dump.to_string().contains(&line), "{dump}");
        assert!(dump.stuck().contains(&leads_to_lost.id()), "{dump}");
    });
    fahrenheit::drop_all_tasks();
}

/// Each of two tasks waits for its event before it signals that of the other.
async fn wait_for_each_other() {
    let events = Rc::new([Event::new().unwrap(), Event::new().unwrap()]);
    let tasks = [0, 1].map(|n| {
        let events = Rc::clone(&events);
        spawn(async move {
            events[n].wait().await.unwrap();
            events[1 - n].notify().unwrap();
        })
    });
    for task in tasks {
        task.await.unwrap();
    }
}

#[test]
fn tasks_that_wait_for_events_of_each_other_are_reported() {
    within(60, || {
        let text = panic_of(wait_for_each_other);
        assert_eq!(text.matches("awaits the event of").count(), 2, "{text}");
        assert!(text.contains("no notifier is left"), "{text}");
        assert!(text.contains("the main future awaits task"), "{text}");
    });
}

#[test]
fn an_event_that_a_notifier_can_signal_is_not_reported() {
    within(60, || {
        let event = Event::new().unwrap();
        let notifier = event.notifier().clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(LONG);
            notifier.notify().unwrap();
        });
        run(event.wait()).unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn an_event_whose_descriptor_was_given_out_is_not_reported() {
    within(60, || {
        let event = Event::new().unwrap();
        let fd = event.notifier().as_fd().try_clone_to_owned().unwrap();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(LONG);
            std::fs::File::from(fd).write_all(b"x").unwrap();
        });
        run(event.wait()).unwrap();
        thread.join().unwrap();
    });
}

/// Signals an event when it is dropped, which another thread may do by a `Local`.
struct SignalsAtEnd(Rc<Event>);

impl Drop for SignalsAtEnd {
    fn drop(&mut self) {
        self.0.notify().unwrap();
    }
}

#[test]
fn a_destructor_that_another_thread_sends_is_not_overlooked() {
    within(60, || {
        // Once while the loop waits for its second look at itself, and once after that.
        for delay in [LONG / 4, 2 * LONG] {
            let event = Rc::new(Event::new().unwrap());
            let local = Local::new(SignalsAtEnd(Rc::clone(&event)));
            let thread = std::thread::spawn(move || {
                std::thread::sleep(delay);
                drop(local);
            });
            run(event.wait()).unwrap();
            thread.join().unwrap();
        }
    });
}

thread_local! { static SHARED: Rc<Event> = Rc::new(Event::new().unwrap()); }

#[test]
fn a_loop_to_which_another_thread_can_send_tasks_is_not_reported() {
    within(60, || {
        let handle = Handle::current();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(LONG);
            // By a task that does not exist yet while the loop is idle.
            drop(handle.spawn_with(|| async { SHARED.with(|event| event.notify()) }));
        });
        let event = SHARED.with(Rc::clone);
        run(event.wait()).unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn an_event_counts_as_dead_only_if_no_task_of_the_loop_goes_on() {
    let event = Rc::new(Event::new().unwrap());
    let waits = spawn({
        let event = Rc::clone(&event);
        async move { event.wait().await }
    });
    fahrenheit::block_on(async {
        yield_now().await;
        let dump = fahrenheit::dump();
        let task = dump.tasks.iter().find(|task| task.id == waits.id());
        let wait = &task.unwrap().waits_for;
        assert!(
            matches!(wait[..], [WaitsFor::Event { n_notifiers: 0, .. }]),
            "{dump}"
        );
        // The main future could signal it.
        assert_eq!(dump.stuck(), [], "{dump}");
    });
    assert_eq!(fahrenheit::dump().stuck(), [waits.id()]);
    let notifier = event.notifier();
    assert_eq!(fahrenheit::dump().stuck(), []);
    drop(notifier);
    event.notify().unwrap();
    fahrenheit::block_on(waits).unwrap().unwrap();
}
