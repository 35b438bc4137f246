//! What the thread of a task's loop does with it: poll, finish, join, drop.

#[cfg(feature = "dump")]
use super::Ordering;
use super::queue::HERE;
#[cfg(feature = "dump")]
use super::state::{QUEUED, REFERENCE};
use super::{Arc, Body, ErasedBody, Header, Mailbox, TaskRef, Unpark, allocate};
use crate::sys::thread_bound::NotSend;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The body is given out: it is being polled, taken or dropped.
pub(super) const RUNNING: u64 = 1;
/// No handle will ask for the output.
pub(super) const DETACHED: u64 = 2;
/// In the list of all tasks.
pub(super) const LISTED: u64 = 4;
pub(super) const DAEMON: u64 = 8;
pub(super) const NAMED: u64 = 16;
/// The id is above the flags.
pub(super) const ID_SHIFT: u32 = 5;

impl Header {
    fn has(&self, flag: u64) -> bool {
        self.local.get() & flag != 0
    }

    fn set(&self, flag: u64, on: bool) {
        let others = self.local.get() & !flag;
        self.local.set(if on { others | flag } else { others });
    }
}

/// A counted reference to a task of this thread.
pub(crate) struct Task {
    shared: TaskRef,
    _not_send: NotSend,
}

impl Deref for Task {
    type Target = TaskRef;

    fn deref(&self) -> &TaskRef {
        &self.shared
    }
}

impl Clone for Task {
    fn clone(&self) -> Task {
        Task::new(TaskRef::clone(self))
    }
}

impl Task {
    /// `shared` must be a task of this thread.
    pub(super) fn new(shared: TaskRef) -> Task {
        Task {
            shared,
            _not_send: PhantomData,
        }
    }

    /// The id by which the log and errors name the task.
    pub(crate) fn id(&self) -> u64 {
        self.header().local.get() >> ID_SHIFT
    }

    /// Where the task was spawned.
    pub(crate) fn place(&self) -> &'static Location<'static> {
        self.header().place
    }

    /// Number of polls so far, modulo 2^32.
    #[cfg(feature = "dump")]
    pub(crate) fn n_polls(&self) -> u32 {
        self.header().n_polls.get()
    }

    fn count_poll(&self) {
        let n_polls = &self.header().n_polls;
        n_polls.set(n_polls.get().wrapping_add(1));
    }

    /// True while the task is polled, or its future or output is dropped.
    #[cfg(feature = "dump")]
    pub(crate) fn is_running(&self) -> bool {
        self.header().has(RUNNING)
    }

    /// True if `run` does not wait for the task.
    #[cfg(feature = "dump")]
    pub(crate) fn is_daemon(&self) -> bool {
        self.header().has(DAEMON)
    }

    /// True if the loop has a name for the task.
    pub(crate) fn is_named(&self) -> bool {
        self.header().has(NAMED)
    }

    /// True if no handle will ask for the output.
    #[cfg(feature = "dump")]
    pub(crate) fn is_detached(&self) -> bool {
        self.header().has(DETACHED)
    }

    /// True if the task is in the run queue or in the mailbox, or on the way there.
    #[cfg(feature = "dump")]
    pub(crate) fn is_queued(&self) -> bool {
        self.header().state.load(Ordering::Relaxed) & QUEUED != 0
    }

    /// Number of references: of wakers, of handles, of the list of all tasks.
    #[cfg(feature = "dump")]
    pub(crate) fn n_references(&self) -> usize {
        self.header().state.load(Ordering::Relaxed) / REFERENCE
    }

    /// Calls `f` with who is woken when the task ends. `f` must not run foreign code.
    pub(crate) fn with_joiner<R>(&self, f: impl FnOnce(&Option<Waker>) -> R) -> R {
        let joiner = self.header().joiner.take();
        let result = f(&joiner);
        self.header().joiner.set(joiner);
        result
    }

    /// Sets who is woken when the task ends. Returns who was until now.
    pub(crate) fn replace_joiner(&self, joiner: Option<Waker>) -> Option<Waker> {
        self.header().joiner.replace(joiner)
    }

    /// Gives out the body of an unfinished task, to drop its future. `None` while it is polled.
    pub(crate) fn seize(&self) -> Option<Running> {
        if self.is_finished() || !self.header().has(LISTED) {
            return None;
        }
        Running::enter(self, false)
    }

    /// Says that no handle will ask for the output.
    pub(super) fn detach(&self) {
        self.header().set(DETACHED, true);
    }

    /// Whether the task has finished and what is left of it may be touched. A loop in the middle of
    /// whose poll the process began to exit has left everything where it is.
    pub(super) fn can_be_ended(&self) -> bool {
        self.is_finished() && (self.is_here() || !self.header().has(LISTED))
    }

    /// Drops the future of a task that is not polled at the moment.
    pub(super) fn cancel(&self) {
        if let Some(mut running) = Running::enter(self, false) {
            running.cancel();
        }
    }

    /// Drops what is left of a finished task. `name` is for the report of a panic.
    pub(crate) fn discard(self, name: Option<&str>) {
        let id = self.id();
        self.end(|body| body.discard(id, name));
    }

