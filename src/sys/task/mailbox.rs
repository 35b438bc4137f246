//! The mailbox of a loop: a stack without locks, onto which any thread pushes woken tasks and
//! messages, and which the loop takes as a whole.
//!
//! One atomic pointer says everything: the last node that was pushed, or null; in its lowest bit,
//! whether the loop is asleep; or a sentinel once the loop has ended.
//!
//! **Invariant.** No push is overlooked. A push and going to sleep are changes of that one pointer,
//! so one comes before the other: the loop does not fall asleep on top of a node, and the push that
//! takes the mark away unparks the loop. So it is unparked at most once a sleep, and never while it
//! is awake.
//!
//! There is no lock that a `fork` could leave held. In the child of a fork that came in the middle
//! of a push, the node of that push is either in the stack or not; the stack is whole.

use super::queue::HERE;
use super::{Chain, Envelope, Kind, Link, Node};
use crate::sys::sync::{Arc, AtomicPtr, Ordering};
use std::mem::{self, ManuallyDrop};
use std::ptr::{self, NonNull};

/// How a push ends the wait of a sleeping loop.
pub(crate) trait Unpark: Send + Sync {
    /// Ends the wait. Returns false if that has certainly failed.
    fn unpark(&self) -> bool;
}

/// Something that any thread may send to a loop, in order with the wakes.
pub(crate) trait Message: Send + 'static {
    /// Called on the thread of the loop. Must not unwind.
    fn deliver(self);
    /// Called instead if the loop has ended: on the sender's thread, or on that of the loop if it
    /// ends with the message in its mailbox.
    fn refuse(self);
}

/// The part of a loop that other threads may touch.
pub(crate) struct Mailbox {
    head: AtomicPtr<Node>,
    unpark: Box<dyn Unpark>,
}

/// The bit of `head` that marks the loop asleep. Nodes are aligned, so their addresses lack it.
const ASLEEP: usize = 1;

/// The `head` of a loop that has ended: an address that no node has.
const CLOSED: *mut Node = ptr::without_provenance_mut(2);

fn is_asleep(head: *mut Node) -> bool {
    head.addr() & ASLEEP != 0
}

fn with_mark(head: *mut Node) -> *mut Node {
    head.map_addr(|address| address | ASLEEP)
}

fn without_mark(head: *mut Node) -> *mut Node {
    head.map_addr(|address| address & !ASLEEP)
}

impl Mailbox {
    /// Makes the mailbox of this thread's loop. Wakes on this thread go around it.
    pub(crate) fn for_this_thread(unpark: Box<dyn Unpark>) -> Arc<Mailbox> {
        let mailbox = Arc::new(Mailbox {
            head: AtomicPtr::new(ptr::null_mut()),
            unpark,
        });
        HERE.with(|here| {
            here.mailbox.set(Arc::as_ptr(&mailbox));
            here.kept.set(ManuallyDrop::new(Some(Arc::clone(&mailbox))));
        });
        mailbox
    }

    /// Makes the mailbox of no loop. It is closed.
    pub(crate) fn closed(unpark: Box<dyn Unpark>) -> Arc<Mailbox> {
        Arc::new(Mailbox {
            head: AtomicPtr::new(CLOSED),
            unpark,
        })
    }

    /// True if this is the mailbox of the calling thread's loop, and that loop has not ended.
    pub(crate) fn is_here(&self) -> bool {
        HERE.with(|here| ptr::eq(here.mailbox.get(), self))
    }

