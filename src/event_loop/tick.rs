//! One turn of the event loop, in six steps.
//!
//! 1. **Run.** Take the tasks that were woken up to now as one batch and poll each once. What they
//!    wake is the next batch. Stop when nothing is queued or about [`MAX_POLLS`] polls are spent.
//! 2. **Done?** If the main future has ended, return before waiting.
//! 3. **How long?** Mark the loop asleep, then look at the inbox: no wait if a wake is queued; else
//!    until the next deadline; else without limit.
//! 4. **Wait.** Copy the reactor's sets into the `fd_set`s, add the wake-up pipe, call `select`.
//! 5. **Collect.** Drain the pipe; take fired interests and due timers out of their tables.
//! 6. **Wake** them, with nothing borrowed.
//!
//! Four things can end a wait, and nothing else can:
//!
//! - a descriptor becomes ready: `select` returns it, or the kernel queue that is one of its
//!   members does;
//! - a deadline passes: `select` returns at its timeout;
//! - another thread wakes a task or sends a message: it finds the loop marked asleep and writes to
//!   the wake-up pipe;
//! - a signal handler has run: `select` returns EINTR, and the loop turns once more.
//!
//! A wake on the loop's own thread needs none of them: it can only happen in steps 1 and 6, while
//! the loop is awake.
//!
//! **Invariants.** A task is polled at most once per batch. An interest or a timer leaves its table
//! before its waker runs. Step 4 is the only place of this crate that blocks the thread.

use super::boundary::{self, is_logged};
use super::clock::{self, Moment};
use super::context::{Current, poll_with_budget, report_slow_poll};
use super::inbox::Inbox;
use super::join_error::Id;
use super::log_lines::{report_closed_fds, report_failed_wait, trace_ready, trace_wait};
use super::metrics::{add, count, count_wait};
use super::reactor::ClosedFd;
use super::repair::{rebuild_after_fork, repair};
use super::{EventLoop, end_task, shuffle, tracking, virtual_time, with};
use crate::sys::select::Waited;
use crate::sys::task::{self, Batch, MainTask, Running};
use std::mem;
use std::os::fd::RawFd;
use std::task::{Context, Waker};
use std::time::Duration;

/// Approximate maximum number of polls (and I/O operations) per turn.
///
/// Two tasks that talk to each other should not pay for a system call with every message, and a
/// task that keeps waking itself must not keep the others from their descriptors.
const MAX_POLLS: usize = 200;

/// The future that `run` or `block_on` was called with. It lives on their stack, so it can borrow
/// from the caller; tasks cannot.
pub(crate) trait MainFuture {
    /// Polls the future unless it has ended. A panic becomes its output.
    fn poll(&mut self, cx: &mut Context<'_>);
    /// Returns whether the future has ended.
    fn is_done(&self) -> bool;
    /// Returns whether the future has ended by a panic.
    fn has_panicked(&self) -> bool;
}

/// The main future together with what the loop needs to know about it.
pub(crate) struct Main<'a> {
    pub(crate) future: &'a mut dyn MainFuture,
    /// Stands for the future in the run queue.
    pub(crate) task: MainTask,
    /// Whether the loop goes on until all tasks have ended: `run` does, `block_on` does not.
    pub(crate) waits_for_tasks: bool,
}

/// What a turn found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The main future has ended, and so has everything that `run` waits for.
    Finished,
    /// The loop has waited, and this many wakers ran.
    Woke(usize),
}

