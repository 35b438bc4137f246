//! The memory of a task: one allocation, to which its handle, its wakers and its places in the run
//! queue, in the list of all tasks and in the [`Mailbox`] of its loop all point.
//!
//! This module knows who may touch that memory and when it is freed. What a task *is* comes from
//! above, as a [`Body`]: the future, and then its output. The states that a task goes through are
//! in `state`.
//!
//! # Who touches what
//! The atomic word, the mailbox and the memory itself belong to all threads. All else (the body,
//! the joiner, the links) is touched by the thread of the loop alone. [`TaskRef`] offers the first
//! and may cross threads; [`Task`], [`Handle`], [`Running`] and [`Batch`] offer the rest, and are
//! not `Send`.
//!
//! # Who keeps the memory
//! A task is freed with its last reference, on whichever thread that happens. Wakers and handles
//! hold one each. The list of all tasks holds one until the task has finished and its output is
//! gone. An entry in a queue holds none while the task is unfinished, so that a wake need not
//! count; a task that finishes while it is queued gives its entry a reference.
//!
//! Freeing a task never drops its body, because that must not happen on another thread. An output
//! that can no longer be dropped on its own thread is leaked. That happens after a call of `exit`
//! inside a task.

mod boxed;
mod local;
mod mailbox;
mod queue;
mod spare;
mod state;

pub(crate) use local::{Birth, Ended, MainTask, Running, Task};
pub(crate) use mailbox::{Mailbox, Message, Unpark};
pub(crate) use queue::{
    Batch, all, clear_queue, has_queued, n_awaited, n_listed_and_queued, n_unfinished,
    rebuild_after_fork,
};

use super::sync::{Arc, AtomicUsize, Cell, Ordering};
use boxed::Boxed;
use queue::HERE;
use spare::Block;
use state::{FINISHED, QUEUED, REFERENCE};
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

/// The future of a task and then its output. No method may unwind.
pub(crate) trait Body {
    /// What a [`Handle`] takes out of it.
    type Output;
    /// Polls the future, and keeps what it returns.
    fn poll(self: Pin<&mut Self>, id: u64, cx: &mut Context<'_>) -> Poll<()>;
    /// Drops the future before it has ended, and keeps an error as the output.
    fn cancel(self: Pin<&mut Self>, id: u64);
    /// Takes the output out, if there is one.
    fn take_output(self: Pin<&mut Self>) -> Option<Self::Output>;
    /// Drops what is there. `name` is for the report of a panic that no handle has returned.
    fn discard(self: Pin<&mut Self>, id: u64, name: Option<&str>);
}

/// A [`Body`] whose type is not known.
trait ErasedBody {
    fn poll(self: Pin<&mut Self>, id: u64, cx: &mut Context<'_>) -> Poll<()>;
    fn cancel(self: Pin<&mut Self>, id: u64);
    fn discard(self: Pin<&mut Self>, id: u64, name: Option<&str>);
    /// # Safety
    /// `into` points to an `Option` of the output of this body.
    unsafe fn take_output(self: Pin<&mut Self>, into: *mut ());
}

impl<B: Body> ErasedBody for B {
    fn poll(self: Pin<&mut Self>, id: u64, cx: &mut Context<'_>) -> Poll<()> {
        Body::poll(self, id, cx)
    }

    fn cancel(self: Pin<&mut Self>, id: u64) {
        Body::cancel(self, id);
    }

    fn discard(self: Pin<&mut Self>, id: u64, name: Option<&str>) {
        Body::discard(self, id, name);
    }

