//! Wakers: how a task gets back into the run queue, from this thread or from any other.
//!
//! A waker is a *name*, the task's place in the table and its serial number, plus the inbox of its
//! loop. It holds no pointer into the task, so it may outlive the task, the loop and the thread,
//! and be cloned, woken and dropped anywhere; a wake that comes too late finds nobody of that name.
//!
//! On the loop's own thread a wake is one atomic and a push. From elsewhere it goes through the
//! [`Inbox`]. The handshake that loses no wake: a sender puts the name into the inbox, *then* looks
//! whether the loop is asleep; the loop says that it is asleep, *then* looks into the inbox. One of
//! the two sees the other. Only the sender that takes the `ASLEEP` flag away rings the pipe, so
//! there is one byte a sleep at the most, and none while the loop is awake.
//!
//! **Invariants.** A task is in the queue at most once. No wake is lost. Wakers are *not*
//! async-signal-safe: a wake may allocate.

use super::boundary;
use crate::sys::sync::{Arc, AtomicU8, Mutex, MutexGuard, OnceLock, Ordering, thread_local};
use crate::sys::wake_pipe::{CreateError, WakePipe};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::PoisonError;
use std::task::Waker;

/// Names a task: its place in the table, and a serial number that is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) serial: u64,
}

impl Key {
    /// Names no task, ever.
    pub(crate) const NONE: Key = Key {
        index: u32::MAX,
        serial: 0,
    };

    /// Its place, as tables count.
    pub(crate) fn place(self) -> usize {
        self.index as usize
    }
}

/// The name and the flags of one task; `Arc`s of it are its wakers.
#[derive(Debug)]
pub(crate) struct TaskWaker {
    // Not a `Key`, whose padding would be lost: every task that waits has one of these.
    index: u32,
    flags: AtomicU8,
    serial: u64,
    inbox: Arc<Inbox>,
}

/// In the run queue, or about to be.
const QUEUED: u8 = 1;
/// To be dropped instead of polled.
const ABORTED: u8 = 2;
/// Ended: wakes do nothing.
const FINISHED: u8 = 4;

impl TaskWaker {
    pub(crate) fn new(key: Key, inbox: Arc<Inbox>) -> Arc<TaskWaker> {
        Arc::new(TaskWaker {
            index: key.index,
            flags: AtomicU8::new(0),
            serial: key.serial,
            inbox,
        })
    }

    /// Makes a waker that nobody else holds name something new; `None` if somebody does.
    pub(crate) fn rename(mut this: Arc<Self>, key: Key) -> Option<Arc<TaskWaker>> {
        let waker = Arc::get_mut(&mut this)?;
        (waker.index, waker.serial) = (key.index, key.serial);
        waker.flags = AtomicU8::new(0);
        Some(this)
    }

    /// Whether nobody but the caller holds this, so that nobody can clone it meanwhile.
    pub(crate) fn is_alone(this: &Arc<Self>) -> bool {
        Arc::strong_count(this) == 1
    }

    pub(crate) fn key(&self) -> Key {
        Key {
            index: self.index,
            serial: self.serial,
        }
    }

    /// Whether `waker` was made of this.
    pub(crate) fn is(this: &Arc<Self>, waker: &Waker) -> bool {
        ptr::eq(waker.data(), Arc::as_ptr(this).cast())
    }

    /// Notes that its task is in the queue already.
    pub(crate) fn note_queued(&self) {
        self.flags.fetch_or(QUEUED, Ordering::AcqRel);
    }

    /// Called when the task leaves the queue, before it is polled, so that a wake during the poll
    /// queues it again. Returns whether it is to be dropped instead.
    pub(crate) fn leave_queue(&self) -> bool {
        self.flags.fetch_and(!QUEUED, Ordering::AcqRel) & ABORTED != 0
    }

    /// Asks the loop to drop the task. Any thread may; a task that has ended is left alone.
    pub(crate) fn abort(this: &Arc<Self>) {
        if this.flags.fetch_or(ABORTED, Ordering::AcqRel) & FINISHED == 0 {
            TaskWaker::wake(this);
        }
    }

    pub(crate) fn finish(&self) {
        self.flags.fetch_or(FINISHED, Ordering::AcqRel);
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.flags.load(Ordering::Acquire) & FINISHED != 0
    }

    /// Queues the task, unless it is queued or has ended. Any thread may.
    pub(crate) fn wake(this: &Arc<Self>) {
        if this.flags.fetch_or(QUEUED, Ordering::AcqRel) & (QUEUED | FINISHED) != 0 {
            return;
        }
        if ptr::eq(HERE.with(Cell::get), Arc::as_ptr(&this.inbox)) {
            push_local(this.key());
        } else {
            this.inbox.post(this.key());
        }
    }
}

thread_local! {
    /// The inbox of this thread's loop; null where there is none, or no longer.
    static HERE: Cell<*const Inbox> = const { Cell::new(ptr::null()) };
    /// The tasks of this thread that have been woken, in order.
    static QUEUE: RefCell<VecDeque<Key>> = const { RefCell::new(VecDeque::new()) };
}

/// Queues a task of this thread. Does nothing once the thread is ending.
pub(crate) fn push_local(key: Key) {
    let _ = QUEUE.try_with(|queue| queue.borrow_mut().push_back(key));
}

