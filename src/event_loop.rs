//! The event loop of one thread: its tables, and the one place that borrows them.
//!
//! The loop is a thread-local value that comes into being on first use. Four tables hold what it
//! knows: [`tasks`], the [`reactor`] with its interests, [`timers`], and the [`pool`] of blocking
//! threads. The [`inbox::Inbox`] is the part that other threads may touch. [`tick`] is one turn of
//! the loop, from top to bottom.
//!
//! **Invariant.** Foreign code never runs while the loop is borrowed: no poll, no drop of a future
//! or an output, no clone, wake or drop of a waker, no log record. [`with`] is the only function
//! that borrows the loop, and [`boundary`] the only module that runs foreign code.

pub(crate) mod body;
pub(crate) mod boundary;
pub(crate) mod clock;
pub(crate) mod context;
#[cfg(feature = "dump")]
mod deadlock;
mod due;
#[cfg(feature = "dump")]
pub(crate) mod dump;
pub(crate) mod free_fds;
pub(crate) mod inbox;
pub(crate) mod join_error;
pub(crate) mod log_lines;
pub(crate) mod metrics;
#[cfg(not(feature = "dump"))]
pub(crate) mod no_tracking;
#[cfg(not(feature = "dump"))]
pub(crate) mod no_watch;
pub(crate) mod not_running;
pub(crate) mod note;
pub(crate) mod notes;
pub(crate) mod pool;
pub(crate) mod reactor;
mod repair;
pub(crate) mod shuffle;
pub(crate) mod signallers;
pub(crate) mod slack;
#[cfg(feature = "dump")]
pub(crate) mod stuck;
#[cfg(feature = "dump")]
pub(crate) mod survey;
pub(crate) mod tasks;
pub(crate) mod tick;
pub(crate) mod timers;
#[cfg(feature = "dump")]
pub(crate) mod tracking;
mod virtual_time;

#[cfg(not(feature = "dump"))]
pub(crate) use no_tracking as tracking;
#[cfg(not(feature = "dump"))]
pub(crate) use no_watch as stuck;

use crate::sys::fork;
use crate::sys::task::{self, Ended, Running, Task};
use free_fds::FreeFds;
use inbox::Inbox;
use notes::Notes;
use pool::Pool;
use reactor::{Poller, Reactor};
#[cfg(feature = "dump")]
use signallers::Signallers;
use slack::Slack;
#[cfg(all(feature = "dump", feature = "signal"))]
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::mem;
#[cfg(feature = "dump")]
use std::os::fd::RawFd;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;
use tasks::{Tasks, conclude};
use timers::Timers;

/// How often [`drop_all_tasks`] looks for tasks that destructors have spawned meanwhile.
const MAX_DROP_ROUNDS: usize = 100;

/// The event loop of one thread.
pub(crate) struct EventLoop {
    /// The ids of tasks, and what they are called.
    pub(crate) tasks: Tasks,
    /// Which tasks wait for which descriptors.
    pub(crate) reactor: Reactor,
    /// Which tasks wait until when.
    pub(crate) timers: Timers,
    /// The threads that run blocking jobs for this loop.
    pub(crate) pool: Pool,
    /// How other threads wake tasks of this loop.
    pub(crate) inbox: Inbox,
    /// Shared with every [`task::Handle`](crate::task::Handle) of this loop, so that they can be
    /// counted.
    pub(crate) handles: Arc<()>,
    /// Shared with every [`Local`](crate::Local) of this thread, for the same purpose: another
    /// thread that drops one has its destructor run here.
    pub(crate) locals: Arc<()>,
    /// Tasks that ran into the limit of open descriptors and wait until one is closed.
    pub(crate) free_fds: FreeFds,
    /// What tasks wait for outside of these tables.
    notes: Notes,
    /// Number of descriptors deregistered so far. Each is closed right after it is deregistered, so
    /// a task that sees this number grow knows that a descriptor has become free.
    pub(crate) n_closed: u64,
    /// Empty memory for the wakers that a turn calls, while no turn is under way.
    pub(crate) woken: Vec<Waker>,
    /// How much later than its deadline a timer may fire so that one wake-up serves several.
    pub(crate) timer_slack: Slack,
    /// Whether a loop that can never wake up again panics instead of logging a warning.
    #[cfg(feature = "dump")]
    pub(crate) panic_when_stuck: bool,
    /// Whether it was checked, since `run` or `block_on` was called, that the wake-up pipe is still
    /// ours.
    pub(crate) has_checked_pipe: bool,
    /// Whether a wait has failed since this was last set to `false`.
    #[cfg(feature = "dump")]
    pub(crate) has_wait_failed: bool,
    /// Whether the wake-up pipe is lost and could not be made anew, which was logged.
    has_lost_pipe: bool,
    /// What stands for the main future in the run queue while `run` or `block_on` is running.
    pub(crate) main: Option<Task>,
    /// Called at the end of every `run` and `block_on`; reaps child processes that were dropped.
    pub(crate) on_run_end: Option<fn()>,
    /// Whether `run`, `block_on` or `turn` is executing on this thread.
    pub(crate) is_running: bool,
    /// Whether futures may wait although the loop is not running: the program turns it by itself,
    /// or a warning was logged.
    pub(crate) expects_turns: bool,
}

