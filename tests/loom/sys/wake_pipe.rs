//! The wake-up pipe as a counter of the bytes that are in it, and `select` for it alone.

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread::{self, Thread};
use std::cell::RefCell;
use std::io;
use std::os::fd::RawFd;
// What only the model needs is not to be tried in every order.
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[derive(Debug)]
pub(crate) struct CreateError;

/// What is behind the two descriptors.
#[derive(Debug)]
pub(crate) struct State {
    n_bytes: AtomicUsize,
    reader: Thread,
    is_broken: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct WakePipe {
    state: Arc<State>,
}

loom::thread_local! {
    /// The pipe of this thread's loop.
    static HERE: RefCell<Option<Arc<State>>> = RefCell::new(None);
}

impl WakePipe {
    pub(crate) fn new() -> Result<WakePipe, CreateError> {
        let state = Arc::new(State {
            n_bytes: AtomicUsize::new(0),
            reader: thread::current(),
            is_broken: AtomicBool::new(false),
        });
        HERE.with(|here| here.replace(Some(Arc::clone(&state))));
        Ok(WakePipe { state })
    }

    pub(crate) fn read_fd(&self) -> RawFd {
        0
    }

    pub(crate) fn replace(&self) -> io::Result<bool> {
        Ok(false)
    }

    pub(crate) fn is_ours(&self) -> bool {
        true
    }

    pub(crate) fn notify(&self) -> io::Result<()> {
        if self.state.is_broken.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.state.n_bytes.fetch_add(1, Ordering::Relaxed);
        self.state.reader.unpark();
        Ok(())
    }

    pub(crate) fn close(&mut self) -> Vec<(RawFd, io::Error)> {
        Vec::new()
    }

    pub(crate) fn drain(&self) -> bool {
        self.state.n_bytes.swap(0, Ordering::Relaxed) > 0
    }
}

impl State {
    /// From now on, writes fail, or no longer.
    pub(crate) fn break_down(&self, is_broken: bool) {
        self.is_broken.store(is_broken, Ordering::Relaxed);
    }
}

/// The pipe of this thread's loop.
pub(crate) fn here() -> Arc<State> {
    let pipe = HERE.with(|here| here.borrow().clone());
    pipe.expect("a loop that waits has its pipe")
}

/// What `select` does with the pipe of this thread's loop: waits until there is a byte in it, if it
/// may. Returns how many there are.
pub(crate) fn select(may_wait: bool) -> usize {
    let pipe = here();
    loop {
        let n_bytes = pipe.n_bytes.load(Ordering::Relaxed);
        if n_bytes > 0 || !may_wait {
            return n_bytes;
        }
        thread::park();
    }
}
