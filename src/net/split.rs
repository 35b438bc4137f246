//! The two halves of a connection, for two tasks.

use super::AsyncTcpStream;
use super::stream::Duplex;
use crate::fd::impl_async_io;
use std::fmt;
use std::rc::Rc;

/// The halves of `stream`.
pub(super) fn split<S: Duplex>(stream: S) -> (OwnedReadHalf<S>, OwnedWriteHalf<S>) {
    let stream = Rc::new(stream);
    (
        OwnedReadHalf(Rc::clone(&stream)),
        OwnedWriteHalf { stream, open: true },
    )
}

/// The reading half of a connection. The connection is closed when both halves are dropped.
#[derive(Debug)]
pub struct OwnedReadHalf<S: Duplex = AsyncTcpStream>(Rc<S>);

/// The writing half of a connection. Dropping it shuts down writing, so that the peer reads the
/// end.
#[derive(Debug)]
pub struct OwnedWriteHalf<S: Duplex = AsyncTcpStream> {
    stream: Rc<S>,
    /// Whether dropping it shuts down writing.
    open: bool,
}

/// Two halves that are not of one connection; both are given back.
#[derive(Debug)]
pub struct ReuniteError<S: Duplex = AsyncTcpStream>(pub OwnedReadHalf<S>, pub OwnedWriteHalf<S>);

impl<S: Duplex> fmt::Display for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves are not of the same connection")
    }
}

impl<S: Duplex + fmt::Debug> std::error::Error for ReuniteError<S> {}

impl<S: Duplex> OwnedReadHalf<S> {
    /// Puts the halves together again.
    ///
    /// # Errors
    /// The halves, if they are not of one connection.
    #[allow(
        clippy::missing_panics_doc,
        reason = "a connection has exactly two halves"
    )]
    pub fn reunite(self, write: OwnedWriteHalf<S>) -> Result<S, ReuniteError<S>> {
        if !Rc::ptr_eq(&self.0, &write.stream) {
            return Err(ReuniteError(self, write));
        }
        write.forget();
        let stream = Rc::into_inner(self.0);
        Ok(stream.expect("a connection has two halves"))
    }
}

impl<S: Duplex> OwnedWriteHalf<S> {
    /// As [`OwnedReadHalf::reunite`].
    ///
    /// # Errors
    /// The halves, if they are not of one connection.
    pub fn reunite(self, read: OwnedReadHalf<S>) -> Result<S, ReuniteError<S>> {
        read.reunite(self)
    }

    /// Drops this half without shutting down writing.
    pub fn forget(mut self) {
        self.open = false;
    }
}

impl<S: Duplex> Drop for OwnedWriteHalf<S> {
    fn drop(&mut self) {
        if self.open {
            // The peer may have gone, which is its right.
            let _ = self.stream.close_write();
        }
    }
}

/// The connection that this is a half of: its addresses, options and `peek`.
impl<S: Duplex> AsRef<S> for OwnedReadHalf<S> {
    fn as_ref(&self) -> &S {
        &self.0
    }
}

/// The connection that this is a half of: its addresses and options.
impl<S: Duplex> AsRef<S> for OwnedWriteHalf<S> {
    fn as_ref(&self) -> &S {
        &self.stream
    }
}

impl_async_io!(
    AsyncRead for [OwnedReadHalf<S> where S: Duplex],
    half => half.0.registered()
);
impl_async_io!(
    AsyncWrite for [OwnedWriteHalf<S> where S: Duplex],
    half => half.stream.registered(), close => half.stream.close_write()
);