    /// Adds a node. Returns false if the loop has ended.
    pub(super) fn push(&self, node: NonNull<Node>) -> bool {
        let node = Link(node.as_ptr());
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            if head == CLOSED {
                return false;
            }
            if let Some(node) = node.get() {
                node.next.set(without_mark(head));
            }
            // Release publishes the node and what was written before the wake. Acquire shows the
            // pipe that the loop has set up before it marked itself asleep.
            let order = Ordering::AcqRel;
            match self
                .head
                .compare_exchange(head, node.0, order, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(changed) => head = changed,
            }
        }
        if is_asleep(head) && !self.unpark.unpark() {
            self.restore_mark();
        }
        true
    }

    /// Has `message` delivered on the thread of the loop, or refused if that has ended.
    pub(crate) fn send<M: Message>(&self, message: M) {
        let node = Envelope::seal(message);
        if !self.push(node) {
            Chain(Link(node.as_ptr())).arrive(false);
        }
    }

    /// After an unpark that has failed: the loop still sleeps, so let the next push try.
    fn restore_mark(&self) {
        let mut head = self.head.load(Ordering::Relaxed);
        // Without a node, the loop has woken up by other means. With a mark, it sleeps again, or
        // another thread has failed as well.
        while !head.is_null() && head != CLOSED && !is_asleep(head) {
            let order = Ordering::AcqRel;
            match self
                .head
                .compare_exchange(head, with_mark(head), order, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(changed) => head = changed,
            }
        }
    }

    /// Marks the loop asleep, so that a push unparks it. Returns false if there is a node: the
    /// loop must not wait then.
    pub(crate) fn fall_asleep(&self) -> bool {
        let (empty, marked) = (ptr::null_mut(), with_mark(ptr::null_mut()));
        // Release publishes what unparks the loop.
        let order = Ordering::AcqRel;
        match self
            .head
            .compare_exchange(empty, marked, order, Ordering::Relaxed)
        {
            Ok(_) => true,
            Err(head) => head == marked,
        }
    }

    /// Marks the loop awake.
    pub(crate) fn wake_up(&self) {
        let mut head = self.head.load(Ordering::Relaxed);
        while is_asleep(head) {
            let order = Ordering::AcqRel;
            match self
                .head
                .compare_exchange(head, without_mark(head), order, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(changed) => head = changed,
            }
        }
    }

    /// Takes out all nodes: tasks are queued, messages delivered, in the order of the pushes.
    pub(crate) fn collect(&self) {
        let head = self.head.load(Ordering::Relaxed);
        // Nodes belong to the thread of the loop, which alone may take them out.
        if without_mark(head).is_null() || !self.is_here() {
            return;
        }
        // Acquire, as what was written before a push has to be seen here.
        let head = self.head.swap(ptr::null_mut(), Ordering::AcqRel);
        Chain(Link(without_mark(head))).arrive(true);
    }

    /// Refuses all pushes from now on. The thread has no loop from here on: wakes of its own tasks
    /// find the mailbox closed as well. Messages that were not delivered are dropped.
    pub(crate) fn close(&self) {
        if !self.is_here() {
            return;
        }
        HERE.with(|here| here.mailbox.set(ptr::null()));
        let kept = HERE.with(|here| here.kept.replace(ManuallyDrop::new(None)));
        let head = self.head.swap(CLOSED, Ordering::AcqRel);
        Chain(Link(without_mark(head))).arrive(false);
        HERE.with(|here| here.spare.clear());
        drop(ManuallyDrop::into_inner(kept));
    }
}

impl Chain {
    /// Takes out the first node.
    pub(super) fn pop(&mut self) -> Option<(NonNull<Node>, &'static Kind)> {
        let first = self.0.get()?;
        let (next, kind) = (first.next.get(), first.kind);
        let node = mem::replace(&mut self.0, Link(next));
        NonNull::new(node.0).map(|node| (node, kind))
    }

    /// Turns the last that came into the last to be taken out.
    pub(super) fn reverse(&mut self) {
        let mut reversed = Link::NULL;
        while let Some(node) = self.0.get() {
            let next = Link(node.next.replace(reversed.0));
            reversed = mem::replace(&mut self.0, next);
        }
        self.0 = reversed;
    }
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::task::{Batch, Birth, MainTask, TaskRef};
    use std::panic::Location;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Counts how often it unparks.
    struct Counting(Arc<AtomicUsize>);

