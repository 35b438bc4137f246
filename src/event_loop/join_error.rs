//! The ids of tasks, and why a task may end without a value.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Mutex;

/// Identifies a task of its thread. No two tasks of one thread have the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub(crate) u64);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a task ended without a value: it was aborted, it panicked, or it could not be started.
pub struct JoinError {
    id: Id,
    // `None` if the task was aborted. Boxed, because every task has room for an output or an error,
    // and should not grow for an error that it never has.
    why: Option<Box<Why>>,
}

enum Why {
    // The mutex makes the payload, which is only `Send`, shareable.
    Panicked(Mutex<Box<dyn Any + Send>>),
    NotStarted(io::Error),
}

impl JoinError {
    pub(crate) fn cancelled(id: Id) -> JoinError {
        JoinError { id, why: None }
    }

    pub(crate) fn panicked(id: Id, payload: Box<dyn Any + Send>) -> JoinError {
        JoinError {
            id,
            why: Some(Box::new(Why::Panicked(Mutex::new(payload)))),
        }
    }

    pub(crate) fn not_started(id: Id, error: io::Error) -> JoinError {
        JoinError {
            id,
            why: Some(Box::new(Why::NotStarted(error))),
        }
    }

    /// Returns the id of the task that ended.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Returns true if the task was aborted, or was dropped with its loop.
    ///
    /// # Examples
    /// ```
    /// fahrenheit::run(async {
    ///     let task = fahrenheit::spawn(std::future::pending::<()>());
    ///     task.abort();
    ///     let error = task.await.unwrap_err();
    ///     assert!(error.is_cancelled() && !error.is_panic());
    ///     assert!(error.try_into_panic().is_err());
    ///
    ///     let error = fahrenheit::spawn(async { panic!("broken") }).await.unwrap_err();
    ///     assert!(error.is_panic());
    ///     assert_eq!(error.into_panic().downcast_ref(), Some(&"broken"));
    /// });
    /// ```
    pub fn is_cancelled(&self) -> bool {
        self.why.is_none()
    }

    /// Returns true if the task panicked, or its destructor did.
    pub fn is_panic(&self) -> bool {
        matches!(self.why.as_deref(), Some(Why::Panicked(_)))
    }

    /// Returns true if the task never ran, because its loop or its thread could not be had.
    pub(crate) fn is_not_started(&self) -> bool {
        matches!(self.why.as_deref(), Some(Why::NotStarted(_)))
    }

    /// Returns the payload of the panic, for [`std::panic::resume_unwind`].
    ///
    /// # Panics
    /// If the task did not panic. Then [`try_into_panic`](JoinError::try_into_panic) is an error.
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        match self.try_into_panic() {
            Ok(payload) => payload,
            Err(error) => panic!("into_panic on a task that did not panic: {error}"),
        }
    }

    /// Returns the payload of the panic, or the error itself if it was not a panic.
    ///
    /// # Errors
    /// `self`, unchanged, if the task did not panic.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send>, JoinError> {
        match self.why.map(|why| *why) {
            // Poisoned only if a thread panicked while it formatted the message. The payload is
            // whole.
            Some(Why::Panicked(payload)) => Ok(payload
                .into_inner()
                .unwrap_or_else(std::sync::PoisonError::into_inner)),
            why => Err(JoinError {
                id: self.id,
                why: why.map(Box::new),
            }),
        }
    }

    /// Returns the message of the panic if it is a string, as `panic!` makes it.
    fn message(&self) -> Option<String> {
        let Some(Why::Panicked(payload)) = self.why.as_deref() else {
            return None;
        };
        let payload = payload
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // `panic!` gives a `&str` for a literal and a `String` for anything formatted.
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned());
        text.or_else(|| payload.downcast_ref::<String>().cloned())
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why.as_deref() {
            None => write!(f, "task {} was cancelled", self.id),
            // A task that never reached its loop has no id.
            Some(Why::NotStarted(error)) if self.id == Id(0) => {
                write!(f, "the task could not be started: {error}")
            }
            Some(Why::NotStarted(error)) => {
                write!(f, "task {} could not be started: {error}", self.id)
            }
            Some(Why::Panicked(_)) => match self.message() {
                Some(message) => write!(f, "task {} panicked: {message}", self.id),
                None => write!(f, "task {} panicked", self.id),
            },
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.why.as_deref() {
            Some(Why::NotStarted(error)) => Some(error),
            _ => None,
        }
    }
}

impl From<JoinError> for io::Error {
    /// The error has the kind of what prevented the task from starting, except that
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) and [`Interrupted`](io::ErrorKind::Interrupted)
    /// become [`Other`](io::ErrorKind::Other).
    fn from(error: JoinError) -> io::Error {
        match error.why.as_deref() {
            // EAGAIN of `pthread_create(3)` has the kind `WouldBlock`. The traits of futures-io
            // forbid both kinds, because callers take them for a request to wait or to try again.
            Some(Why::NotStarted(cause)) => match cause.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => io::Error::other(error),
                kind => io::Error::new(kind, error),
            },
            _ => io::Error::other(error),
        }
    }
}
