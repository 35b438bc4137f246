//! A signal that anybody can give, and a task waits for: [`Event`].
//!
//! A pipe on which a byte means "now". That is a system call more than a waker costs, but whoever
//! can write to a descriptor can give the signal: another thread, a signal handler, C code that
//! knows nothing of Rust, another process.
//!
//! **Invariant.** No signal is lost: each ends a wait that was under way when it came, or else the
//! next one.

use crate::fd::AsyncFd;
use crate::sys::fork;
use crate::sys::wake_pipe::WakePipe;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// Something that happens outside of the loop, and that a task on it waits for.
///
/// The signal is given by a [`Notifier`], from any thread, or by writing any byte to the
/// notifier's descriptor, which is how C code does it. Signals that come while nobody waits are
/// kept, as one. If several tasks wait, a signal lets one of them go on.
///
/// # From C
/// ```c
/// void something_has_happened(int fd) { (void)write(fd, "", 1); }
/// ```
/// The descriptor is non-blocking: EAGAIN means that the signal has been given already. The number
/// stays valid for as long as the `Event` or one of its notifiers lives, so keep one of them for as
/// long as C has it. If C is to close it, give it a duplicate
/// ([`BorrowedFd::try_clone_to_owned`]), and expect SIGPIPE if it writes when the `Event` and its
/// notifiers are gone.
///
/// # The other way round
/// As a descriptor, an `Event` is readable from a signal until a task has waited for it. So a loop
/// outside can wait for what a task signals, with `poll`, and then read what is there.
///
/// # After `fork`
/// A child has an event of its own behind the same numbers, with nothing signalled: its notifiers
/// reach only the child, those of the parent only the parent. Bytes that C code writes in the child
/// before the child has first waited for the event still reach the parent, and duplicates do so
/// for ever.
///
/// # Threads
/// An event belongs to the loop of its thread:
///
/// ```compile_fail
/// fn must_be_send<T: Send>() {}
/// must_be_send::<fahrenheit::Event>();
/// ```
///
/// # Examples
/// ```
/// fahrenheit::run(async {
///     let event = fahrenheit::Event::new()?;
///     let notifier = event.notifier();
///     let thread = std::thread::spawn(move || notifier.notify());
///     event.wait().await?;
///     thread.join().unwrap()
/// })
/// # .unwrap();
/// ```
pub struct Event {
    fd: AsyncFd<Arc<Bell>>,
}

impl Event {
    /// Makes an event that has not been signalled.
    ///
    /// # Errors
    /// A [`CreateError`](crate::CreateError), inside of the [`io::Error`], if no descriptor is left
    /// for a pipe; a [`RegisterError`](crate::RegisterError) if it is beyond what this system's
    /// `select` takes.
    #[track_caller]
    pub fn new() -> io::Result<Event> {
        fork::watch();
        let bell = Bell {
            n_forks: AtomicUsize::new(fork::count()),
            early: AtomicBool::new(false),
            pipe: WakePipe::new()?,
        };
        let fd = AsyncFd::new(Arc::new(bell))?;
        Ok(Event { fd })
    }

    /// A handle for another thread, or for C code, to signal this event.
    pub fn notifier(&self) -> Notifier {
        Notifier {
            bell: Arc::clone(self.fd.get_ref()),
        }
    }

    /// Waits until the event is signalled. Ready at once if it has been since the last wait.
    ///
    /// # Errors
    /// - EBADF, or of kind [`UnexpectedEof`](io::ErrorKind::UnexpectedEof), if somebody has closed
    ///   the descriptors of the event behind its back.
    /// - In a child of `fork`, if no descriptor is left for a pipe of its own.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future: the signal is there for the next wait.
    pub async fn wait(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_wait(cx)).await
    }

    fn poll_wait(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.fd.get_ref().renew_after_fork()? {
            return Poll::Ready(Ok(()));
        }
        self.fd.poll_read_with(cx, |bell| bell.pipe.take())
    }
}

/// The end to read from: readable while the event is signalled.
impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// As [`AsFd`].
impl AsRawFd for Event {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fd = self.as_raw_fd();
        f.debug_struct("Event")
            .field("fd", &fd)
            .finish_non_exhaustive()
    }
}

/// Signals an [`Event`], from any thread. Clones signal the same one.
///
/// As a descriptor it is the end to write to, see [`Event`].
#[derive(Clone)]
pub struct Notifier {
    bell: Arc<Bell>,
}

impl Notifier {
    /// Signals the event. Does not wait; if it is signalled already, nothing changes. If the event
    /// is gone, nobody hears it.
    ///
    /// A signal handler may call this: it takes no lock and allocates nothing. It may change
    /// `errno`.
    ///
    /// # Errors
    /// If somebody has closed the descriptors of the event behind its back.
    pub fn notify(&self) -> io::Result<()> {
        let bell = &*self.bell;
        if bell.is_ours() {
            return bell.pipe.ring();
        }
        // This is a child, and the pipe is still its parent's. Say it, then look again: either this
        // finds the pipe renewed, or whoever renews it finds this.
        bell.early.store(true, Ordering::SeqCst);
        if bell.is_ours() {
            return bell.pipe.ring();
        }
        Ok(())
    }
}

/// The end to write to: any byte signals the event.
impl AsFd for Notifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.pipe.write_end()
    }
}

/// As [`AsFd`].
impl AsRawFd for Notifier {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fd = self.as_raw_fd();
        f.debug_struct("Notifier")
            .field("fd", &fd)
            .finish_non_exhaustive()
    }
}

/// What an event and its notifiers share.
struct Bell {
    /// How many forks had been counted when the pipe was made: in a child it is the parent's.
    n_forks: AtomicUsize,
    /// Signalled in a child before the pipe was its own.
    early: AtomicBool,
    pipe: WakePipe,
}

impl Bell {
    fn is_ours(&self) -> bool {
        self.n_forks.load(Ordering::SeqCst) == fork::count()
    }

    /// In a child of `fork`: makes the pipe its own. Returns whether the event was signalled in the
    /// child before that. Only called by the thread of the event.
    fn renew_after_fork(&self) -> io::Result<bool> {
        if self.is_ours() {
            return Ok(false);
        }
        self.pipe.renew()?;
        self.n_forks.store(fork::count(), Ordering::SeqCst);
        Ok(self.early.swap(false, Ordering::SeqCst))
    }
}

/// The end to read from, for `select`.
impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}
