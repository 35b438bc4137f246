//! Carrying values that are not `Send` through code that demands `Send`: [`Local`].
//!
//! Knows on which thread a value may be used, and what becomes of it on another. The comparison of
//! threads, which all of this relies on, is in `sys::thread_bound`.

mod forward;

use crate::event_loop::boundary::{self, drop_value};
use crate::event_loop::{ends_inside_run, with};
use crate::sys::sync::Arc;
use crate::sys::task::{Mailbox, Message};
use crate::sys::thread_bound::ThreadBound;
use std::any::type_name;
use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::pin::Pin;

/// A value that is used on one thread only, in a wrapper that is `Send + Sync`.
///
/// Libraries that also serve executors with many threads demand `Send` of futures and streams. On a
/// single thread that demand is an empty one, but the types of this crate cannot meet it. Wrapped
/// in a `Local` they do. It has the traits of the value: `Deref`, `Future`, `Stream`, `AsyncRead`,
/// `AsyncBufRead`, `AsyncWrite`, `AsyncSeek`, `AsFd`, `Debug` and `Clone`. Each checks that it is
/// used on the thread that created the `Local`.
///
/// # Panics
/// Every method, except [`is_here`](Local::is_here), and every implementation of a trait, except
/// `Drop`, panics on another thread. The message names the type and the place in the program that
/// created the `Local`.
///
/// # Dropping it on another thread
/// The value is sent to its own thread, whose loop drops it when it next turns. If that thread is
/// ending or has ended, the value is leaked, and a warning is logged.
///
/// # At the end of a thread
/// A `Local` can be created, used and dropped in the destructors of thread-local values. One that
/// is created there, once the loop has been dropped, is leaked if another thread drops it.
///
/// # Examples
/// ```
/// use fahrenheit::{Local, time::sleep};
/// use std::{pin::Pin, time::Duration};
///
/// // What a library demands, although this program has one thread only.
/// type Handler = Pin<Box<dyn Future<Output = u32> + Send>>;
///
/// let handler: Handler = Box::pin(async {
///     Local::new(sleep(Duration::from_micros(100))).await;
///     42
/// });
/// assert_eq!(fahrenheit::run(handler), 42);
/// ```
#[doc(alias("SendWrapper", "LocalSet"))]
pub struct Local<T: 'static> {
    /// The value. Pinned, so that a `Local` can be moved while its value is being polled.
    bound: ThreadBound<Pin<Box<T>>>,
    /// Where the value is sent if it is dropped on another thread. `None` if the loop of its thread
    /// had ended already when this was created.
    home: Option<Arc<Mailbox>>,
    /// Lets the loop know that there is a `Local`, whose destructor may run at any time.
    count: Option<Arc<()>>,
    /// Where the program created this.
    place: &'static Location<'static>,
}

impl<T> Local<T> {
    /// Wraps `value`. From now on it can be used on this thread only.
    #[track_caller]
    pub fn new(value: T) -> Local<T> {
        Local::from(Box::pin(value))
    }

    /// Returns whether this is the thread that created this `Local`, so that it can be used here.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::Local;
    /// use std::{future::ready, thread};
    ///
    /// let local = Local::new(7);
    /// assert!(local.is_here());
    /// let local = thread::spawn(move || {
    ///     assert!(!local.is_here());
    ///     local
    /// });
    /// assert_eq!(local.join().unwrap().into_inner(), 7);
    ///
    /// let mut future = Local::new(ready(1));
    /// assert_eq!(fahrenheit::run(future.as_pin_mut()), 1);
    /// assert_eq!(fahrenheit::run(Local::new(ready(2)).into_pin()), 2);
    /// ```
    pub fn is_here(&self) -> bool {
        self.bound.is_here()
    }

    /// Returns the value, pinned.
    ///
    /// # Panics
    /// On another thread than the one that created this.
    #[track_caller]
    pub fn as_pin_mut(&mut self) -> Pin<&mut T> {
        let place = self.place;
        match self.bound.get_mut() {
            Some(value) => value.as_mut(),
            None => used_elsewhere::<T>(place),
        }
    }

    /// Returns the value, in the box that it is pinned in.
    ///
    /// # Panics
    /// On another thread than the one that created this. The value is then sent to its own thread
    /// and dropped there.
    #[track_caller]
    pub fn into_pin(mut self) -> Pin<Box<T>> {
        match self.bound.take() {
            Some(value) => value,
            None => used_elsewhere::<T>(self.place),
        }
    }

    /// Returns the value.
    ///
    /// # Panics
    /// On another thread than the one that created this. The value is then sent to its own thread
    /// and dropped there.
    #[track_caller]
    pub fn into_inner(self) -> T
    where
        T: Unpin,
    {
        *Pin::into_inner(self.into_pin())
    }
}

/// Panics because a `Local<T>`, created at `place`, was used on another thread.
#[cold]
#[track_caller]
fn used_elsewhere<T>(place: &Location<'_>) -> ! {
    panic!(
        "the `Local<{}>` created at {place} was used on another thread; only the thread that \
         created it may use it: let a task of that thread use it, and send to it by a channel",
        type_name::<T>()
    );
}

/// Wraps a value that is pinned in a box already.
impl<T> From<Pin<Box<T>>> for Local<T> {
    #[track_caller]
    fn from(value: Pin<Box<T>>) -> Local<T> {
        Local {
            bound: ThreadBound::new(value),
            home: with(|l| Arc::clone(l.inbox.mailbox())),
            count: with(|l| Arc::clone(&l.locals)),
            place: Location::caller(),
        }
    }
}

impl<T> Drop for Local<T> {
    fn drop(&mut self) {
        if self.bound.is_here() {
            return;
        }
        let message = Returned {
            bound: self.bound.move_out(),
            _count: self.count.take(),
            place: self.place,
        };
        match &self.home {
            Some(home) => home.send(message),
            None => message.refuse(),
        }
    }
}

/// A value that was dropped on another thread, on its way home.
struct Returned<T> {
    bound: ThreadBound<Pin<Box<T>>>,
    /// Counts until the destructor has run, and so what that has signalled can be seen.
    _count: Option<Arc<()>>,
    /// Where the program created the `Local`.
    place: &'static Location<'static>,
}

impl<T: 'static> Message for Returned<T> {
    fn deliver(self) {
        drop_value(self.bound);
    }

    fn refuse(self) {
        if !self.bound.is_here() {
            boundary::warning!(
                "the `Local<{}>` created at {} was dropped on another thread after its own had \
                 ended: it is leaked",
                type_name::<T>(),
                self.place
            );
            // The shell leaks the value, as this is not its thread.
            drop_value(self.bound);
        } else if ends_inside_run() {
            // Its destructor would run in the middle of the task that called `exit`.
            mem::forget(self.bound);
        } else {
            // The loop ends with the value in its mailbox.
            drop_value(self.bound);
        }
    }
}

impl<T> Deref for Local<T> {
    type Target = T;

    #[track_caller]
    fn deref(&self) -> &T {
        match self.bound.get() {
            Some(value) => value,
            None => used_elsewhere::<T>(self.place),
        }
    }
}

impl<T: Unpin> DerefMut for Local<T> {
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        Pin::into_inner(self.as_pin_mut())
    }
}

/// The clone is another `Local` of this thread.
impl<T: Clone> Clone for Local<T> {
    #[track_caller]
    fn clone(&self) -> Local<T> {
        Local::new(T::clone(self))
    }
}

impl<T: fmt::Debug> fmt::Debug for Local<T> {
    #[track_caller]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Local").field(&**self).finish()
    }
}
