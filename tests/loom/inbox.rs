//! Mailbox and pipe: a wake from another thread is never lost.
//!
//! A lost wake leaves the loop in `select` for ever, which loom reports as a deadlock.

use crate::Model;
use crate::event_loop::join_error::JoinError;
use crate::sys::sync::Arc;
use crate::sys::task::{self, Handle, Mailbox, Message, TaskRef};
use crate::sys::wake_pipe;
use crate::tasks::{self, Loop};
use loom::thread;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

pub(crate) const MODELS: &[Model] = &[
    (
        "inbox_two_threads_wake_a_task_each_and_both_are_polled",
        two_threads,
    ),
    (
        "inbox_a_thread_wakes_one_task_after_the_other_and_both_are_polled",
        one_after_the_other,
    ),
    (
        "inbox_a_wake_at_the_end_of_a_sleep_is_not_lost",
        sleep_is_cut_short,
    ),
    (
        "inbox_a_loop_inside_another_is_woken_while_the_other_waits",
        inside_another,
    ),
    (
        "inbox_the_wake_after_a_failed_write_to_the_pipe_writes_again",
        first_ring_fails,
    ),
    (
        "inbox_wakes_during_the_end_of_the_loop_do_nothing",
        loop_ends,
    ),
    (
        "inbox_messages_and_wakes_of_a_thread_arrive_in_their_order",
        messages,
    ),
    (
        "inbox_a_message_that_meets_the_end_of_the_loop_is_delivered_or_refused",
        last_message,
    ),
];

/// The loop with tasks that wait for one wake each.
struct Waiting {
    inner: Loop,
    handles: Vec<Handle<Result<(), JoinError>>>,
    /// The tasks that were woken, in order.
    woken: Rc<RefCell<Vec<usize>>>,
    n_sleeps: Cell<usize>,
    /// What threads wake by.
    references: Vec<std::sync::Arc<[TaskRef]>>,
}

impl Waiting {
    fn new(n_tasks: usize) -> Waiting {
        let (inner, woken) = (Loop::new(), Rc::new(RefCell::new(Vec::new())));
        let spawn = |index| {
            let (woken, mut is_waiting) = (Rc::clone(&woken), false);
            inner.spawn(poll_fn(move |_| {
                if !std::mem::replace(&mut is_waiting, true) {
                    return Poll::Pending;
                }
                woken.borrow_mut().push(index);
                Poll::Ready(())
            }))
        };
        let handles = (0..n_tasks).map(spawn).collect();
        inner.run_queued();
        Waiting {
            inner,
            handles,
            woken,
            n_sleeps: Cell::new(0),
            references: Vec::new(),
        }
    }

    /// Starts a thread that wakes these tasks, one after the other.
    fn start_waker<const N: usize>(&mut self, indexes: [usize; N]) {
        let tasks = indexes.map(|index| TaskRef::clone(self.handles[index].task()));
        let tasks: std::sync::Arc<[TaskRef]> = std::sync::Arc::new(tasks);
        let theirs = std::sync::Arc::clone(&tasks);
        thread::spawn(move || {
            for task in theirs.iter() {
                task.wake_by_ref();
            }
        });
        // The references are given up at the end, on the thread of the loop, so that loom does not
        // try that in every order as well. Models of `tasks` do.
        self.references.push(tasks);
    }

    fn is_done(&self) -> bool {
        self.woken.borrow().len() == self.handles.len()
    }

    /// As steps 3 and 4 of `turn` of the library, of which `sleep` is the part with threads in it.
    fn wait(&self, may_wait: bool) {
        let n_bytes = self
            .inner
            .inbox
            .sleep(|may_block| wake_pipe::select(may_block && may_wait));
        self.n_sleeps.set(self.n_sleeps.get() + 1);
        // The promise: at most one byte a sleep, and none without.
        assert!(n_bytes <= self.n_sleeps.get());
        if n_bytes > 0 {
            self.inner.inbox.drain_pipe();
        }
    }

