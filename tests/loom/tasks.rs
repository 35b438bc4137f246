//! Tasks, as far as other threads touch them: by wakers and by handles that abort.

use crate::Model;
use crate::event_loop::body::Stage;
use crate::event_loop::inbox::Inbox;
use crate::event_loop::join_error::JoinError;
use crate::event_loop::tasks::conclude;
use crate::sys::task::{self, Batch, Birth, Handle, TaskRef};
use crate::sys::wake_pipe;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::panic::Location;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

pub(crate) const MODELS: &[Model] = &[
    (
        "task_a_poll_sees_what_was_written_before_its_wake",
        written_before_wake,
    ),
    (
        "task_wakes_by_value_and_by_reference_during_polls_are_not_lost",
        by_value_and_by_reference,
    ),
    ("task_an_abort_during_polls_and_wakes_ends_it", abort),
    ("task_wakes_and_aborts_after_its_end_do_nothing", late),
    (
        "task_the_last_waker_frees_the_memory_on_its_own_thread",
        last_waker,
    ),
    (
        "task_wakes_and_aborts_during_the_end_of_the_loop_do_nothing",
        loop_ends,
    ),
];

/// The loop: what `tick` does, with the real tasks and the real inbox.
pub(crate) struct Loop {
    pub(crate) inbox: Inbox,
    next_id: Cell<u64>,
    n_unfinished: Cell<usize>,
}

impl Loop {
    pub(crate) fn new() -> Loop {
        Loop {
            inbox: Inbox::for_this_thread(),
            next_id: Cell::new(1),
            n_unfinished: Cell::new(0),
        }
    }

    pub(crate) fn spawn(
        &self,
        future: impl Future<Output = ()> + 'static,
    ) -> Handle<Result<(), JoinError>> {
        let id = self.next_id.replace(self.next_id.get() + 1);
        self.n_unfinished.set(self.n_unfinished.get() + 1);
        let birth = Birth {
            id,
            place: Location::caller(),
            mailbox: self.inbox.mailbox().clone(),
            is_daemon: false,
            is_named: false,
        };
        task::spawn(Stage::new(async { Ok(future.await) }), birth)
    }

    /// As `run_woken_tasks` of the library.
    pub(crate) fn run_queued(&self) {
        loop {
            self.inbox.collect();
            let mut batch = Batch::take();
            if batch.is_empty() {
                return;
            }
            while let Some(mut running) = batch.next() {
                if running.is_aborted() {
                    running.cancel();
                } else if running.poll().is_pending() {
                    continue;
                }
                conclude(running.finish(), None);
                self.n_unfinished.set(self.n_unfinished.get() - 1);
            }
        }
    }

    /// Until all tasks have ended.
    pub(crate) fn run(&self) {
        loop {
            self.run_queued();
            if self.n_unfinished.get() == 0 {
                return;
            }
            if self.inbox.sleep(wake_pipe::select) > 0 {
                self.inbox.drain_pipe();
            }
        }
    }

    /// As the destructor of the loop.
    pub(crate) fn end(&self) {
        self.inbox.close();
        for task in task::all() {
            if let Some(mut running) = task.seize() {
                running.cancel();
                conclude(running.finish(), None);
            }
            task.discard(None);
        }
        task::clear_queue();
        assert!(!task::has_queued());
    }
}

/// What a thread does with a task.
type Deed = Box<dyn FnOnce(&TaskRef) + Send>;

/// Two threads that hold one reference to a task. They share it by an `Arc` of std, so that loom
/// does not try the counting of the model in every order.
struct Threads {
    task: std::sync::Arc<TaskRef>,
}

/// Waits until no thread uses `shared` any more. Not by joining it: the unpark of a late wake would
/// end that wait, which loom takes for a fault of its own.
pub(crate) fn wait_until_last<T: ?Sized>(shared: std::sync::Arc<T>) {
    while std::sync::Arc::strong_count(&shared) > 1 {
        thread::yield_now();
    }
}

impl Threads {
    fn start(task: TaskRef, deeds: [Deed; 2]) -> Threads {
        let task = std::sync::Arc::new(task);
        for deed in deeds {
            let task = std::sync::Arc::clone(&task);
            thread::spawn(move || deed(&task));
        }
        Threads { task }
    }