/// Turns the loop once. `limit` gets the number of polls of step 1 and returns the maximum time to
/// wait. `woken` is scratch memory: empty between turns, and kept so that no turn allocates.
pub(crate) fn turn(
    inbox: &Inbox,
    woken: &mut Vec<Waker>,
    mut main: Option<&mut Main<'_>>,
    limit: impl FnOnce(usize) -> Option<Duration>,
) -> Turn {
    // 1. Run. Batch by batch, so that a task that keeps waking itself cannot starve the others;
    //    bounded, so that it cannot starve the descriptors either.
    let n_polls = run_woken_tasks(inbox, main.as_deref_mut());

    // 2. Done? Before the wait: after it there may be nothing left that could end it.
    if main.is_some_and(|main| is_finished(inbox, main)) {
        return Turn::Finished;
    }

    // A turn of a forked child comes here with the pipe and the queue of its parent.
    if inbox.is_of_parent() {
        rebuild_after_fork(inbox);
    }

    let limit = limit(n_polls);
    let waited = inbox.sleep(|may_block| {
        // 3. How long? `sleep` has marked the loop asleep *and then* looked at the inbox. A wake
        //    by another thread is either seen by that look, or its sender finds the mark and
        //    writes to the pipe. The other order would lose a wake that comes in between.
        // Not before a look at the level: counting goes through every task and interest.
        if is_logged(log::Level::Trace) {
            trace_wait(may_block, limit);
        }
        // 4. Wait.
        let begin = tracking::wait_begins();
        let waited = wait(inbox, may_block, limit);
        let waited = waited.or_else(|| check_and_wait(inbox, may_block, limit));
        tracking::wait_ended(begin);
        waited
    });
    let Some((waited, pipe_ready)) = waited else {
        return Turn::Woke(0);
    };

    // 5. Collect. An interest that stayed in its table would make the next `select` return at
    //    once, for as long as the data is not read.
    count_wait(waited, pipe_ready);
    let mut looks_wrong = pipe_ready && !inbox.drain_pipe();
    if is_logged(log::Level::Trace) {
        trace_ready(pipe_ready);
    }
    let mut closed = Vec::new();
    let is_idle = with(|l| l.collect(waited, woken, &mut closed)) == Some(true);
    looks_wrong |= is_idle || (waited == Waited::BadFd && closed.is_empty());
    let is_repaired = looks_wrong && repair(inbox);
    if !is_repaired {
        report_failed_wait(waited, &closed);
    }
    if !closed.is_empty() {
        report_closed_fds(closed, woken);
    }

    // 6. Wake. Nothing is borrowed: a waker may spawn, register, close or panic.
    let n_woken = woken.len();
    if n_woken > 0 {
        count(|c| add(&c.wakers_called, n_woken));
        boundary::trace!("wake {n_woken} waiters");
    }
    woken.drain(..).for_each(boundary::wake);
    Turn::Woke(n_woken)
}

/// Checks whether the wake-up pipe is still ours before the first wait of a run.
#[cold]
fn check_and_wait(
    inbox: &Inbox,
    may_block: bool,
    limit: Option<Duration>,
) -> Option<(Waited, bool)> {
    // Other code may have closed our descriptors since the last run, and have files of its own
    // behind their numbers. Nothing would look wrong then: they are just never ready.
    repair(inbox);
    wait(inbox, may_block, limit)
}

/// Steps 3 and 4. Returns `None` without waiting if it has to be checked first whether the wake-up
/// pipe is still ours.
#[inline]
fn wait(inbox: &Inbox, may_block: bool, limit: Option<Duration>) -> Option<(Waited, bool)> {
    let pipe = inbox.pipe_fd().expect("a loop that runs has its pipe");
    match may_block && clock::is_virtual() {
        true => virtual_time::wait(pipe, limit),
        false => with(|l| l.wait(pipe, may_block, limit)).flatten(),
    }
}

