//! Signals as a stream: [`Signals`] for any set of them, [`ctrl_c`] for the one that everybody
//! needs.
//!
//! Each listener has a pipe of its own, which the signal handler writes to and which this thread's
//! loop reads; nothing here needs the loop to know about signals.
//!
//! # What happens to the default action
//! For as long as anybody in the process listens to a signal, its default action does not happen:
//! Ctrl-C does not end the program. When the last listener is dropped, whatever was there before is
//! put back: the default action, or the handler of a C library, which was also called meanwhile.
//! That is also what a signal meets that is still on its way then.
//!
//! # Several listeners
//! All of them are told, on whichever threads they are. Signals of one kind that come faster than
//! they are taken become one; after the last of them there is always one more to take. Kinds do not
//! push each other out.
//!
//! # Child programs
//! A program that is started meanwhile begins with the default action for these signals, also for
//! one that was ignored before it was listened to: the system has it so.
//!
//! # After `fork`
//! A child's listeners are its own: it hears what the child is sent, and the parent does not.

use crate::event_loop::boundary;
use crate::fd::AsyncFd;
use crate::sys::signal as raw;
use futures_util::stream::Stream;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
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
    /// `SIGCHLD`: a child has ended or stopped; [`process`](crate::process) listens to it itself.
    pub const CHLD: Signal = Signal(raw::SIGCHLD);
    /// `SIGCONT`: go on after a stop.
    pub const CONT: Signal = Signal(raw::SIGCONT);
    /// `SIGHUP`: the terminal is gone; daemons read their configuration again.
    pub const HUP: Signal = Signal(raw::SIGHUP);
    /// `SIGINT`: Ctrl-C.
    pub const INT: Signal = Signal(raw::SIGINT);
    /// `SIGIO`: a descriptor that was set up for it is ready.
    pub const IO: Signal = Signal(raw::SIGIO);
    /// `SIGKILL`: ends a process at once. It can be sent, not listened to.
    pub const KILL: Signal = Signal(raw::SIGKILL);
    /// `SIGPIPE`: a write to a pipe that nobody reads.
    pub const PIPE: Signal = Signal(raw::SIGPIPE);
    /// `SIGQUIT`: Ctrl-\.
    pub const QUIT: Signal = Signal(raw::SIGQUIT);
    /// `SIGSTOP`: stops a process. It can be sent, not listened to.
    pub const STOP: Signal = Signal(raw::SIGSTOP);
    /// `SIGTERM`: please end.
    pub const TERM: Signal = Signal(raw::SIGTERM);
    /// `SIGTSTP`: Ctrl-Z.
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

    /// The signal of this number, whether the system has it or not.
    pub const fn from_raw(number: i32) -> Signal {
        Signal(number)
    }

    /// Its number on this system.
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
/// It hears from when it is made, also while no loop runs, until it is dropped. It never ends,
/// unless somebody closes its descriptor behind the loop. A listener belongs to the thread that
/// made it.
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
    /// Taken from the listener and not yet given out. All of these come before one is looked for
    /// again, so that a flood of one kind does not hold up another.
    batch: raw::Set,
}

impl Signals {
    /// Listens to the signals of `set` from now on.
    ///
    /// # Errors
    /// - Of kind [`InvalidInput`](io::ErrorKind::InvalidInput) for signals that cannot be caught
    ///   (`SIGKILL`, `SIGSTOP`), that say that an instruction has failed (`SIGSEGV`, `SIGBUS`,
    ///   `SIGILL`, `SIGFPE`), and for numbers that are no signals. Nothing is changed then.
    /// - If no descriptor is left for a pipe, or its number is beyond what this system's `select`
    ///   takes.
    /// - Of kind [`ResourceBusy`](io::ErrorKind::ResourceBusy) if the program has put a handler of
    ///   its own over ours since there was a listener, and left it there.
    ///
    /// # Portability
    /// The numbers behind the names differ between systems, and so do the signals that exist.
    #[track_caller]
    pub fn new<S: Into<Signal>>(set: impl IntoIterator<Item = S>) -> io::Result<Signals> {
        let mut wanted = raw::Set::default();
        for signal in set {
            wanted.insert(signal.into().0)?;
        }
        Ok(Signals {
            listener: AsyncFd::new(raw::Listener::new(wanted)?)?,
            batch: raw::Set::default(),
        })
    }

    /// The next batch of signals that have been raised; empty if there is none.
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
            Err(error) => boundary::error!("signals are no longer heard: {error}"),
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
/// When the future is ready or dropped, and nobody else listens, the next Ctrl-C ends the program
/// as usual. A program that wants to hear of several uses [`Signals`].
///
/// # Errors
/// If it cannot be listened to; see [`Signals::new`].
///
/// # Cancel safety
/// Dropping the future before it is ready may lose a Ctrl-C that has just come.
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
            None => Err(io::Error::other("Ctrl-C is no longer heard")),
        }
    }
}
