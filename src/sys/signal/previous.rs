//! The handlers of other code that were there before ours, and calling them.
//!
//! Usually there is at most one: what the program or a C library had installed before our first
//! listener. There are more when other code has put its handler over ours, and a later listener has
//! put ours on top again. Most such handlers call what they found, which is ours, so ours may run
//! several times for one signal, each call inside of another. The outermost call runs the newest
//! handler, the next one the handler before it, and so on. So each handler runs once, as if ours
//! were not in between; and two handlers that call each other through ours come to an end.
//!
//! **Invariant.** A list is replaced as a whole and never freed, so that a handler on any thread
//! sees either the old one or the new one.

use super::published::Published;
use nix::libc::{self, c_int, c_void, siginfo_t};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the system does with a signal: `struct sigaction`.
#[derive(Clone, Copy)]
pub(super) struct Action(pub(super) libc::sigaction);

// SAFETY: on Haiku an action holds a pointer, which nothing here follows: it only goes back to the
// system, which hands it to the handler on any thread.
unsafe impl Sync for Action {}

impl Action {
    /// The address of the handler; `None` for the default action and for an ignored signal.
    pub(super) fn handler(&self) -> Option<usize> {
        let handler = self.0.sa_sigaction;
        (handler != libc::SIG_DFL && handler != libc::SIG_IGN).then_some(handler)
    }

    fn call(&self, signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
        type Full = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
        type Plain = extern "C" fn(c_int);
        let Some(handler) = self.handler() else {
            return;
        };
        if self.0.sa_flags & libc::SA_SIGINFO != 0 {
            // SAFETY: the system had this as the handler, installed with SA_SIGINFO, so it is a
            // function of this type; it gets what the system has given us.
            let handler = unsafe { std::mem::transmute::<usize, Full>(handler) };
            handler(signal, info, context);
        } else {
            // SAFETY: the system had this as the handler, installed without SA_SIGINFO.
            let handler = unsafe { std::mem::transmute::<usize, Plain>(handler) };
            handler(signal);
        }
    }
}

/// Actions of one signal, from the oldest to the newest.
struct List {
    actions: Vec<Action>,
    /// The list that was made before this one for the same signal.
    made_before: Option<&'static List>,
}

/// What was there before our handler for one signal. Only [`call`](Previous::call) may run beside
/// another method.
pub(super) struct Previous {
    current: Published<List>,
    /// Every list that was ever made, from the newest on. Listeners that come and go lead to the
    /// same few lists again and again, so that memory does not grow.
    made: Published<List>,
    /// The innermost call that is running; see [`Frame`].
    running: AtomicUsize,
}

impl Previous {
    pub(super) const fn none() -> Previous {
        Previous {
            current: Published::none(),
            made: Published::none(),
            running: AtomicUsize::new(0),
        }
    }

