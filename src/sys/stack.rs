//! A stack that any thread pushes to and one takes as a whole, without a lock: a thread that is at
//! it at the moment of a fork cannot leave it locked in the child.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

pub(crate) struct Stack<T> {
    /// The newest item, made by `Box::into_raw`; null if there is none.
    top: AtomicPtr<Item<T>>,
}

struct Item<T> {
    value: T,
    below: *mut Item<T>,
}

impl<T: Send> Stack<T> {
    pub(crate) const fn new() -> Stack<T> {
        Stack {
            top: AtomicPtr::new(ptr::null_mut()),
        }
    }

    pub(crate) fn push(&self, value: T) {
        let below = self.top.load(Ordering::Relaxed);
        let mut item = Box::new(Item { value, below });
        loop {
            let below = item.below;
            let new = Box::into_raw(item);
            // Release: who takes the item sees what it points to.
            let order = (Ordering::AcqRel, Ordering::Relaxed);
            match self.top.compare_exchange_weak(below, new, order.0, order.1) {
                Ok(_) => return,
                Err(top) => {
                    item = own(new);
                    item.below = top;
                }
            }
        }
    }

    /// Takes all values, the newest first.
    pub(crate) fn take_all(&self) -> Vec<T> {
        // All at once: to take one item would mean to read where it leads while another thread may
        // be freeing it.
        let mut next = self.top.swap(ptr::null_mut(), Ordering::AcqRel);
        let mut taken = Vec::new();
        while !next.is_null() {
            let item = own(next);
            next = item.below;
            taken.push(item.value);
        }
        taken
    }
}

/// Takes an item back that `Box::into_raw` has given up.
fn own<T>(item: *mut Item<T>) -> Box<Item<T>> {
    // SAFETY: the two callers pass a pointer of `Box::into_raw` that no other thread has or can get
    // any more: one that was not published, or one that a `swap` has taken out, with all below it.
    unsafe { Box::from_raw(item) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_newest_comes_first_and_nothing_twice() {
        let stack = Stack::new();
        assert_eq!(stack.take_all(), Vec::<i32>::new());
        (0..3).for_each(|n| stack.push(n));
        assert_eq!(stack.take_all(), [2, 1, 0]);
        assert_eq!(stack.take_all(), []);
    }

    #[test]
    fn what_four_threads_push_is_taken_once_each() {
        static STACK: Stack<usize> = Stack::new();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                std::thread::spawn(move || {
                    (0..1_000).for_each(|n| STACK.push(1_000 * thread + n));
                })
            })
            .collect();
        let mut taken = Vec::new();
        while !threads.iter().all(|thread| thread.is_finished()) {
            taken.extend(STACK.take_all());
        }
        taken.extend(STACK.take_all());
        assert_eq!(taken.len(), 4_000);
        assert_eq!(taken.into_iter().collect::<BTreeSet<_>>().len(), 4_000);
    }
}
