//! An event that other threads, signal handlers or C code signal and a task waits for: [`Event`].
//!
//! It is a pipe on which a byte means "now". That costs one system call more than a waker, but
//! anything that can write to a descriptor can signal it: another thread, a signal handler, C code
//! that knows nothing of Rust, another process.
//!
//! **Invariant.** No signal is lost: each ends a wait that was under way when it was given, or else
//! the next one.

#[cfg(feature = "dump")]
use crate::event_loop;
use crate::event_loop::signallers::Signallers;
use crate::fd::AsyncFd;
use crate::sys::fork;
use crate::sys::wake_pipe::WakePipe;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;

/// Something that happens outside of the loop, and that a task on it waits for.
///
/// It is signalled by a [`Notifier`], from any thread, or by writing any byte to the notifier's
/// descriptor, which is how C code does it. Signals that arrive while no task waits are kept, as
/// one. If several tasks wait, a signal lets one of them go on.
///
/// # From C
/// ```c
/// void something_has_happened(int fd) { (void)write(fd, "", 1); }
/// ```
/// The descriptor is non-blocking: EAGAIN means that the signal has been given already. The number
/// stays valid for as long as the `Event` or one of its notifiers lives, so keep one of them for as
/// long as C has it. If C is to close it, give it a duplicate
/// ([`BorrowedFd::try_clone_to_owned`]), and expect SIGPIPE if it writes after the `Event` and its
/// notifiers have been dropped.
///
/// # The other way round
/// As a descriptor, an `Event` is readable from a signal until a task has waited for it. So another
/// program's loop can wait with `poll` for what a task signals, and then read what is there.
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
#[doc(alias("Notify", "eventfd"))]
pub struct Event {
    fd: AsyncFd<Arc<EventPipe>>,
}

impl Event {
    /// Creates an event that has not been signalled.
    ///
    /// # Errors
    /// A [`CreateError`](crate::CreateError), inside of the [`io::Error`], if no descriptor is left
    /// for a pipe; a [`RegisterError`](crate::RegisterError) if its number is beyond what this
    /// system's `select` takes.
    #[track_caller]
    pub fn new() -> io::Result<Event> {
        fork::watch();
        let pipe = EventPipe {
            n_forks: AtomicUsize::new(fork::count()),
            signalled_early: AtomicBool::new(false),
            signallers: Arc::default(),
            pipe: WakePipe::new()?,
        };
        #[cfg(feature = "dump")]
        let signallers = Arc::clone(&pipe.signallers);
        let fd = AsyncFd::new(Arc::new(pipe))?;
        #[cfg(feature = "dump")]
        event_loop::label_event(fd.as_raw_fd(), signallers);
        Ok(Event { fd })
    }

    /// Returns a handle for another thread, or for C code, to signal this event.
    pub fn notifier(&self) -> Notifier {
        Notifier::new(self.fd.get_ref())
    }

    /// Signals this event from a task of its own thread, as
    /// [`Notifier::notify`] does from anywhere.
    ///
    /// Tasks that share an event by `Rc<Event>` and signal it by this, without notifiers, are found
    /// if they all wait: no other thread can wake them. See
    /// [`Builder::panic_when_stuck`](crate::Builder::panic_when_stuck).
    ///
    /// # Errors
    /// EBADF if other code has closed the descriptors of the event.
    ///
    /// # Examples
    /// ```
    /// fahrenheit::run(async {
    ///     let event = std::rc::Rc::new(fahrenheit::Event::new()?);
    ///     let signaller = std::rc::Rc::clone(&event);
    ///     fahrenheit::spawn(async move { signaller.notify() }).detach();
    ///     event.wait().await
    /// })
    /// # .unwrap();
    /// ```
    pub fn notify(&self) -> io::Result<()> {
        self.fd.get_ref().signal()
    }

    /// Waits until the event is signalled. Ready at once if it has been since the last wait.
    ///
    /// # Errors
    /// - EBADF, or of kind [`UnexpectedEof`](io::ErrorKind::UnexpectedEof), if other code has
    ///   closed the descriptors of the event.
    /// - EMFILE in a child of `fork`, if no descriptor is left for a pipe of its own.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future: the signal is kept for the next wait.
    pub async fn wait(&self) -> io::Result<()> {
        let mut waiter = self.fd.read_waiter();
        let shared = self.fd.get_ref();
        poll_fn(|cx| {
            // In each poll: the process may be forked while the task waits.
            if shared.renew_after_fork()? {
                return Poll::Ready(Ok(()));
            }
            waiter.poll_io(cx, || shared.pipe.take(), |()| false)
        })
        .await
    }
}

/// The end to read from: readable while the event is signalled.
impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The end to read from: readable while the event is signalled.
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
pub struct Notifier {
    pipe: Arc<EventPipe>,
}

impl Notifier {
    fn new(pipe: &Arc<EventPipe>) -> Notifier {
        pipe.signallers.add();
        Notifier {
            pipe: Arc::clone(pipe),
        }
    }

    /// Signals the event. Does not wait. Nothing changes if it is signalled already, or has been
    /// dropped.
    ///
    /// A signal handler may call this: it takes no lock and allocates nothing. It may change
    /// `errno`.
    ///
    /// # Errors
    /// EBADF if other code has closed the descriptors of the event.
    pub fn notify(&self) -> io::Result<()> {
        self.pipe.signal()
    }
}

impl Clone for Notifier {
    fn clone(&self) -> Notifier {
        Notifier::new(&self.pipe)
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.pipe.signallers.remove();
    }
}

/// The end to write to: any byte signals the event.
impl AsFd for Notifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.signallers.lend();
        self.pipe.pipe.write_end()
    }
}

/// The end to write to: any byte signals the event.
impl AsRawFd for Notifier {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not by `as_fd`, which counts as giving it out.
        let fd = self.pipe.pipe.write_end().as_raw_fd();
        f.debug_struct("Notifier")
            .field("fd", &fd)
            .finish_non_exhaustive()
    }
}

/// What an event and its notifiers share.
struct EventPipe {
    /// Number of counted forks when the pipe was made: in a child it is still the parent's.
    n_forks: AtomicUsize,
    /// True if it was signalled in a forked child before the child had a pipe of its own.
    signalled_early: AtomicBool,
    /// Who can still signal it.
    signallers: Arc<Signallers>,
    pipe: WakePipe,
}

impl EventPipe {
    /// Signals the event, as [`Notifier::notify`] says.
    fn signal(&self) -> io::Result<()> {
        if self.is_own_pipe() {
            return self.pipe.notify();
        }
        // This is a forked child, and a byte in the pipe would signal its parent. The flag comes
        // first, then a second look: either this finds the pipe renewed, or the thread that renews
        // it finds the flag.
        self.signalled_early.store(true, Ordering::SeqCst);
        if self.is_own_pipe() {
            return self.pipe.notify();
        }
        Ok(())
    }

    /// False in a forked child that still shares the pipe with its parent.
    fn is_own_pipe(&self) -> bool {
        self.n_forks.load(Ordering::SeqCst) == fork::count()
    }

    /// Gives a forked child a pipe of its own. Returns whether the event was signalled in the child
    /// before that. Called by the thread of the event only.
    fn renew_after_fork(&self) -> io::Result<bool> {
        if self.is_own_pipe() {
            return Ok(false);
        }
        self.pipe.renew()?;
        // Before the flag is read: a notifier sets the flag and then looks at this.
        self.n_forks.store(fork::count(), Ordering::SeqCst);
        Ok(self.signalled_early.swap(false, Ordering::SeqCst))
    }
}

/// The end to read from, for `select`.
impl AsFd for EventPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}
