//! A value that only the thread that created it may touch, in a shell that any thread may hold.
//!
//! Knows nothing of loops: what becomes of a value that is dropped elsewhere is decided above.
//!
//! **Invariant.** The value is reached only through this module, and each way to it compares the
//! calling thread with the one that created the shell.

use std::cell::Cell;
use std::marker::PhantomData;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number that names one thread of this process. It is never given to another thread.
///
/// `std::thread::ThreadId` cannot be had everywhere: `thread::current` panics in the destructors
/// that C libraries run at the end of a thread, after those of Rust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadNumber(usize);

/// Number of threads that have got a number.
static N_NUMBERED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The number of this thread; 0 until it needs one.
    ///
    /// Without a destructor, this can still be read in those of other thread-local values. Where a
    /// system has no such values, it is forgotten at the very end of the thread. The thread then
    /// counts as another one, which is safe.
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

impl ThreadNumber {
    /// Returns the number of this thread, or 0 if it has none. Safe in a forked child.
    pub(super) fn or_zero() -> usize {
        NUMBER.try_with(Cell::get).unwrap_or(0)
    }

    /// Returns whether this is the thread with that number.
    pub(super) fn is(self, number: usize) -> bool {
        self.0 == number
    }

    /// Returns the number of this thread, if it has got one.
    fn existing() -> Option<ThreadNumber> {
        let number = ThreadNumber::or_zero();
        (number > 0).then_some(ThreadNumber(number))
    }

    /// Returns the number of this thread, which gets one if it has none.
    pub(crate) fn get() -> ThreadNumber {
        ThreadNumber::existing().unwrap_or_else(|| {
            // Relaxed, because nothing but the number itself is shared. It must not wrap around:
            // two threads with one number would share values that are not `Sync`.
            let order = Ordering::Relaxed;
            let before = N_NUMBERED.fetch_update(order, order, |n| n.checked_add(1));
            let number = before.expect("fewer threads than a usize can count") + 1;
            // If this fails, the next call takes another number, and the value cannot be reached.
            let _ = NUMBER.try_with(|cell| cell.set(number));
            ThreadNumber(number)
        })
    }
}

/// A value that only the thread that created the shell may touch.
#[derive(Debug)]
pub(crate) struct ThreadBound<T> {
    /// `None` once it was taken out.
    value: Option<T>,
    /// The thread that created this.
    home: ThreadNumber,
}

// SAFETY: another thread may move or drop the shell. Moving it touches no part of the value but its
// bytes. `get`, `get_mut` and `into_inner` return nothing on another thread, `move_out` moves the
// value into another such shell, and `drop` leaks the value there.
unsafe impl<T> Send for ThreadBound<T> {}

// SAFETY: of the functions that take `&self`, `get` returns nothing on another thread, and
// `is_here` does not touch the value. So all references to the value are on its own thread.
unsafe impl<T> Sync for ThreadBound<T> {}

impl<T> ThreadBound<T> {
    /// Binds `value` to the calling thread.
    pub(crate) fn new(value: T) -> ThreadBound<T> {
        ThreadBound {
            value: Some(value),
            home: ThreadNumber::get(),
        }
    }

    /// Returns whether the calling thread is the one that created this.
    pub(crate) fn is_here(&self) -> bool {
        ThreadNumber::existing() == Some(self.home)
    }

    /// Returns the value, unless this is another thread.
    pub(crate) fn get(&self) -> Option<&T> {
        self.value.as_ref().filter(|_| self.is_here())
    }

    /// Returns the value, unless this is another thread.
    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        let is_here = self.is_here();
        self.value.as_mut().filter(|_| is_here)
    }

    /// Takes the value out, unless this is another thread.
    pub(crate) fn take(&mut self) -> Option<T> {
        if self.is_here() {
            self.value.take()
        } else {
            None
        }
    }

    /// Moves the value, on any thread, into another shell that is bound to the same thread.
    pub(crate) fn move_out(&mut self) -> ThreadBound<T> {
        ThreadBound {
            value: self.value.take(),
            home: self.home,
        }
    }
}

impl<T> Drop for ThreadBound<T> {
    fn drop(&mut self) {
        if !self.is_here() {
            // Its destructor may use what only its own thread may touch.
            mem::forget(self.value.take());
        }
    }
}

/// Not implemented by any type. It stands in the fields of types that belong to the loop of one
/// thread, so that the compiler's message for a missing `Send` names the way out: the type may be
/// sent only inside of [`Local`](crate::Local).
pub(crate) trait SendableOnlyInsideLocal: Unpin + UnwindSafe + RefUnwindSafe {}

/// A field that makes a type neither `Send` nor `Sync`.
pub(crate) type NotSend = PhantomData<dyn SendableOnlyInsideLocal>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn only_its_own_thread_reaches_the_value() {
        let mut bound = ThreadBound::new(Rc::new(1));
        assert!(bound.is_here());
        std::thread::scope(|scope| {
            let bound = &mut bound;
            scope.spawn(move || {
                assert!(!bound.is_here());
                assert!(bound.get().is_none());
                assert!(bound.get_mut().is_none());
                assert!(bound.take().is_none());
                // A thread with a number of its own is another one as well.
                let own = ThreadBound::new(());
                assert!(own.get().is_some());
                assert!(bound.get().is_none());
            });
        });
        assert_eq!(bound.get_mut().map(|value| **value), Some(1));
        assert_eq!(bound.take().as_deref(), Some(&1));
        assert!(bound.get().is_none());
    }

    #[test]
    fn a_value_is_leaked_on_another_thread_and_dropped_on_its_own() {
        let value = Rc::new(());
        let (leaked, mut moved) = (
            ThreadBound::new(Rc::clone(&value)),
            ThreadBound::new(Rc::clone(&value)),
        );
        let moved = std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                drop(leaked);
                moved.move_out()
            });
            thread.join().unwrap()
        });
        assert_eq!(Rc::strong_count(&value), 3);
        drop(moved);
        assert_eq!(Rc::strong_count(&value), 2, "one was leaked");
    }
}