thread_local! {
    /// Whether the thread is ending because a task called `exit`. Then no destructors of values of
    /// the loop run, for the reason given where the loop is leaked.
    static ENDS_INSIDE_RUN: Cell<bool> = const { Cell::new(false) };
    static LOOP: RefCell<EventLoop> = RefCell::new(EventLoop::new());
}

/// Borrows the loop of this thread for the duration of `f`, which must not run foreign code.
/// Returns `None` if the thread is ending and its loop has been dropped.
#[inline]
pub(crate) fn with<R>(f: impl FnOnce(&mut EventLoop) -> R) -> Option<R> {
    // `borrow_mut` panics if `f` calls back into the loop. That is a fault of this crate, and
    // better found by a panic than by tables that change under their reader.
    LOOP.try_with(|cell| f(&mut cell.borrow_mut())).ok()
}

/// True if [`with`] cannot be called now.
#[cfg(feature = "macros")]
pub(crate) fn is_borrowed() -> bool {
    LOOP.try_with(|cell| cell.try_borrow_mut().is_err())
        .unwrap_or(true)
}

/// True if the thread is ending because a task called `exit`.
pub(crate) fn ends_inside_run() -> bool {
    ENDS_INSIDE_RUN.get()
}

/// Says what a registered descriptor stands for, where the kernel knows only a pipe.
#[cfg(all(feature = "dump", feature = "signal"))]
pub(crate) fn label_fd(fd: RawFd, label: impl Into<Cow<'static, str>>) {
    with(|l| l.reactor.set_label(fd, label));
}

/// Says that a registered descriptor is that of an event, which these can signal.
#[cfg(feature = "dump")]
pub(crate) fn label_event(fd: RawFd, signallers: Arc<Signallers>) {
    with(|l| l.reactor.set_event(fd, signallers));
}

/// Has `f` called at the end of every later `run` and `block_on` on this thread.
#[cfg(feature = "process")]
pub(crate) fn set_on_run_end(f: fn()) {
    with(|l| l.on_run_end = Some(f));
}

impl EventLoop {
    fn new() -> EventLoop {
        // Before anything is made that a child must not share: a fork that is not counted is not
        // seen.
        fork::watch();
        let mut this = EventLoop::with_inbox(Inbox::for_this_thread());
        this.set_poller(Poller::default());
        shuffle::set_seed(None);
        this
    }

    fn with_inbox(inbox: Inbox) -> EventLoop {
        EventLoop {
            tasks: Tasks::new(),
            reactor: Reactor::new(),
            timers: Timers::new(),
            pool: Pool::default(),
            inbox,
            handles: Arc::new(()),
            locals: Arc::new(()),
            free_fds: FreeFds::new(),
            notes: Notes::default(),
            n_closed: 0,
            woken: Vec::new(),
            timer_slack: Slack::NEW,
            #[cfg(feature = "dump")]
            panic_when_stuck: false,
            has_checked_pipe: false,
            #[cfg(feature = "dump")]
            has_wait_failed: false,
            has_lost_pipe: false,
            main: None,
            on_run_end: None,
            is_running: false,
            expects_turns: false,
        }
    }

    /// Sets how the loop waits for descriptors. The environment variable takes precedence over
    /// the program, so that a user can work around a kernel queue that misbehaves.
    pub(crate) fn set_poller(&mut self, poller: Poller) {
        let select = std::env::var_os("FAHRENHEIT_POLLER").is_some_and(|name| name == "select");
        self.reactor
            .set_poller(if select { Poller::Select } else { poller });
    }