    fn actions(&self) -> &'static [Action] {
        self.current.get().map_or(&[], |list| &list.actions)
    }

    /// The newest action, which is put back when the last listener leaves.
    pub(super) fn newest(&self) -> Option<&'static Action> {
        self.actions().last()
    }

    /// Adds what our handler is about to replace.
    pub(super) fn push(&self, action: &Action) {
        let mut actions = Vec::new();
        // Code that has reset the signal has taken all handlers away, as far as it knows.
        if let Some(handler) = action.handler() {
            // A handler that was below and has been put on top again is not to run twice.
            let others = self.actions().iter();
            actions.extend(others.filter(|other| other.handler().is_some_and(|h| h != handler)));
        }
        actions.push(*action);
        self.publish(actions);
    }

    /// Forgets the newest action, which has been put back, if it may call what is before it.
    pub(super) fn pop(&self) {
        // One that was there first is kept: a call of ours that has not got this far yet, on
        // another thread, must find it.
        match self.actions() {
            [] | [_] => {}
            [before @ .., _] => self.publish(before.to_vec()),
        }
    }

    fn publish(&self, actions: Vec<Action>) {
        let is_same = |a: &Action, b: &Action| a.0 == b.0;
        let mut made = std::iter::successors(self.made.get(), |list| list.made_before);
        let known = made.find(|list| {
            list.actions.len() == actions.len()
                && list
                    .actions
                    .iter()
                    .zip(&actions)
                    .all(|(a, b)| is_same(a, b))
        });
        let list = known.unwrap_or_else(|| {
            let made_before = self.made.get();
            let list = Box::leak(Box::new(List {
                actions,
                made_before,
            }));
            self.made.set(Some(list));
            list
        });
        self.current.set(Some(list));
    }

    /// Calls the handler whose turn it is; may be called by a signal handler only.
    pub(super) fn call(&self, signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
        let actions = self.actions();
        let before = self.running.load(Ordering::SeqCst);
        let marker = 0_u8;
        let frame = Frame(before).enter(ptr::from_ref(&marker).addr(), context.addr());
        let Some(action) = actions.iter().rev().nth(frame.depth()) else {
            return;
        };
        if frame.depth() == Frame::MAX_DEPTH {
            return;
        }
        self.running.store(frame.0, Ordering::SeqCst);
        action.call(signal, info, context);
        let outer = if frame.depth() == 0 { 0 } else { before };
        self.running.store(outer, Ordering::SeqCst);
    }
}

/// A running call of our handler: the address of its stack frame, with the number of calls that it
/// is inside of in the low bits. 0 if there is none.
///
/// There is one for each signal, shared by all threads, because a signal handler has no safe place
/// for what belongs to a thread: thread-locals of a shared library may be allocated at first use.
/// The worst that two threads can do to each other is that a previous handler that calls ours runs
/// once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame(usize);

impl Frame {
    const MAX_DEPTH: usize = 15;

    /// The frame of a call at `address`, given the context that it was passed, if `self` is the
    /// last known.
    ///
    /// It is inside of that call if its frame is deeper, unless the system has pushed the context
    /// of a signal on the stack in between: then it is another signal's call, on this thread or on
    /// another, and the known one was left by a `siglongjmp`, or goes on later.
    fn enter(self, address: usize, context: usize) -> Frame {
        let known = self.0 & !Frame::MAX_DEPTH;
        let is_deeper = address < known;
        let is_interrupted = address < context && context < known;
        let depth = match is_deeper && !is_interrupted {
            true => (self.depth() + 1).min(Frame::MAX_DEPTH),
            false => 0,
        };
        Frame(address & !Frame::MAX_DEPTH | depth)
    }

    /// Number of running calls that this one is inside of.
    fn depth(self) -> usize {
        self.0 & Frame::MAX_DEPTH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_inside_of_another_only_if_no_signal_came_in_between() {
        let first = Frame(0).enter(0x9000, 0x9100);
        assert_eq!(first, Frame(0x9000));
        // The previous handler has called ours, with the context or with nothing sensible.
        let second = first.enter(0x8fe8, 0x9100);
        assert_eq!(second, Frame(0x8fe1));
        assert_eq!(first.enter(0x8fe0, 0), Frame(0x8fe1));
        assert_eq!(second.enter(0x8fb0, 0x9100).depth(), 2);
        // The next signal after a `siglongjmp`: at the same place, further out, or deeper.
        assert_eq!(first.enter(0x9000, 0x9100).depth(), 0);
        assert_eq!(first.enter(0x9800, 0x9900).depth(), 0);
        assert_eq!(first.enter(0x7000, 0x7100).depth(), 0);
    }

    #[test]
    fn calls_inside_of_each_other_come_to_an_end() {
        let mut frame = Frame(0);
        for depth in 0..100 {
            frame = frame.enter(0x9000 - 0x40 * depth, 0x9100);
            assert_eq!(frame.depth(), depth.min(Frame::MAX_DEPTH));
        }
    }
}
