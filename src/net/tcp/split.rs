//! The two halves of a connection, for two tasks.

use super::AsyncTcpStream;
use futures_io::{AsyncRead, AsyncWrite};
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

impl AsyncTcpStream {
    /// Splits the connection into halves that may go to different tasks.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        let stream = Rc::new(self);
        (
            OwnedReadHalf(Rc::clone(&stream)),
            OwnedWriteHalf { stream, open: true },
        )
    }
}

/// The reading half of a connection. The connection is closed when both halves are dropped.
#[derive(Debug)]
pub struct OwnedReadHalf(Rc<AsyncTcpStream>);

/// The writing half of a connection. Dropping it shuts down writing, so that the peer reads the
/// end.
#[derive(Debug)]
pub struct OwnedWriteHalf {
    stream: Rc<AsyncTcpStream>,
    /// Whether dropping it shuts down writing.
    open: bool,
}

/// Two halves that are not of one connection; both are given back.
#[derive(Debug)]
pub struct ReuniteError(pub OwnedReadHalf, pub OwnedWriteHalf);

impl fmt::Display for ReuniteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves are not of the same connection")
    }
}

impl std::error::Error for ReuniteError {}

impl OwnedReadHalf {
    /// Puts the halves together again.
    ///
    /// # Errors
    /// The halves, if they are not of one connection.
    #[allow(
        clippy::missing_panics_doc,
        reason = "a connection has exactly two halves"
    )]
    pub fn reunite(self, write: OwnedWriteHalf) -> Result<AsyncTcpStream, ReuniteError> {
        if !Rc::ptr_eq(&self.0, &write.stream) {
            return Err(ReuniteError(self, write));
        }
        write.forget();
        Ok(Rc::try_unwrap(self.0).expect("a connection has two halves"))
    }

    fn stream(&self) -> &AsyncTcpStream {
        &self.0
    }
}

impl OwnedWriteHalf {
    /// As [`OwnedReadHalf::reunite`].
    ///
    /// # Errors
    /// The halves, if they are not of one connection.
    pub fn reunite(self, read: OwnedReadHalf) -> Result<AsyncTcpStream, ReuniteError> {
        read.reunite(self)
    }

    /// Drops this half without shutting down writing.
    pub fn forget(mut self) {
        self.open = false;
    }

    fn stream(&self) -> &AsyncTcpStream {
        &self.stream
    }
}

impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        if self.open {
            // The peer may have gone, which is its right.
            let _ = self.stream.close_write();
        }
    }
}

/// The connection that this is a half of: its addresses, options and `peek`.
impl AsRef<AsyncTcpStream> for OwnedReadHalf {
    fn as_ref(&self) -> &AsyncTcpStream {
        &self.0
    }
}

/// The connection that this is a half of: its addresses and options.
impl AsRef<AsyncTcpStream> for OwnedWriteHalf {
    fn as_ref(&self) -> &AsyncTcpStream {
        &self.stream
    }
}

super::reads!(OwnedReadHalf);
super::writes!(OwnedWriteHalf);
