//! [`fahrenheit::drop_all_tasks`], for programs that shut down in order.

use crate::util::{OnDrop, counted, record, within};
use fahrenheit::{block_on, drop_all_tasks, run, spawn, yield_now};
use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn all_tasks_are_dropped_and_their_handles_say_so() {
    let n_drops = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..10)
        .map(|i| {
            let guard = counted(&n_drops);
            spawn(async move {
                let _guard = guard;
                // Some have not been polled yet, some wait, some have ended.
                if i % 2 == 0 {
                    pending::<()>().await;
                }
                i
            })
        })
        .collect();
    block_on(yield_now());
    let unpolled = spawn(async {});
    drop_all_tasks();
    assert_eq!(n_drops.load(Ordering::SeqCst), 10);
    assert!(unpolled.is_finished());
    let outputs = block_on(futures_util::future::join_all(tasks));
    for (i, output) in outputs.into_iter().enumerate() {
        match output {
            Ok(n) => assert!(n == i && i % 2 == 1, "an output is kept"),
            Err(error) => assert!(error.is_cancelled() && i % 2 == 0),
        }
    }
    assert!(block_on(unpolled).unwrap_err().is_cancelled());
}

#[test]
fn the_loop_is_still_there_for_destructors_and_afterwards() {
    within(10, || {
        let n_polls = Rc::new(Cell::new(0));
        let theirs = Rc::clone(&n_polls);
        let guard = OnDrop(move || {
            let theirs = Rc::clone(&theirs);
            // Dropped as well, before it is polled.
            drop(spawn(async move { theirs.set(theirs.get() + 1) }));
        });
        drop(spawn(async move {
            let _guard = guard;
            pending::<()>().await;
        }));
        block_on(yield_now());
        drop_all_tasks();
        run(async {});
        assert_eq!((n_polls.get(), Rc::strong_count(&n_polls)), (0, 1));
        assert_eq!(run(async { spawn(async { 5 }).await.unwrap() }), 5);
    });
}

#[test]
fn the_task_that_calls_it_goes_on_and_so_does_main() {
    let ended = run(async {
        let other = spawn(pending::<()>());
        let caller = spawn(async {
            drop_all_tasks();
            yield_now().await;
            7
        });
        (
            caller.await.unwrap(),
            other.await.unwrap_err().is_cancelled(),
        )
    });
    assert_eq!(ended, (7, true));
    let other = spawn(pending::<()>());
    let ended = run(async {
        drop_all_tasks();
        yield_now().await;
        other.is_finished()
    });
    assert!(ended);
}

/// Spawns a task whose destructor does the same.
fn spawn_again(n_drops: Rc<Cell<usize>>) {
    let guard = OnDrop(move || {
        n_drops.set(n_drops.get() + 1);
        if n_drops.get() < 1_000 {
            spawn_again(Rc::clone(&n_drops));
        }
    });
    drop(spawn(async move {
        let _guard = guard;
        pending::<()>().await;
    }));
}

#[test]
fn destructors_that_keep_spawning_are_given_up_with_a_warning() {
    within(10, || {
        let n_drops = Rc::new(Cell::new(0));
        spawn_again(Rc::clone(&n_drops));
        let ((), lines) = record(drop_all_tasks);
        assert_eq!(n_drops.get(), 100);
        assert!(
            lines.iter().any(|line| line.contains("tasks are left")),
            "{lines:?}"
        );
        for _ in 0..10 {
            drop_all_tasks();
        }
        assert_eq!(n_drops.get(), 1_000);
    });
}

#[test]
fn a_destructor_that_panics_takes_no_other_task_with_it() {
    let n_drops = Arc::new(AtomicUsize::new(0));
    for i in 0..10 {
        let guard = counted(&n_drops);
        drop(spawn(async move {
            let _guard = guard;
            let _panics = OnDrop(move || assert!(i != 5, "this panic is expected"));
            pending::<()>().await;
        }));
    }
    block_on(yield_now());
    let ((), lines) = record(drop_all_tasks);
    assert_eq!(n_drops.load(Ordering::SeqCst), 10);
    assert!(
        lines
            .iter()
            .any(|line| line.contains("this panic is expected")),
        "{lines:?}"
    );
}