    unsafe fn take_output(self: Pin<&mut Self>, into: *mut ()) {
        // SAFETY: the caller says that there is an `Option` of this type.
        let into = unsafe { &mut *into.cast::<Option<B::Output>>() };
        *into = Body::take_output(self);
    }
}

/// What a mailbox consists of: a task that another thread has woken, or a [`Message`].
#[repr(C)]
struct Node {
    /// The next entry of the mailbox or the run queue. Belongs to whoever has set QUEUED, and then
    /// to the thread of the loop.
    next: Cell<*mut Node>,
    kind: &'static Kind,
}

/// What a node is part of, and how to get from a pointer to the node to the rest.
enum Kind {
    Task {
        body: fn(NonNull<Node>) -> *mut dyn ErasedBody,
        /// The size of the block of memory that the task is in.
        n_words: usize,
    },
    Message(fn(NonNull<Node>) -> *mut dyn Letter),
}

/// The part of a task that does not depend on the type of its future.
#[repr(C)]
struct Header {
    // First, so that a pointer to the node is a pointer to the header.
    node: Node,
    /// QUEUED, ABORTED, FINISHED, and the number of references.
    state: AtomicUsize,
    mailbox: Arc<Mailbox>,
    /// Neighbours in the list of all tasks.
    previous: Cell<Link<Header>>,
    following: Cell<Link<Header>>,
    /// The task that awaits the handle.
    joiner: Cell<Option<Waker>>,
    /// Where the task was spawned.
    place: &'static Location<'static>,
    /// The flags that only the thread of the loop needs, and the id.
    local: Cell<u64>,
    /// Number of polls so far. Wraps around.
    n_polls: Cell<u32>,
}

#[repr(C)]
struct Allocation<B> {
    // First, so that a pointer to the allocation is a pointer to the header.
    header: Header,
    body: UnsafeCell<ManuallyDrop<B>>,
}

/// A pointer to something that is in a list or a queue; or null.
///
/// Invariant: whatever holds a `Link` takes it out before what it points to can be freed. The run
/// queue, a [`Batch`] and the list of all tasks hold tasks of this thread; a [`Chain`] holds nodes,
/// which were pushed for it alone.
struct Link<T>(*mut T);

impl<T> Clone for Link<T> {
    fn clone(&self) -> Link<T> {
        *self
    }
}

impl<T> Copy for Link<T> {}

impl<T> Link<T> {
    const NULL: Link<T> = Link(ptr::null_mut());

    fn get(&self) -> Option<&T> {
        // SAFETY: by the invariant, it is there. Tasks and nodes are only ever borrowed shared.
        unsafe { self.0.as_ref() }
    }

    fn is_null(self) -> bool {
        self.0.is_null()
    }
}

impl Link<Header> {
    /// The task, without a reference of its own.
    fn uncounted(self) -> Option<ManuallyDrop<TaskRef>> {
        NonNull::new(self.0).map(|task| ManuallyDrop::new(TaskRef(task)))
    }
}

/// A counted reference to a task, by which any thread may wake and abort it.
pub(crate) struct TaskRef(NonNull<Header>);

// SAFETY: by a `TaskRef` alone, a thread reaches only the atomic word, the mailbox, which is
// `Sync`, and the memory of the task, which is freed without dropping the body.
unsafe impl Send for TaskRef {}
// SAFETY: the reason is that of `Send`: all of this may be used through a shared reference.
unsafe impl Sync for TaskRef {}
// A panic leaves no task half changed: flags change in one step.
impl UnwindSafe for TaskRef {}
impl RefUnwindSafe for TaskRef {}

impl TaskRef {
    fn header(&self) -> &Header {
        // SAFETY: the counted reference keeps the memory, of which only shared borrows are made.
        unsafe { self.0.as_ref() }
    }

    fn link(&self) -> Link<Header> {
        Link(self.0.as_ptr())
    }

