//! References that signal handlers may read while other threads change them.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A reference that one atomic operation replaces: a signal handler sees the old value or the new
/// one, never a mixture, and takes no lock. What was ever published stays allocated for good,
/// because a handler on another thread may be about to read it.
pub(super) struct Published<T: Sync + 'static>(AtomicPtr<T>);

impl<T: Sync> Published<T> {
    pub(super) const fn none() -> Published<T> {
        Published(AtomicPtr::new(ptr::null_mut()))
    }

    pub(super) fn get(&self) -> Option<&'static T> {
        let published = self.0.load(Ordering::SeqCst);
        // SAFETY: the pointer is null or was made from a `&'static T` by `set` or `replace`; `T`
        // is `Sync`, so every thread may read it.
        unsafe { published.as_ref() }
    }

    pub(super) fn set(&self, value: Option<&'static T>) {
        self.0.store(to_pointer(value), Ordering::SeqCst);
    }

    /// Sets `new` if the current value still is `old`. Returns whether it was.
    pub(super) fn replace(&self, old: Option<&'static T>, new: &'static T) -> bool {
        let (old, new, order) = (to_pointer(old), to_pointer(Some(new)), Ordering::SeqCst);
        self.0.compare_exchange(old, new, order, order).is_ok()
    }
}

fn to_pointer<T>(value: Option<&'static T>) -> *mut T {
    value.map_or(ptr::null_mut(), |value| ptr::from_ref(value).cast_mut())
}