    /// Gives this thread a virtual clock, or the real one.
    pub(crate) fn set_virtual_clock(&mut self, on: bool) {
        if on == clock::is_virtual() {
            return;
        }
        clock::set_virtual(on);
        if on {
            // The kernel's queue reports changes, and perhaps a moment after they happen; select
            // goes by the state at the moment of the look. And the clock jumps to a deadline at no
            // cost, so each timer gets its own.
            self.reactor.set_poller(Poller::Select);
            self.timer_slack.choose(Some(Duration::ZERO));
        } else {
            self.set_poller(Poller::default());
            self.timer_slack.choose(None);
        }
    }

    /// True if only a wake, by this thread or another, can end the next wait: no timer is armed, no
    /// task waits for a descriptor other than those of events that no notifier can signal, and no
    /// other thread can spawn a task.
    #[cfg(feature = "dump")]
    pub(crate) fn is_idle(&self) -> bool {
        self.timers.is_empty()
            && self.free_fds.is_empty()
            && self.reactor.waits_for_dead_events_only()
            && Arc::strong_count(&self.handles) == 1
    }
}

impl Drop for EventLoop {
    /// Ends the loop when its thread ends. [`with`] returns `None` from here on, so destructors of
    /// tasks that spawn, register or deregister do nothing; those that wake find a closed inbox.
    fn drop(&mut self) {
        ENDS_INSIDE_RUN.set(self.is_running);
        self.inbox.close();
        if self.is_running {
            // A task called `exit`, which runs the destructors of thread-local values below the
            // task's own stack frames. Dropping tasks here would run their destructors in the
            // middle of that task, with all the locks that it holds. So the loop is leaked, as the
            // process is about to end anyway.
            let empty = EventLoop::with_inbox(self.inbox.clone());
            mem::forget(mem::replace(self, empty));
            return;
        }
        for task in task::all() {
            if let Some(mut running) = task.seize() {
                running.cancel();
                // The output is dropped below, where the name is known.
                let ended = running.finish();
                conclude(
                    Ended {
                        unclaimed: None,
                        ..ended
                    },
                    None,
                );
            }
            // The output, although a handle may be left: this is the thread to drop it on.
            let name = self.tasks.take_name(task.id());
            task.discard(name.as_deref());
        }
        task::clear_queue();
        let mut wakers = self.reactor.drain();
        self.free_fds.take_all(&mut wakers);
        wakers.into_iter().for_each(boundary::wake);
        for waker in self.timers.drain() {
            boundary::drop_value(waker);
        }
    }
}

/// Drops all tasks of this thread's loop, as the end of the thread would.
///
/// A program that shuts down in order calls this while all that the destructors of its tasks need
/// is still there: the loop itself, other thread-local values, other threads. Without it, tasks
/// that are left over are dropped by the destructor of a thread-local value, in which they can
/// neither spawn nor use such values.
///
/// Handles return an error whose [`is_cancelled`](crate::task::JoinError::is_cancelled) is true. A
/// task that has ended already keeps its output. Tasks that destructors spawn are dropped as well,
/// for a hundred rounds; a warning is logged if there are still tasks after that. The task that
/// calls this, if it is one, goes on, as does the main future. The loop can be used again.
///
/// # Examples
/// ```
/// let task = fahrenheit::spawn(std::future::pending::<()>());
/// fahrenheit::block_on(async {});
/// fahrenheit::drop_all_tasks();
/// assert!(task.is_finished());
/// ```
pub fn drop_all_tasks() {
    for _ in 0..MAX_DROP_ROUNDS {
        let mut n_dropped = 0;
        for task in task::all() {
            // Neither one that has ended, nor the one that calls this.
            if let Some(mut running) = task.seize() {
                running.cancel();
                end_task(running);
                n_dropped += 1;
            }
        }
        if n_dropped == 0 {
            return;
        }
    }
    // A destructor that spawns a task with such a destructor would never come to an end.
    boundary::warning!("tasks are left, as their destructors spawn more of them");
}

/// Marks a task whose future is gone as finished, and tells whoever waits for that.
fn end_task(running: Running) {
    let ended = running.finish();
    if tracking::is_on() {
        tracking::task_ended(ended.id);
    }
    let mut name = None;
    // A name is needed for the report of a panic that no handle returns.
    if ended.is_named && ended.unclaimed.is_some() {
        name = with(|l| l.tasks.take_name(ended.id)).flatten();
    }
    conclude(ended, name);
}
