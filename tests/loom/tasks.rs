//! Tasks, as far as other threads touch them: by wakers and by handles to abort.

use crate::Model;
use crate::sys::sync::Arc;
use crate::sys::wake_pipe;
use crate::event_loop::join_error::{Id, JoinError};
use crate::event_loop::body;
use crate::event_loop::tasks::{Table, Taken};
use crate::event_loop::waker::{self, Inbox, Key, TaskWaker};
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use std::cell::Cell;
use std::collections::VecDeque;
use std::future::{Future, pending, poll_fn};
use std::panic::Location;
use std::rc::Rc;
use std::task::{Context, Poll, Wake, Waker};

pub(crate) const MODELS: &[Model] = &[
    (
        "task_b5_what_was_written_before_a_wake_is_seen_by_a_poll",
        written_before_wake,
    ),
    (
        "task_c10_an_abort_that_meets_polls_and_wakes_ends_the_task",
        abort,
    ),
    (
        "task_c10_late_wakes_and_aborts_leave_the_next_task_alone",
        next_task,
    ),
    (
        "task_b7_wakes_and_aborts_that_meet_the_end_of_the_loop_do_nothing",
        loop_ends,
    ),
];

/// The loop: what `runtime` does with the real inbox and the real table.
struct Loop {
    inbox: Arc<Inbox>,
    tasks: Table,
}

/// A waker as std knows them, with the count of the real one.
struct Name(Arc<TaskWaker>);

impl Wake for Name {
    fn wake(self: std::sync::Arc<Self>) {
        TaskWaker::wake(&self.0);
    }
}

impl Loop {
    fn new() -> Loop {
        let inbox = Inbox::for_this_thread();
        inbox.open_pipe().unwrap();
        Loop {
            inbox,
            tasks: Table::new(),
        }
    }

    fn spawn(&mut self, future: impl Future<Output = ()> + 'static) -> Key {
        let future = async { Ok::<(), JoinError>(future.await) };
        let body = body::body(future);
        self.tasks.insert(body, None, false, Location::caller())
    }

    /// What an `AbortHandle` holds.
    fn name(&mut self, key: Key) -> Arc<TaskWaker> {
        self.tasks.waker(key, &self.inbox).unwrap()
    }

    /// As `run_queued` of the library.
    fn run_queued(&mut self) {
        let mut batch = VecDeque::new();
        loop {
            self.inbox.collect();
            waker::swap_queue(&mut batch);
            if batch.is_empty() {
                return;
            }
            for key in batch.drain(..) {
                self.poll(key);
            }
        }
    }

    /// As `poll_task` of the library; nobody asks for outputs.
    fn poll(&mut self, key: Key) {
        let Some(taken) = self.tasks.take(key, &self.inbox) else {
            return;
        };
        let Taken {
            mut body,
            waker,
            aborted,
        } = taken;
        let id = Id(key.serial);
        let polled = if aborted {
            body.as_mut().cancel(id);
            Poll::Ready(())
        } else {
            let waker = Waker::from(std::sync::Arc::new(Name(Arc::clone(&waker))));
            body.as_mut().poll(id, &mut Context::from_waker(&waker))
        };
        if polled.is_pending() {
            self.tasks.put_back(key, body, waker);
            return;
        }
        drop(self.tasks.finish(key, body, waker));
        drop(self.tasks.detach(key));
    }

    /// Until all tasks have ended.
    fn run(&mut self) {
        loop {
            self.run_queued();
            if self.tasks.n_awaited() == 0 {
                return;
            }
            if self.inbox.sleep(wake_pipe::select) > 0 {
                self.inbox.drain_pipe();
            }
        }
    }
}

/// What a thread does with the name of a task.
type Deed = Box<dyn FnOnce(&Arc<TaskWaker>) + Send>;

/// Two threads that have the same name. They share it by an `Arc` of the model's, as their counting
/// is not to be tried in every order; for that it has to end here.
struct Threads {
    name: std::sync::Arc<Arc<TaskWaker>>,
    threads: [thread::JoinHandle<()>; 2],
}

