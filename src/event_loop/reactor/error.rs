//! Why a descriptor could not be registered.

use crate::sys::Errno;
use std::fmt;
use std::io;
use std::os::fd::RawFd;

/// Why a descriptor could not be registered. Comes inside an [`io::Error`]; see
/// [`AsyncFd::new`](crate::AsyncFd::new).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// The number names no open descriptor (`EBADF`).
    BadFd {
        /// The number that was to be registered.
        fd: RawFd,
    },
    /// Another `AsyncFd` or socket of this thread has this descriptor already (`EEXIST`). Many
    /// tasks may wait through one owner, but there are not two owners.
    AlreadyRegistered {
        /// The descriptor, which its first owner goes on using.
        fd: RawFd,
    },
    /// This system's `select` takes no descriptor with so high a number.
    OverSelectLimit {
        /// The number of the descriptor.
        fd: RawFd,
        /// The first number that is too high.
        limit: usize,
    },
    /// The thread is ending, and its loop has already been torn down.
    ThreadEnded,
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot register ")?;
        match self {
            RegisterError::BadFd { fd } => {
                let errno = Errno::EBADF as i32;
                write!(f, "descriptor {fd}: it is not open (EBADF, errno {errno})")
            }
            RegisterError::AlreadyRegistered { fd } => {
                let errno = Errno::EEXIST as i32;
                write!(
                    f,
                    "descriptor {fd}: it is registered already (EEXIST, errno {errno})"
                )
            }
            RegisterError::OverSelectLimit { fd, limit } => {
                write!(f, "descriptor {fd}: select on this system stops at {limit}")
            }
            RegisterError::ThreadEnded => f.write_str("a descriptor: this thread is ending"),
        }
    }
}

impl std::error::Error for RegisterError {}

impl From<RegisterError> for io::Error {
    fn from(error: RegisterError) -> io::Error {
        let kind = match error {
            RegisterError::AlreadyRegistered { .. } => io::ErrorKind::AlreadyExists,
            RegisterError::BadFd { .. } => io::ErrorKind::InvalidInput,
            RegisterError::OverSelectLimit { .. } | RegisterError::ThreadEnded => {
                io::ErrorKind::Unsupported
            }
        };
        io::Error::new(kind, error)
    }
}