    /// Calls `f`, which takes out what is left of a finished task, and takes the task out of the
    /// list of all tasks.
    pub(super) fn end(self, f: impl FnOnce(Pin<&mut dyn ErasedBody>)) {
        let Some(mut running) = Running::enter(&self, false) else {
            return;
        };
        f(running.body());
        drop(running);
        if self.is_finished() && self.header().has(LISTED) {
            self.header().set(LISTED, false);
            HERE.with(|here| here.unlist(self.link()));
            // The reference of the list, and that of the caller.
            ManuallyDrop::new(self).release(2);
            HERE.with(|here| here.trim());
        }
    }
}

/// A task whose body is given out, usually to be polled. It cannot be freed meanwhile: who has
/// spawned it as a listed task keeps it until it has finished and its body was given back.
pub(crate) struct Running {
    task: ManuallyDrop<Task>,
    is_aborted: bool,
}

impl Running {
    /// `None` if the body is given out already. The caller knows that the task is kept.
    pub(super) fn enter(task: &TaskRef, is_aborted: bool) -> Option<Running> {
        if task.header().has(RUNNING) {
            return None;
        }
        task.header().set(RUNNING, true);
        // Not counted, as the task is kept.
        let task = ManuallyDrop::new(Task::new(TaskRef(task.0)));
        Some(Running { task, is_aborted })
    }

    /// The task that is running.
    pub(crate) fn task(&self) -> &Task {
        &self.task
    }

    /// True if the task is to be dropped instead of polled.
    pub(crate) fn is_aborted(&self) -> bool {
        self.is_aborted
    }

    /// Calls `f`, which polls the task, with a waker of the task.
    pub(crate) fn with_waker<R>(&self, f: impl FnOnce(&mut Context<'_>) -> R) -> R {
        self.task.count_poll();
        self.task.with_waker(f)
    }

    /// Polls the future with a waker of the task.
    pub(crate) fn poll(&mut self) -> Poll<()> {
        let id = self.task.id();
        let task = ManuallyDrop::new(TaskRef(self.task.0));
        self.task.count_poll();
        task.with_waker(|cx| self.body().poll(id, cx))
    }

    /// Drops the future of a task that was aborted.
    pub(crate) fn cancel(&mut self) {
        let id = self.task.id();
        self.body().cancel(id);
    }

    /// Marks the task, whose future is gone, as finished.
    pub(crate) fn finish(self) -> Ended {
        let header = self.task.header();
        let ended = Ended {
            joiner: header.joiner.take(),
            id: self.task.id(),
            is_named: header.has(NAMED),
            unclaimed: header.has(DETACHED).then(|| Task::clone(&self.task)),
        };
        if header.has(LISTED) && !header.has(DAEMON) {
            HERE.with(|here| here.n_awaited.set(here.n_awaited.get() - 1));
        }
        self.task.finish();
        ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.header().set(RUNNING, false);
    }
}

/// What is to be done about a task that has ended.
pub(crate) struct Ended {
    /// The task that awaits the handle.
    pub(crate) joiner: Option<Waker>,
    /// The task itself, if there is no handle that could take its output.
    pub(crate) unclaimed: Option<Task>,
    pub(crate) id: u64,
    pub(crate) is_named: bool,
}

/// What is known of a task when it is spawned.
pub(crate) struct Birth {
    pub(crate) id: u64,
    pub(crate) place: &'static Location<'static>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) is_daemon: bool,
    pub(crate) is_named: bool,
}

/// No loop to wake up.
struct NeverParked;

impl Unpark for NeverParked {
    fn unpark(&self) -> bool {
        true
    }
}

impl Birth {
    /// For a task that is spawned on a thread whose loop has ended.
    pub(crate) fn on_ending_thread(place: &'static Location<'static>) -> Birth {
        Birth {
            id: 0,
            place,
            mailbox: Mailbox::closed(Box::new(NeverParked)),
            is_daemon: true,
            is_named: false,
        }
    }

    /// The initial value of `local`, for a task that will be in the list of all tasks or not.
    pub(super) fn flags(&self, is_listed: bool) -> u64 {
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        self.id << ID_SHIFT
            | flag(is_listed, LISTED)
            | flag(self.is_daemon, DAEMON)
            | flag(self.is_named, NAMED)
    }
}

/// The main future, which lives on the stack of `run` and is not in the list of all tasks. Dropping
/// this finishes it.
pub(crate) struct MainTask(ManuallyDrop<Task>);

/// The body of the main future: that is elsewhere.
struct Elsewhere;

impl Body for Elsewhere {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: u64, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn cancel(self: Pin<&mut Self>, _: u64) {}

    fn take_output(self: Pin<&mut Self>) -> Option<()> {
        None
    }

    fn discard(self: Pin<&mut Self>, _: u64, _: Option<&str>) {}
}

impl MainTask {
    /// Makes the task, which is not queued.
    pub(crate) fn new(birth: Birth) -> MainTask {
        let task = allocate(Elsewhere, birth, 0, false);
        MainTask(ManuallyDrop::new(Task::new(task)))
    }
}

impl Deref for MainTask {
    type Target = Task;

    fn deref(&self) -> &Task {
        &self.0
    }
}

impl Drop for MainTask {
    fn drop(&mut self) {
        self.0.finish();
        // While it is being polled, its memory is needed, and is leaked.
        if !self.0.header().has(RUNNING) {
            self.0.release(1);
        }
    }
}
