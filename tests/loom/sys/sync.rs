//! What `src/sys/sync.rs` has, as loom has it.

pub(crate) use loom::cell::Cell;
pub(crate) use loom::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering};
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};

use loom::sync::atomic::AtomicBool;
use std::cell::RefCell;
use std::sync::LockResult;
use std::time::Duration;

/// As loom's, which does not know `const`.
macro_rules! thread_locals {
    ($($(#[$meta:meta])* $vis:vis static $name:ident: $type:ty = const $init:block;)*) => {
        loom::thread_local! { $($(#[$meta])* $vis static $name: $type = $init;)* }
    };
}
pub(crate) use thread_locals as thread_local;

/// Of which loom has none. Whoever sees that it is set sees what it was set to; whoever has not
/// been told by other means may not see it.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    is_set: AtomicBool,
    value: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> OnceLock<T> {
        OnceLock {
            is_set: AtomicBool::new(false),
            value: std::sync::OnceLock::new(),
        }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        let is_set = self.is_set.load(Ordering::Acquire);
        is_set.then(|| self.value.get().expect("it was set before"))
    }

    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut()
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.is_set.store(true, Ordering::Release);
        Ok(())
    }
}

/// As std's, with time that passes when [`Clock::pass`] says so.
#[derive(Debug)]
pub(crate) struct Condvar {
    inner: std::sync::Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    condvar: loom::sync::Condvar,
    n_passed: AtomicUsize,
}

/// The clock of one `Condvar`.
pub(crate) struct Clock(std::sync::Arc<Inner>);

pub(crate) struct WaitTimeoutResult(bool);

loom::thread_local! {
    /// The last that this thread has made.
    static CONDVAR: RefCell<Option<std::sync::Arc<Inner>>> = RefCell::new(None);
}

impl Condvar {
    pub(crate) fn new() -> Condvar {
        let inner = std::sync::Arc::new(Inner {
            condvar: loom::sync::Condvar::new(),
            n_passed: AtomicUsize::new(0),
        });
        CONDVAR.with(|last| last.replace(Some(std::sync::Arc::clone(&inner))));
        Condvar { inner }
    }

    /// Whoever waited when the clock passed has waited for too long, even if it was notified as
    /// well.
    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let n_passed = self.inner.n_passed.load(Ordering::SeqCst);
        let guard = self.inner.condvar.wait(guard).unwrap();
        let timed_out = self.inner.n_passed.load(Ordering::SeqCst) != n_passed;
        Ok((guard, WaitTimeoutResult(timed_out)))
    }

    pub(crate) fn notify_one(&self) {
        self.inner.condvar.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.inner.condvar.notify_all();
    }
}

impl Clock {
    /// The clock of the `Condvar` that this thread has made last.
    pub(crate) fn here() -> Clock {
        let last = CONDVAR.with(|last| last.borrow().clone());
        Clock(last.expect("there is a `Condvar`"))
    }

    /// Lets the time pass for which those wait that wait now.
    pub(crate) fn pass(&self) {
        self.0.n_passed.fetch_add(1, Ordering::SeqCst);
        self.0.condvar.notify_all();
    }
}

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

/// Threads, of which only some can be started.
pub(crate) mod thread {
    use std::cell::Cell;
    use std::io;

    loom::thread_local! {
        /// How many more this thread may start.
        static LEFT: Cell<usize> = Cell::new(usize::MAX);
    }

    pub(crate) fn allow(n: usize) {
        LEFT.with(|left| left.set(n));
    }

    pub(crate) struct Builder(loom::thread::Builder);

    impl Builder {
        pub(crate) fn new() -> Builder {
            Builder(loom::thread::Builder::new())
        }

        pub(crate) fn name(self, name: String) -> Builder {
            Builder(self.0.name(name))
        }

        pub(crate) fn spawn(self, f: impl FnOnce() + Send + 'static) -> io::Result<()> {
            let left = LEFT.with(Cell::get);
            let Some(left) = left.checked_sub(1) else {
                return Err(io::ErrorKind::WouldBlock.into());
            };
            LEFT.with(|cell| cell.set(left));
            self.0.spawn(f).map(drop)
        }
    }
}