/// Step 1: polls woken tasks, batch by batch. Returns approximately how many polls that were.
fn run_woken_tasks(inbox: &Inbox, mut main: Option<&mut Main<'_>>) -> usize {
    let (mut n_polls, mut n_spent) = (0, 0);
    let has_seed = shuffle::is_on();
    while n_polls + n_spent < MAX_POLLS {
        inbox.collect();
        // What the polls of this batch wake goes to the queue, and so into the next batch. If a
        // poll unwinds, the batch puts back what is left of it.
        let mut batch = Batch::take();
        if batch.is_empty() {
            break;
        }
        if has_seed {
            batch.shuffle(shuffle::below);
        }
        while let Some(running) = batch.next() {
            n_polls += 1;
            match main.as_deref_mut() {
                Some(main) if main.task.id() == running.task().id() => {
                    n_spent += poll_main(main, &running);
                }
                _ => n_spent += poll_task(running),
            }
        }
    }
    count(|c| {
        add(&c.turns, 1);
        add(&c.polls, n_polls);
    });
    n_polls + n_spent
}

/// Polls the main future. Returns the spent part of its budget.
fn poll_main(main: &mut Main<'_>, running: &Running) -> usize {
    boundary::trace!("poll the main future");
    let current = Current::Main(Id(main.task.id()));
    let polled = poll_with_budget(current, || running.with_waker(|cx| main.future.poll(cx)));
    if let Some(took) = polled.slow {
        report_slow_poll("the main future", took);
    }
    polled.n_spent
}

/// Polls one task, or drops it if it was aborted. Returns the spent part of its budget.
fn poll_task(mut running: Running) -> usize {
    let id = Id(running.task().id());
    if running.is_aborted() {
        boundary::trace!("drop task {id}: it was aborted");
        running.cancel();
        boundary::trace!("task {id} has ended");
        end_task(running);
        return 0;
    }
    boundary::trace!("poll task {id}");
    let polled = poll_with_budget(Current::Task(id), || running.poll());
    if let Some(took) = polled.slow {
        let who = with(|l| l.tasks.describe(running.task())).unwrap_or_default();
        report_slow_poll(&who, took);
    }
    if polled.result.is_ready() {
        boundary::trace!("task {id} has ended");
        end_task(running);
    }
    polled.n_spent
}

/// Step 2: returns whether `run` or `block_on` has nothing left to wait for.
fn is_finished(inbox: &Inbox, main: &Main<'_>) -> bool {
    if !main.future.is_done() {
        return false;
    }
    let stops_now = !main.waits_for_tasks || main.future.has_panicked();
    if !stops_now {
        // Another thread may have spawned a task since step 1, and `run` waits for it as well.
        inbox.collect();
    }
    let finished = with(|l| {
        l.main = None;
        stops_now || task::n_awaited() == 0
    });
    finished.unwrap_or(true)
}

impl EventLoop {
    /// Returns true once after each call of `run` or `block_on`.
    fn is_pipe_unchecked(&mut self) -> bool {
        !mem::replace(&mut self.has_checked_pipe, true)
    }

    /// What the function [`wait`] does, in one borrow of the loop.
    fn wait(
        &mut self,
        pipe: RawFd,
        may_block: bool,
        limit: Option<Duration>,
    ) -> Option<(Waited, bool)> {
        let timeout = self.timeout(may_block, limit);
        if timeout != Some(Duration::ZERO) && self.is_pipe_unchecked() {
            return None;
        }
        Some(self.reactor.wait(pipe, timeout))
    }

    /// Step 5: takes out who is to be woken, and descriptors that other code has closed. Returns
    /// whether the loop is idle, so that it is time to check also what is rarely wrong.
    fn collect(
        &mut self,
        waited: Waited,
        woken: &mut Vec<Waker>,
        closed: &mut Vec<ClosedFd>,
    ) -> bool {
        if !matches!(waited, Waited::Ready(_)) {
            self.note_failed_wait(waited, closed);
        }
        if shuffle::is_on() {
            self.reactor.shuffle_ready();
        }
        self.reactor.collect(woken);
        // The clock is read only if a timer is armed, or now and then.
        let is_look_due = self.reactor.wants_time();
        let now = (is_look_due || !self.timers.is_empty()).then(Moment::now);
        if let Some(now) = now {
            self.collect_timers(now, woken);
        }
        self.reactor.look_if_due(now, woken, closed)
    }
}