    fn run(&self) {
        loop {
            self.inner.run_queued();
            if self.is_done() {
                return;
            }
            self.wait(true);
        }
    }

    fn end(self) {
        self.inner.end();
        self.references.into_iter().for_each(tasks::wait_until_last);
        drop(self.handles);
    }
}

fn two_threads() {
    let mut this = Waiting::new(2);
    this.inner.inbox.open_pipe().unwrap();
    this.start_waker([0]);
    this.start_waker([1]);
    this.run();
    this.end();
}

fn one_after_the_other() {
    let mut this = Waiting::new(2);
    this.start_waker([0, 1]);
    // The thread may be faster than the pipe.
    this.inner.inbox.open_pipe().unwrap();
    this.run();
    assert_eq!(*this.woken.borrow(), [0, 1]);
    this.end();
}

/// A socket, or a timer, ends the first wait.
fn sleep_is_cut_short() {
    let mut this = Waiting::new(2);
    this.inner.inbox.open_pipe().unwrap();
    this.start_waker([0, 1]);
    this.inner.run_queued();
    this.wait(false);
    this.run();
    this.end();
}

/// As `interest` and `turn` of the library.
fn inside_another() {
    let mut this = Waiting::new(2);
    this.start_waker([0, 1]);
    while !this.is_done() {
        this.inner.inbox.open_pipe().unwrap();
        let queued = !this.inner.inbox.fall_asleep() || task::has_queued();
        this.n_sleeps.set(this.n_sleeps.get() + 1);
        wake_pipe::select(!queued);
        this.inner.inbox.wake_up();
        this.inner.run_queued();
        this.wait(false);
    }
    this.end();
}

fn first_ring_fails() {
    let mut this = Waiting::new(2);
    this.inner.inbox.open_pipe().unwrap();
    let pipe = wake_pipe::here();
    let tasks = [0, 1].map(|index| TaskRef::clone(this.handles[index].task()));
    thread::spawn(move || {
        pipe.break_down(true);
        tasks[0].wake_by_ref();
        pipe.break_down(false);
        tasks[1].wake_by_ref();
    });
    this.run();
    this.end();
}

/// What another thread holds of the loop is freed, too: loom counts.
fn loop_ends() {
    let mut this = Waiting::new(3);
    this.inner.inbox.open_pipe().unwrap();
    let last = TaskRef::clone(this.handles[2].task());
    this.start_waker([0]);
    this.start_waker([1]);
    this.inner.run_queued();
    this.end();
    last.wake_by_ref();
    assert!(!task::has_queued());
}

thread_local! {
    /// What has arrived, in order. Of std, as a model runs on one thread of std.
    static ARRIVED: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

struct Note(&'static str);

impl Message for Note {
    fn deliver(self) {
        ARRIVED.with_borrow_mut(|arrived| arrived.push(self.0));
    }

    fn refuse(self) {
        ARRIVED.with_borrow_mut(|arrived| arrived.push("refused"));
    }
}

fn messages() {
    ARRIVED.take();
    let mut this = Waiting::new(1);
    this.inner.inbox.open_pipe().unwrap();
    let task = TaskRef::clone(this.handles[0].task());
    let mailbox: Arc<Mailbox> = this.inner.inbox.mailbox().clone();
    thread::spawn(move || {
        mailbox.send(Note("first"));
        mailbox.send(Note("second"));
        task.wake_by_ref();
    });
    this.run();
    assert_eq!(ARRIVED.take(), ["first", "second"]);
    this.end();
}

fn last_message() {
    ARRIVED.take();
    let mut this = Waiting::new(0);
    let mailbox: Arc<Mailbox> = this.inner.inbox.mailbox().clone();
    let thread = thread::spawn(move || mailbox.send(Note("delivered")));
    this.inner.inbox.collect();
    this.end();
    thread.join().unwrap();
    assert_eq!(ARRIVED.take().len(), 1);
}