    /// Waits for the threads, so that the reference is given up on this one.
    fn join(self) {
        wait_until_last(self.task);
    }
}

/// Counts how often it is dropped, and checks that it is on its own thread.
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

/// Two threads wake. The one that has written something may be the second to wake, and then finds
/// the task queued already.
fn written_before_wake() {
    let this = Loop::new();
    this.inbox.open_pipe().unwrap();
    let news = std::sync::Arc::new(AtomicBool::new(false));
    let theirs = std::sync::Arc::clone(&news);
    let is_here = move |_: &mut Context<'_>| match theirs.load(Ordering::Relaxed) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    };
    let handle = this.spawn(poll_fn(is_here));
    let threads = Threads::start(
        TaskRef::clone(handle.task()),
        [
            Box::new(move |task| {
                news.store(true, Ordering::Relaxed);
                task.wake_by_ref();
            }),
            Box::new(TaskRef::wake_by_ref),
        ],
    );
    this.run();
    threads.join();
    assert!(handle.join().is_some());
    this.end();
}

/// A task that wakes itself, by value, while another thread wakes it too.
fn by_value_and_by_reference() {
    let this = Loop::new();
    this.inbox.open_pipe().unwrap();
    let (waker, n_polls) = (Rc::new(Cell::new(None::<Waker>)), Rc::new(Cell::new(0)));
    let (theirs, count) = (Rc::clone(&waker), Rc::clone(&n_polls));
    let handle = this.spawn(poll_fn(move |cx| {
        count.set(count.get() + 1);
        match count.get() {
            1 => theirs.set(Some(cx.waker().clone())),
            2 => cx.waker().clone().wake(),
            _ => return Poll::Ready(()),
        }
        Poll::Pending
    }));
    this.run_queued();
    let waker = waker.take().unwrap();
    thread::spawn(move || {
        waker.wake_by_ref();
        waker.wake();
    });
    this.run();
    assert!(n_polls.get() == 3 && handle.join().is_some());
    this.end();
}

fn abort() {
    let this = Loop::new();
    this.inbox.open_pipe().unwrap();
    let (guard, n_drops) = Guard::new();
    let handle = this.spawn(async {
        let _guard = guard;
        pending().await
    });
    // Before the first poll: the abort may come that early.
    let task = TaskRef::clone(handle.task());
    let both: [Deed; 2] = [Box::new(TaskRef::abort), Box::new(TaskRef::wake_by_ref)];
    let threads = Threads::start(task, both);
    this.run();
    assert!(handle.task().is_finished() && n_drops.get() == 1);
    assert!(handle.join().is_some_and(|output| output.is_err()));
    threads.join();
    this.end();
}

/// A task ends while another thread wakes and aborts it. loom complains if its memory stays.
fn late() {
    let this = Loop::new();
    this.inbox.open_pipe().unwrap();
    let handle = this.spawn(async {});
    let task = TaskRef::clone(handle.task());
    thread::spawn(move || {
        task.wake_by_ref();
        task.abort();
    });
    this.run();
    assert!(handle.join().is_some());
    this.run_queued();
    this.end();
}

/// The last reference is given up by another thread, right after the loop has used the task.
fn last_waker() {
    let this = Loop::new();
    let (guard, n_drops) = Guard::new();
    let handle = this.spawn(async { drop(guard) });
    let task = TaskRef::clone(handle.task());
    let thread = thread::spawn(move || drop(task));
    this.run_queued();
    let joiner = handle.task().replace_joiner(None);
    assert!(joiner.is_none() && handle.join().is_some() && n_drops.get() == 1);
    thread.join().unwrap();
    this.end();
}

/// A task that waits for ever is dropped with its loop.
fn loop_ends() {
    let this = Loop::new();
    let (guard, n_drops) = Guard::new();
    let handle = this.spawn(async {
        let _guard = guard;
        pending().await
    });
    this.run_queued();
    let task = TaskRef::clone(handle.task());
    let both: [Deed; 2] = [Box::new(TaskRef::abort), Box::new(TaskRef::wake_by_ref)];
    let threads = Threads::start(task, both);
    this.run_queued();
    this.end();
    assert!(handle.task().is_finished() && n_drops.get() == 1);
    threads.join();
    drop(handle);
    assert!(!task::has_queued());
}