    /// Gives up `n` references, one of which may be that of `self`.
    fn release(&self, n: usize) {
        let header = self.header();
        // Release, so that what this thread did with the task comes before it is freed; Acquire, so
        // that it comes after what all other threads did.
        let before = header.state.fetch_sub(n * REFERENCE, Ordering::AcqRel);
        if before >= (n + 1) * REFERENCE {
            return;
        }
        // Nothing is left here in a task that ended in an orderly way. The access makes a model
        // notice if the thread of the loop may still be using the task.
        drop(header.joiner.take());
        let Kind::Task { n_words, .. } = header.node.kind else {
            unreachable!("a header is part of a task");
        };
        // SAFETY: there was no other reference to the task, whose header is dropped nowhere else.
        unsafe { ptr::drop_in_place(self.0.as_ptr()) };
        let words = ptr::slice_from_raw_parts_mut(self.0.as_ptr().cast(), *n_words);
        // SAFETY: the memory of each task comes from a box of this type and length.
        let block: Block = unsafe { Box::from_raw(words) };
        HERE.with(|here| here.free(block));
    }
}

impl Drop for TaskRef {
    fn drop(&mut self) {
        self.release(1);
    }
}

impl TaskRef {
    /// Calls `f` with a waker of the task that holds no reference of its own.
    fn with_waker<R>(&self, f: impl FnOnce(&mut Context<'_>) -> R) -> R {
        // SAFETY: the functions of `WAKER` keep the contract of `RawWaker`; `self` keeps the task.
        let waker = unsafe { Waker::new(self.0.as_ptr().cast(), &WAKER) };
        f(&mut Context::from_waker(&ManuallyDrop::new(waker)))
    }
}

impl Running {
    fn body(&mut self) -> Pin<&mut dyn ErasedBody> {
        let Kind::Task { body, .. } = self.task().header().node.kind else {
            unreachable!("a header is part of a task");
        };
        let body = body(self.task().0.cast());
        // SAFETY: there is one `Running` of a task at a time, and this borrows it.
        let body = unsafe { &mut *body };
        // SAFETY: a body stays where it is until its memory is freed, and is given out only here.
        unsafe { Pin::new_unchecked(body) }
    }
}

/// The wakers of all tasks. A static, so that `will_wake` can compare its address.
static WAKER: RawWakerVTable = {
    /// The task that a waker belongs to, which still owns the reference.
    fn task(data: *const ()) -> ManuallyDrop<TaskRef> {
        // SAFETY: only the functions below call this, and std calls them with the data of wakers
        // that were made here: pointers to headers.
        let header = unsafe { NonNull::new_unchecked(data.cast_mut().cast()) };
        ManuallyDrop::new(TaskRef(header))
    }
    RawWakerVTable::new(
        |data| {
            let copy = ManuallyDrop::new(TaskRef::clone(&task(data)));
            RawWaker::new(copy.address(), &WAKER)
        },
        |data| ManuallyDrop::into_inner(task(data)).wake(),
        |data| task(data).wake_by_ref(),
        |data| drop(ManuallyDrop::into_inner(task(data))),
    )
};

impl<B: Body + 'static> Allocation<B> {
    const KIND: Kind = Kind::Task {
        body: |node| {
            // The arithmetic of pointers keeps what this one may be used for, unlike a borrow.
            let at = mem::offset_of!(Allocation<B>, body);
            node.as_ptr().wrapping_byte_add(at).cast::<B>()
        },
        n_words: Self::N_WORDS,
    };

    const N_WORDS: usize = size_of::<Self>().div_ceil(size_of::<u64>());
}

/// Allocates a task with one reference, and with others and flags that `state` says.
fn allocate<B: Body + 'static>(body: B, birth: Birth, state: usize, is_listed: bool) -> TaskRef {
    // A task has the alignment of a word. A body that needs more gets memory of its own.
    if const { align_of::<B>() > align_of::<u64>() } {
        place(Boxed::new(body), birth, state, is_listed)
    } else {
        place(body, birth, state, is_listed)
    }
}

/// Puts a task, whose body has the alignment of a word, into memory.
fn place<B: Body + 'static>(body: B, birth: Birth, state: usize, is_listed: bool) -> TaskRef {
    assert!(align_of::<Allocation<B>>() <= align_of::<u64>());
    let header = Header {
        node: Node {
            next: Cell::new(ptr::null_mut()),
            kind: &Allocation::<B>::KIND,
        },
        state: AtomicUsize::new(REFERENCE + state),
        local: Cell::new(birth.flags(is_listed)),
        mailbox: birth.mailbox,
        previous: Cell::new(Link::NULL),
        following: Cell::new(Link::NULL),
        joiner: Cell::new(None),
        place: birth.place,
        n_polls: Cell::new(0),
    };
    let body = UnsafeCell::new(ManuallyDrop::new(body));
    let block = HERE.with(|here| here.spare.take(Allocation::<B>::N_WORDS));
    let task = Box::into_raw(block).cast::<Allocation<B>>();
    // SAFETY: the block is of this size, and aligned for it, as was asserted.
    unsafe { task.write(Allocation { header, body }) };
    TaskRef(NonNull::new(task.cast()).expect("a box is not null"))
}