impl Threads {
    fn start(name: &Arc<TaskWaker>, deeds: [Deed; 2]) -> Threads {
        let name = std::sync::Arc::new(Arc::clone(name));
        let threads = deeds.map(|deed| {
            let name = std::sync::Arc::clone(&name);
            thread::spawn(move || deed(&name))
        });
        Threads { name, threads }
    }

    fn join(self) {
        for thread in self.threads {
            thread.join().unwrap();
        }
        assert_eq!(std::sync::Arc::strong_count(&self.name), 1);
    }
}

/// Counts how often it is dropped, and looks where.
struct Guard {
    n_drops: Rc<Cell<usize>>,
    thread: thread::ThreadId,
}

impl Guard {
    fn new() -> (Guard, Rc<Cell<usize>>) {
        let n_drops = Rc::new(Cell::new(0));
        let guard = Guard {
            n_drops: Rc::clone(&n_drops),
            thread: thread::current().id(),
        };
        (guard, n_drops)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        assert_eq!(self.thread, thread::current().id());
        self.n_drops.set(self.n_drops.get() + 1);
    }
}

/// Two threads wake, and the one with the news may find that the other was faster: then its wake is
/// that of the other.
fn written_before_wake() {
    let mut this = Loop::new();
    let news = std::sync::Arc::new(AtomicBool::new(false));
    let theirs = std::sync::Arc::clone(&news);
    let is_here = move |_: &mut Context<'_>| match theirs.load(Ordering::Relaxed) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    };
    let key = this.spawn(poll_fn(is_here));
    let name = this.name(key);
    let threads = Threads::start(
        &name,
        [
            Box::new(move |name| {
                news.store(true, Ordering::Relaxed);
                TaskWaker::wake(name);
            }),
            Box::new(TaskWaker::wake),
        ],
    );
    this.run();
    threads.join();
}

fn abort() {
    let mut this = Loop::new();
    let (guard, n_drops) = Guard::new();
    let key = this.spawn(async {
        let _guard = guard;
        pending().await
    });
    // Before the first poll: the abort may come that early.
    let name = this.name(key);
    let both: [Deed; 2] = [Box::new(TaskWaker::abort), Box::new(TaskWaker::wake)];
    let threads = Threads::start(&name, both);
    this.run();
    assert!(name.is_finished() && n_drops.get() == 1);
    threads.join();
}

/// A task ends while others still hold its name; the next gets its place, and its waker if nobody
/// holds that any more.
fn next_task() {
    let mut this = Loop::new();
    let key = this.spawn(async {});
    let name = this.name(key);
    thread::spawn(move || {
        TaskWaker::wake(&name);
        TaskWaker::abort(&name);
    });
    this.run();
    let mut yielded = false;
    let has_ended = Rc::new(Cell::new(false));
    let theirs = Rc::clone(&has_ended);
    let next = this.spawn(poll_fn(move |cx| {
        if !std::mem::replace(&mut yielded, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        theirs.set(true);
        Poll::Ready(())
    }));
    assert!(next.index == key.index && next.serial != key.serial);
    this.run();
    assert!(has_ended.get(), "it was aborted by the name of another");
}

/// A task that waits for ever is dropped with its loop.
fn loop_ends() {
    let mut this = Loop::new();
    let (guard, n_drops) = Guard::new();
    let key = this.spawn(async {
        let _guard = guard;
        pending().await
    });
    this.run_queued();
    let name = this.name(key);
    let both: [Deed; 2] = [Box::new(TaskWaker::abort), Box::new(TaskWaker::wake)];
    let threads = Threads::start(&name, both);
    this.run_queued();
    // As the destructor of the loop.
    this.inbox.close();
    drop(this.tasks.drain());
    assert!(name.is_finished() && n_drops.get() == 1);
    threads.join();
    this.inbox.collect();
    assert!(!waker::has_queued());
}
