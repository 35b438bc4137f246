//! Step 4: tasks. Each connection is a future of its own, and a waker says which of them to poll.
//!
//! `cargo run --bin step4_tasks 127.0.0.1:7878`

#[path = "shared/echo.rs"]
mod echo;
#[path = "shared/reactor.rs"]
mod reactor;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

thread_local! {
    static EXECUTOR: RefCell<Executor> = RefCell::default();
}

/// All tasks, and which of them were woken.
#[derive(Default)]
struct Executor {
    tasks: BTreeMap<u64, Pin<Box<dyn Future<Output = ()>>>>,
    next_id: u64,
    woken: Arc<Mutex<VecDeque<u64>>>,
}

/// The waker of one task. The type has to be `Send`, so the queue has a lock.
struct TaskWaker {
    id: u64,
    woken: Arc<Mutex<VecDeque<u64>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.woken
            .lock()
            .expect("no code panics with the lock")
            .push_back(self.id);
    }
}

fn main() -> io::Result<()> {
    let listener = echo::listen()?;
    spawn(async move {
        while let Ok(stream) = echo::accept(&listener).await {
            spawn(async move {
                let _ = echo::echo(stream).await;
            });
        }
    });
    run()
}

/// Starts a task. It is polled at the next turn of the loop.
fn spawn(future: impl Future<Output = ()> + 'static) {
    EXECUTOR.with_borrow_mut(|executor| {
        let id = executor.next_id;
        executor.next_id += 1;
        executor.tasks.insert(id, Box::pin(future));
        executor
            .woken
            .lock()
            .expect("no code panics with the lock")
            .push_back(id);
    });
}

/// Polls woken tasks and sleeps, until all tasks have ended.
fn run() -> io::Result<()> {
    let woken = EXECUTOR.with_borrow(|executor| Arc::clone(&executor.woken));
    loop {
        // One batch: what these polls wake is for the next one.
        let batch = mem::take(&mut *woken.lock().expect("no code panics with the lock"));
        let is_idle = batch.is_empty();
        for id in batch {
            poll(id, &woken);
        }
        if EXECUTOR.with_borrow(|executor| executor.tasks.is_empty()) {
            return Ok(());
        }
        if is_idle {
            reactor::wait(None)?;
        }
    }
}

fn poll(id: u64, woken: &Arc<Mutex<VecDeque<u64>>>) {
    // Taken out for the poll, because the future may spawn, which needs the table.
    let Some(mut task) = EXECUTOR.with_borrow_mut(|executor| executor.tasks.remove(&id)) else {
        return; // it has ended, and a waker of it was left
    };
    let waker = Waker::from(Arc::new(TaskWaker {
        id,
        woken: Arc::clone(woken),
    }));
    if task
        .as_mut()
        .poll(&mut Context::from_waker(&waker))
        .is_pending()
    {
        EXECUTOR.with_borrow_mut(|executor| executor.tasks.insert(id, task));
    }
}
