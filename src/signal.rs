//! Signals as a stream: [`Signals`] for any set of them, [`ctrl_c`] for the most common one.
//!
//! Each listener has a pipe of its own, which the signal handler writes to and which this thread's
//! loop reads; the loop itself knows nothing of signals.
//!
//! # What happens to the default action
//! As long as a signal has a listener in this process, its default action does not happen: Ctrl-C
//! does not end the program. When the last listener is dropped, the previous disposition is
//! restored: the default action, or the handler of a C library. A signal that is still pending at
//! that moment gets the restored disposition.
//!
//! # Handlers of other code
//! A handler that was there before goes on being called, with all its arguments, and interrupts
//! system calls or restarts them (`SA_RESTART`) as before. If other code installs its handler over
//! ours, existing listeners depend on that handler calling ours; a new listener puts ours on top
//! again, and theirs is called from there. Handlers that call each other through ours come to an
//! end. If other code's handler is the current one when the last listener is dropped, it stays.
//! A shared library that contains this crate must not be unloaded in that case.
//!
//! # Several listeners
//! All of them are told, on whichever threads they are. Signals of one kind that arrive faster than
//! they are taken become one; after the last of them there is always one more to take. Kinds do not
//! push each other out.
//!
//! # Child programs
//! A program that is started meanwhile begins with the default action for these signals, also for
//! one that was ignored before it had a listener: `execve(2)` resets caught signals.
//!
//! # After `fork`
//! A forked child hears what it is sent itself, from its first instruction on, through the
//! listeners that it has a copy of; its parent does not hear that. Signals to a child of `vfork`
//! have no listener. Processes made by a bare `clone(2)` are not supported.

#[cfg(feature = "dump")]
mod dump_on;

#[cfg(feature = "dump")]
pub use dump_on::dump_on;

use crate::event_loop::boundary;
#[cfg(feature = "dump")]
use crate::event_loop::label_fd;
use crate::fd::AsyncFd;
use crate::sys::signal as raw;
use futures_util::stream::Stream;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
#[cfg(feature = "dump")]
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

/// A kind of signal, by its number on this system.
///
/// # Examples
/// ```
/// use fahrenheit::signal::Signal;
///
/// assert_eq!(Signal::TERM.to_string(), "SIGTERM");
/// assert_eq!(Signal::from_raw(Signal::TERM.as_raw()), Signal::TERM);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

impl Signal {
    /// `SIGALRM`: a timer of the system is due.
    pub const ALRM: Signal = Signal(raw::SIGALRM);
    /// `SIGCHLD`: a child has exited or stopped. To wait for one, see [`process`](crate::process).
    pub const CHLD: Signal = Signal(raw::SIGCHLD);
    /// `SIGCONT`: go on after a stop.
    pub const CONT: Signal = Signal(raw::SIGCONT);
    /// `SIGHUP`: the terminal is gone; daemons read their configuration again.
    pub const HUP: Signal = Signal(raw::SIGHUP);
    /// `SIGINT`: the user has pressed Ctrl-C.
    pub const INT: Signal = Signal(raw::SIGINT);
    /// `SIGIO`: a descriptor that was set up for it is ready.
    pub const IO: Signal = Signal(raw::SIGIO);
    /// `SIGKILL`: ends a process at once. It can be sent, not listened to.
    pub const KILL: Signal = Signal(raw::SIGKILL);
    /// `SIGPIPE`: a write to a pipe or socket that has no reader any more.
    pub const PIPE: Signal = Signal(raw::SIGPIPE);
    /// `SIGQUIT`: the user has pressed Ctrl-\.
    pub const QUIT: Signal = Signal(raw::SIGQUIT);
    /// `SIGSTOP`: stops a process. It can be sent, not listened to.
    pub const STOP: Signal = Signal(raw::SIGSTOP);
    /// `SIGTERM`: a request to end.
    pub const TERM: Signal = Signal(raw::SIGTERM);
    /// `SIGTSTP`: the user has pressed Ctrl-Z.
    pub const TSTP: Signal = Signal(raw::SIGTSTP);
    /// `SIGTTIN`: a read from the terminal in the background.
    pub const TTIN: Signal = Signal(raw::SIGTTIN);
    /// `SIGTTOU`: a write to the terminal in the background.
    pub const TTOU: Signal = Signal(raw::SIGTTOU);
    /// `SIGURG`: urgent data on a socket.
    pub const URG: Signal = Signal(raw::SIGURG);
    /// `SIGUSR1`: whatever the program says it means.
    pub const USR1: Signal = Signal(raw::SIGUSR1);
    /// `SIGUSR2`: whatever the program says it means.
    pub const USR2: Signal = Signal(raw::SIGUSR2);
    /// `SIGWINCH`: the terminal has another size.
    pub const WINCH: Signal = Signal(raw::SIGWINCH);

    /// Returns the signal of this number, whether the system has it or not.
    pub const fn from_raw(number: i32) -> Signal {
        Signal(number)
    }

    /// Returns its number on this system.
    pub const fn as_raw(self) -> i32 {
        self.0
    }
}