    impl Unpark for Counting {
        fn unpark(&self) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed) > 0
        }
    }

    fn mailbox() -> (Arc<Mailbox>, Arc<AtomicUsize>) {
        let n_unparks = Arc::new(AtomicUsize::new(0));
        let unpark = Box::new(Counting(Arc::clone(&n_unparks)));
        (Mailbox::for_this_thread(unpark), n_unparks)
    }

    /// Writes down what becomes of it.
    struct Note(usize, Arc<Mutex<Vec<String>>>);

    impl Message for Note {
        fn deliver(self) {
            self.1
                .lock()
                .unwrap()
                .push(format!("{} is delivered", self.0));
        }

        fn refuse(self) {
            self.1
                .lock()
                .unwrap()
                .push(format!("{} is refused", self.0));
        }
    }

    fn task(mailbox: &Arc<Mailbox>) -> MainTask {
        MainTask::new(Birth {
            id: 1,
            place: Location::caller(),
            mailbox: Arc::clone(mailbox),
            is_daemon: true,
            is_named: false,
        })
    }

    #[test]
    fn messages_and_wakes_of_another_thread_arrive_in_order() {
        let (mailbox, _) = mailbox();
        let (task, notes) = (task(&mailbox), Arc::new(Mutex::new(Vec::new())));
        let (shared, theirs) = (TaskRef::clone(&task), Arc::clone(&notes));
        let sender = Arc::clone(&mailbox);
        let thread = std::thread::spawn(move || {
            for n in 0..100 {
                sender.send(Note(n, Arc::clone(&theirs)));
                shared.wake_by_ref();
            }
        });
        thread.join().unwrap();
        assert!(Batch::take().is_empty());
        mailbox.collect();
        let expected: Vec<_> = (0..100).map(|n| format!("{n} is delivered")).collect();
        assert_eq!(*notes.lock().unwrap(), expected);
        let mut batch = Batch::take();
        assert!(batch.next().is_some() && batch.next().is_none(), "once");
        mailbox.close();
    }

    #[test]
    fn messages_to_a_loop_that_has_ended_are_refused() {
        let (mailbox, _) = mailbox();
        let notes = Arc::new(Mutex::new(Vec::new()));
        mailbox.send(Note(1, Arc::clone(&notes)));
        mailbox.close();
        mailbox.send(Note(2, Arc::clone(&notes)));
        mailbox.collect();
        assert_eq!(*notes.lock().unwrap(), ["1 is refused", "2 is refused"]);
        // All copies but this one are gone with the messages.
        assert_eq!(Arc::strong_count(&notes), 1);
    }

    #[test]
    fn a_push_writes_to_the_pipe_once_per_sleep_and_again_after_a_failure() {
        let (mailbox, n_unparks) = mailbox();
        let notes = Arc::new(Mutex::new(Vec::new()));
        let send = |n| mailbox.send(Note(n, Arc::clone(&notes)));
        let n_unparks = || n_unparks.load(Ordering::Relaxed);
        send(0);
        assert_eq!(
            (n_unparks(), mailbox.fall_asleep()),
            (0, false),
            "not empty"
        );
        mailbox.collect();
        assert!(mailbox.fall_asleep() && mailbox.fall_asleep());
        // The first unpark fails, so the second push unparks as well, and the third does not.
        for (n, expected) in [(1, 1), (2, 2), (3, 2)] {
            send(n);
            assert_eq!(n_unparks(), expected);
        }
        mailbox.wake_up();
        mailbox.collect();
        assert_eq!(notes.lock().unwrap().len(), 4);
        assert!(mailbox.fall_asleep());
        mailbox.wake_up();
        send(5);
        assert_eq!(n_unparks(), 2, "the loop is awake");
        mailbox.close();
    }
}
