//! The end of a process. `exit` ends the process that calls it, so every case runs in a child: this
//! test binary again, with the name of the case in an environment variable.

use crate::util::{OnDrop, again, is_alone, tcp_pair, within};
use fahrenheit::prelude::*;
use fahrenheit::time::sleep;
use fahrenheit::{AsyncTcpStream, Local, block_on, spawn, spawn_blocking, yield_now};
use std::cell::RefCell;
use std::future::pending;
use std::process::Stdio;
use std::time::Duration;

const CASE: &str = "FAHRENHEIT_TEARDOWN_CASE";

thread_local! {
    static KEPT: RefCell<Option<AsyncTcpStream>> = const { RefCell::new(None) };
}

/// Tasks that wait for all there is to wait for, and one that spawns, wakes and logs when it goes.
fn populate() {
    let (mut near, far) = tcp_pair();
    KEPT.set(Some(far));
    drop(spawn(async move { near.read(&mut [0]).await }));
    drop(spawn(sleep(Duration::from_secs(3_600))));
    drop(spawn_blocking(|| {
        std::thread::sleep(Duration::from_secs(3_600))
    }));
    let other = spawn(pending::<()>());
    let guard = OnDrop(move || {
        other.abort();
        drop(spawn(async {}));
    });
    drop(spawn(async move {
        let _guard = guard;
        pending::<()>().await;
    }));
    block_on(yield_now());
}

/// What the child does in the case of that name.
fn child(case: &str) {
    populate();
    match case {
        "exit outside" => std::process::exit(7),
        "exit in main" => block_on(async { std::process::exit(7) }),
        "exit in a task" => {
            drop(spawn(async { std::process::exit(7) }));
            block_on(pending::<()>());
        }
        "exit in a task, with a value on its way home" => {
            // Its destructor would run in the middle of the task.
            drop(spawn(async {
                let local = Local::new(OnDrop(|| std::process::abort()));
                std::thread::spawn(move || drop(local)).join().unwrap();
                std::process::exit(7)
            }));
            block_on(pending::<()>());
        }
        "exit in a destructor" => {
            let guard = OnDrop(|| std::process::exit(7));
            drop(spawn(async move {
                let _guard = guard;
                yield_now().await;
            }));
            block_on(pending::<()>());
        }
        "exit on another thread" => {
            std::thread::spawn(|| {
                populate();
                std::process::exit(7)
            });
            block_on(pending::<()>());
        }
        "end of the thread" => {
            std::thread::spawn(populate).join().unwrap();
            std::process::exit(7);
        }
        other => panic!("no such case: {other}"),
    }
}

#[test]
fn exit_with_live_tasks_sockets_timers_and_jobs_is_an_orderly_exit() {
    let cases = [
        "exit outside",
        "exit in main",
        "exit in a task",
        "exit in a task, with a value on its way home",
        "exit in a destructor",
        "exit on another thread",
        "end of the thread",
    ];
    let name = test_name!();
    if is_alone(name) {
        return child(&std::env::var(CASE).unwrap());
    }
    for case in cases {
        let mut command = again(name);
        command.env(CASE, case).stderr(Stdio::piped());
        let output = within(60, || command.output().unwrap());
        assert_eq!(output.status.code(), Some(7), "{case}: {output:?}");
    }
}