impl From<i32> for Signal {
    fn from(number: i32) -> Signal {
        Signal(number)
    }
}

impl From<Signal> for i32 {
    fn from(signal: Signal) -> i32 {
        signal.0
    }
}

/// `SIGTERM`, or `signal 40` if it has no name of its own.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match raw::name(self.0) {
            Some(name) => f.pad(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A stream of the signals of a set, as they come; see the [module](self).
///
/// It hears from when it is made, also while no loop runs, until it is dropped. It ends only if
/// other code closes its descriptor. A listener belongs to the thread that made it.
///
/// # Cancel safety
/// Nothing is lost by dropping a future that waits for the next signal. What has come and was not
/// taken is lost when the stream is dropped.
///
/// # Examples
/// ```
/// use fahrenheit::prelude::*;
/// use fahrenheit::signal::{Signal, Signals};
///
/// fahrenheit::run(async {
///     let mut signals = Signals::new([Signal::HUP, Signal::TERM])?;
///     # // The shell has `kill` built in; as a program of its own it is not on every system.
///     # let kill = format!("kill -HUP {}", std::process::id());
///     # std::process::Command::new("sh").args(["-c", &kill]).status()?;
///     match signals.next().await {
///         Some(Signal::HUP) => println!("reading the configuration again"),
///         _ => println!("ending"),
///     }
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
#[must_use = "signals are heard as long as this lives"]
pub struct Signals {
    listener: AsyncFd<raw::Listener>,
    /// Taken from the listener and not returned yet. The listener is asked again only when this is
    /// empty, so that a flood of one kind does not hold up another.
    batch: raw::Set,
}

impl Signals {
    /// Starts listening to the signals of `set`.
    ///
    /// # Errors
    /// - Of kind [`InvalidInput`](io::ErrorKind::InvalidInput) for signals that cannot be caught
    ///   (`SIGKILL`, `SIGSTOP`), that say that an instruction has failed (`SIGSEGV`, `SIGBUS`,
    ///   `SIGILL`, `SIGFPE`), and for numbers that are no signals. Nothing is changed then.
    /// - EMFILE if no descriptor is left for a pipe; or if its number is beyond what this system's
    ///   `select` takes.
    ///
    /// # Portability
    /// The numbers behind the names differ between systems, and so do the signals that exist.
    #[track_caller]
    pub fn new<S: Into<Signal>>(set: impl IntoIterator<Item = S>) -> io::Result<Signals> {
        let mut wanted = raw::Set::default();
        for signal in set {
            wanted.insert(signal.into().0)?;
        }
        let listener = AsyncFd::new(raw::Listener::new(wanted)?)?;
        #[cfg(feature = "dump")]
        {
            let mut label = "signals".to_owned();
            for signal in wanted {
                label.push_str(&format!(" {}", Signal(signal)));
            }
            label_fd(listener.as_raw_fd(), label);
        }
        Ok(Signals {
            listener,
            batch: raw::Set::default(),
        })
    }

    /// Returns the signals that have been raised since the last call, or waits for one.
    fn poll_batch(&self, cx: &mut Context<'_>) -> Poll<io::Result<raw::Set>> {
        if self.listener.get_ref().renew_after_fork()? {
            let taken = self.listener.get_ref().take();
            if taken.is_ok() {
                return Poll::Ready(taken);
            }
        }
        self.listener.poll_read_with(cx, raw::Listener::take)
    }
}

impl Stream for Signals {
    type Item = Signal;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Signal>> {
        if let Some(signal) = self.batch.pop() {
            return Poll::Ready(Some(Signal(signal)));
        }
        match ready!(self.poll_batch(cx)) {
            Ok(batch) => self.batch = batch,
            Err(error) => boundary::error!("a listener to signals ends: {error}"),
        }
        Poll::Ready(self.batch.pop().map(Signal))
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}

/// Waits for Ctrl-C (`SIGINT`), listening from the moment of the call.
///
/// When the future is ready or dropped, and there is no other listener, the next Ctrl-C ends the
/// program as usual. A program that wants to hear of several uses [`Signals`].
///
/// # Errors
/// EMFILE if no descriptor is left for a pipe; see [`Signals::new`].
///
/// # Cancel safety
/// Dropping the future before it is ready loses a Ctrl-C that has arrived and was not seen.
///
/// # Portability
/// A shell starts background jobs without job control, and `nohup` some others, with Ctrl-C
/// ignored; this hears it all the same.
///
/// # Examples
/// ```no_run
/// fahrenheit::run(async {
///     fahrenheit::signal::ctrl_c().await?;
///     println!("ending in good order");
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
#[track_caller]
pub fn ctrl_c() -> impl Future<Output = io::Result<()>> {
    let signals = Signals::new([Signal::INT]);
    async move {
        let mut signals = pin!(signals?);
        match poll_fn(|cx| signals.as_mut().poll_next(cx)).await {
            Some(_) => Ok(()),
            None => Err(io::Error::other("the listener to Ctrl-C has ended")),
        }
    }
}