/// Whether a task of this thread is waiting to be polled.
pub(crate) fn has_queued() -> bool {
    n_queued() > 0
}

/// How many are.
pub(crate) fn n_queued() -> usize {
    QUEUE.try_with(|queue| queue.borrow().len()).unwrap_or(0)
}

/// Puts `keys` back at the front of the run queue, in their order, and empties it.
pub(crate) fn requeue(keys: &mut VecDeque<Key>) {
    let _ = QUEUE.try_with(|queue| {
        let queue = &mut *queue.borrow_mut();
        keys.append(queue);
        std::mem::swap(keys, queue);
    });
}

/// Exchanges the queue for `empty`: all that has been woken up to now.
pub(crate) fn swap_queue(empty: &mut VecDeque<Key>) {
    let _ = QUEUE.try_with(|queue| std::mem::swap(&mut *queue.borrow_mut(), empty));
}

/// The part of a loop that other threads may touch.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: AtomicU8,
    /// `None` once the loop is gone.
    mail: Mutex<Option<Vec<Key>>>,
    /// Owned here, so that a late writer can never meet a descriptor number that was given away.
    pipe: OnceLock<WakePipe>,
}

/// The loop waits, or is about to; whoever takes this flag away rings the pipe.
const ASLEEP: u8 = 1;
/// There is something in `mail`.
const MAIL: u8 = 2;

impl Inbox {
    /// The inbox of this thread's loop; wakes on this thread take the short way from now on.
    pub(crate) fn for_this_thread() -> Arc<Inbox> {
        let inbox = Arc::new(Inbox {
            state: AtomicU8::new(0),
            mail: Mutex::new(Some(Vec::new())),
            pipe: OnceLock::new(),
        });
        HERE.with(|here| here.set(Arc::as_ptr(&inbox)));
        inbox
    }

    /// Makes the pipe, unless there is one: before the first wait of the loop.
    pub(crate) fn open_pipe(&self) -> Result<(), CreateError> {
        if self.pipe.get().is_none() {
            // Only the loop's own thread comes here, so nobody else sets it meanwhile.
            let _ = self.pipe.set(WakePipe::new()?);
        }
        Ok(())
    }

    /// The descriptor that becomes ready when another thread wakes a task of a sleeping loop.
    pub(crate) fn pipe_fd(&self) -> Option<RawFd> {
        self.pipe.get().map(WakePipe::read_fd)
    }

    /// After a fork, in the child: makes the pipe its own.
    pub(crate) fn renew_pipe(&self) -> std::io::Result<()> {
        self.pipe.get().map_or(Ok(()), |pipe| Ok(pipe.renew()?))
    }

    /// Empties the pipe; the loop has seen that it is ready.
    pub(crate) fn drain_pipe(&self) {
        if let Some(pipe) = self.pipe.get() {
            pipe.drain();
        }
    }

    /// Says that the loop is about to wait. If it returns `false`, there is mail, and it must not.
    pub(crate) fn fall_asleep(&self) -> bool {
        let asleep = self.state.fetch_or(ASLEEP, Ordering::AcqRel) & MAIL == 0;
        if !asleep {
            self.state.fetch_and(!ASLEEP, Ordering::AcqRel);
        }
        asleep
    }

    /// Has `wait` wait, if that is what it is told. The loop counts as asleep for so long, and any
    /// thread that wakes a task then rings the pipe.
    pub(crate) fn sleep<R>(&self, wait: impl FnOnce(bool) -> R) -> R {
        let asleep = !has_queued() && self.fall_asleep();
        let waited = wait(asleep);
        if asleep {
            self.wake_up();
        }
        waited
    }

    /// Says that the loop is awake again.
    pub(crate) fn wake_up(&self) {
        self.state.fetch_and(!ASLEEP, Ordering::AcqRel);
    }

    /// Moves what has come from other threads into the queue of this one.
    pub(crate) fn collect(&self) {
        if self.state.load(Ordering::Acquire) & MAIL == 0 {
            return;
        }
        // The flag first: what is posted after this raises it again.
        self.state.fetch_and(!MAIL, Ordering::AcqRel);
        let mut mail = self.lock();
        let Some(mail) = mail.as_mut() else { return };
        let _ = QUEUE.try_with(|queue| queue.borrow_mut().extend(mail.drain(..)));
    }

    /// Takes no more mail. Wakers may go on ringing; nobody listens.
    pub(crate) fn close(&self) {
        HERE.with(|here| here.set(ptr::null()));
        self.lock().take();
    }

    fn post(&self, key: Key) {
        match self.lock().as_mut() {
            Some(mail) => mail.push(key),
            None => return,
        }
        // One step: mail has come, and the loop is no longer asleep.
        let before = self.state.swap(MAIL, Ordering::AcqRel);
        if before & ASLEEP == 0 {
            return;
        }
        let rung = self.pipe.get().map_or(Ok(()), WakePipe::ring);
        if rung.is_err() {
            // The loop still sleeps: let the next sender try.
            self.state.fetch_or(ASLEEP, Ordering::AcqRel);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Key>>> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inbox {
    /// Closes the pipe, and logs an end that other code has closed already.
    fn drop(&mut self) {
        let Some(pipe) = self.pipe.get_mut() else {
            return;
        };
        for (fd, errno) in pipe.close() {
            boundary::warning!("closing descriptor {fd} of the wake-up pipe failed: {errno}");
        }
    }
}
