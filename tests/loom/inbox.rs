//! Inbox, flags and pipe: a wake from another thread is never lost.
//!
//! A lost wake leaves the loop in `select` for ever, which loom reports as a deadlock.

use crate::Model;
use crate::sys::sync::Arc;
use crate::sys::wake_pipe;
use crate::event_loop::waker::{self, Inbox, Key, TaskWaker};
use loom::thread;
use std::collections::VecDeque;

pub(crate) const MODELS: &[Model] = &[
    (
        "inbox_b2_two_threads_wake_a_task_each_and_both_are_polled",
        two_threads,
    ),
    (
        "inbox_b2_a_thread_wakes_one_task_after_the_other_and_both_are_polled",
        one_after_the_other,
    ),
    (
        "inbox_b2_a_wake_that_meets_the_end_of_a_sleep_is_heard",
        sleep_is_cut_short,
    ),
    (
        "inbox_b2_a_loop_inside_another_is_rung_while_that_one_waits",
        inside_another,
    ),
    (
        "inbox_b4_after_a_failed_write_the_next_wake_rings",
        first_ring_fails,
    ),
    (
        "inbox_b7_wakes_that_meet_the_end_of_the_loop_do_nothing",
        loop_ends,
    ),
];

/// The loop, as far as other threads meet it; a task is a waker, and polling it is to count.
struct Loop {
    inbox: Arc<Inbox>,
    /// The outer `Arc` is the model's, whose counting is not to be tried in every order.
    tasks: std::sync::Arc<[Arc<TaskWaker>]>,
    n_polls: Vec<usize>,
    n_sleeps: usize,
}

impl Loop {
    fn new(n_tasks: usize) -> Loop {
        let inbox = Inbox::for_this_thread();
        let task = |index: usize| {
            let index = u32::try_from(index).unwrap();
            let key = Key { index, serial: 1 };
            TaskWaker::new(key, Arc::clone(&inbox))
        };
        Loop {
            tasks: (0..n_tasks).map(task).collect(),
            n_polls: vec![0; n_tasks],
            n_sleeps: 0,
            inbox,
        }
    }

    /// Starts a thread that wakes `tasks`, one after the other.
    fn start_waker<const N: usize>(&self, indexes: [usize; N]) {
        let tasks = std::sync::Arc::clone(&self.tasks);
        thread::spawn(move || indexes.map(|index| TaskWaker::wake(&tasks[index])));
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
                self.tasks[key.place()].leave_queue();
                self.n_polls[key.place()] += 1;
            }
        }
    }

    /// Whether each task has been woken; each is, once.
    fn is_done(&self) -> bool {
        assert!(self.n_polls.iter().all(|n| *n <= 1));
        self.n_polls.iter().all(|n| *n == 1)
    }

    /// As `wait_and_wake` of the library, of which `sleep` is the part with threads in it.
    fn wait(&mut self, may_wait: bool) {
        let n_bytes = self
            .inbox
            .sleep(|asleep| wake_pipe::select(asleep && may_wait));
        self.n_sleeps += 1;
        // The promise: at most one byte a sleep, and none without.
        assert!(n_bytes <= self.n_sleeps);
        if n_bytes > 0 {
            self.inbox.drain_pipe();
        }
    }

    fn run(&mut self) {
        loop {
            self.run_queued();
            if self.is_done() {
                return;
            }
            self.wait(true);
        }
    }
}

fn two_threads() {
    let mut this = Loop::new(2);
    this.inbox.open_pipe().unwrap();
    this.start_waker([0]);
    this.start_waker([1]);
    this.run();
}

fn one_after_the_other() {
    let mut this = Loop::new(2);
    this.start_waker([0, 1]);
    // The thread may be faster than the pipe.
    this.inbox.open_pipe().unwrap();
    this.run();
}

/// A socket, or a timer, ends the first wait.
fn sleep_is_cut_short() {
    let mut this = Loop::new(2);
    this.inbox.open_pipe().unwrap();
    this.start_waker([0, 1]);
    this.run_queued();
    this.wait(false);
    this.run();
}

/// As `interest` and `turn` of the library.
fn inside_another() {
    let mut this = Loop::new(2);
    this.start_waker([0, 1]);
    while !this.is_done() {
        this.inbox.open_pipe().unwrap();
        let queued = !this.inbox.fall_asleep() || waker::has_queued();
        this.n_sleeps += 1;
        wake_pipe::select(!queued);
        this.inbox.wake_up();
        this.run_queued();
        this.wait(false);
    }
}

fn first_ring_fails() {
    let mut this = Loop::new(2);
    this.inbox.open_pipe().unwrap();
    let (pipe, tasks) = (wake_pipe::here(), std::sync::Arc::clone(&this.tasks));
    thread::spawn(move || {
        pipe.break_down(true);
        TaskWaker::wake(&tasks[0]);
        pipe.break_down(false);
        TaskWaker::wake(&tasks[1]);
    });
    this.run();
}

/// What another thread holds of the loop is freed, too: loom counts.
fn loop_ends() {
    let mut this = Loop::new(3);
    this.inbox.open_pipe().unwrap();
    let waker = Arc::clone(&this.tasks[0]);
    thread::spawn(move || TaskWaker::wake(&waker));
    this.start_waker([1]);
    this.run_queued();
    this.inbox.close();
    TaskWaker::wake(&this.tasks[2]);
    this.inbox.collect();
    assert!(!waker::has_queued());
}