/// Allocates a task, queues it, and adds it to the list of all tasks.
///
/// # Panics
/// If the mailbox is not the one of this thread's loop.
pub(crate) fn spawn<B: Body + 'static>(body: B, birth: Birth) -> Handle<B::Output> {
    assert!(birth.mailbox.is_here(), "a task belongs to its own thread");
    let is_awaited = !birth.is_daemon;
    let task = allocate(body, birth, QUEUED + REFERENCE, true);
    HERE.with(|here| {
        here.n_awaited
            .set(here.n_awaited.get() + usize::from(is_awaited));
        here.list(task.link());
        here.queue.push(task.link());
    });
    Handle::new(task)
}

/// Allocates a task that has finished without having been polled. For threads that are ending.
pub(crate) fn spawn_cancelled<B: Body + 'static>(body: B, birth: Birth) -> Handle<B::Output> {
    let handle = Handle::new(allocate(body, birth, FINISHED, false));
    handle.task().cancel();
    handle
}

/// The only reference by which the output of a task can be taken.
pub(crate) struct Handle<T> {
    task: Task,
    _output: PhantomData<fn(T) -> T>,
}

// A panic finds the output there or not there: it is taken in one step.
impl<T> UnwindSafe for Handle<T> {}
impl<T> RefUnwindSafe for Handle<T> {}

impl<T> Handle<T> {
    /// `task` has an output of type `T`, and belongs to this thread.
    fn new(task: TaskRef) -> Handle<T> {
        Handle {
            task: Task::new(task),
            _output: PhantomData,
        }
    }

    pub(crate) fn task(&self) -> &Task {
        &self.task
    }

    /// Takes the output of the task, if it has ended.
    pub(crate) fn join(self) -> Option<T> {
        let mut output: Option<T> = None;
        let into = ptr::from_mut(&mut output).cast();
        self.task.end(|body| {
            // SAFETY: `T` is the output of the body that the handle was made for.
            unsafe { body.take_output(into) };
        });
        output
    }

    /// Gives the output up. Returns the task if it has ended, and its output is to be discarded.
    pub(crate) fn detach(self) -> Option<Task> {
        self.task.detach();
        self.task.can_be_ended().then_some(self.task)
    }
}

#[repr(C)]
struct Envelope<M> {
    // First, so that a pointer to the node is a pointer to the envelope.
    node: Node,
    message: M,
}

/// An [`Envelope`] whose type is not known.
trait Letter {
    fn deliver(self: Box<Self>);
    fn refuse(self: Box<Self>);
}

impl<M: Message> Letter for Envelope<M> {
    fn deliver(self: Box<Self>) {
        self.message.deliver();
    }

    fn refuse(self: Box<Self>) {
        self.message.refuse();
    }
}

impl<M: Message> Envelope<M> {
    const KIND: Kind = Kind::Message(|node| node.as_ptr().cast::<Envelope<M>>());

    /// Puts `message` into memory of its own, which a chain frees.
    fn seal(message: M) -> NonNull<Node> {
        let node = Node {
            next: Cell::new(ptr::null_mut()),
            kind: &Envelope::<M>::KIND,
        };
        let envelope = Box::into_raw(Box::new(Envelope { node, message }));
        NonNull::new(envelope.cast()).expect("a box is not null")
    }
}

/// What was taken out of a mailbox, linked by `next`.
struct Chain(Link<Node>);

impl Chain {
    /// Has all of it arrive on the thread of the loop, in the order of the pushes: tasks in the run
    /// queue, messages where they say.
    fn arrive(mut self, is_open: bool) {
        self.reverse();
        while let Some((node, kind)) = self.pop() {
            match kind {
                // Also if the loop has ended: the task is finished next, and then its entry freed.
                Kind::Task { .. } => HERE.with(|here| here.queue.push(Link(node.as_ptr().cast()))),
                Kind::Message(letter) => {
                    // SAFETY: this is how the message was allocated, and no chain has it any more.
                    let letter = unsafe { Box::from_raw(letter(node)) };
                    if is_open {
                        letter.deliver();
                    } else {
                        letter.refuse();
                    }
                }
            }
        }
    }
}
