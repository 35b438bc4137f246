//! The two halves of a connection, which may go to different tasks.

use super::AsyncTcpStream;
#[cfg(feature = "unix")]
use super::AsyncUnixStream;
use super::stream::Duplex;
use crate::fd::{impl_async_io, impl_read_uninit};
use std::fmt;
use std::rc::Rc;

/// The reading half of a connection. Dropping both halves closes the connection.
#[derive(Debug)]
pub struct OwnedReadHalf<S: Duplex = AsyncTcpStream>(Rc<S>);

/// The writing half of a connection. Dropping it shuts down writing, so that the peer reads the
/// end.
#[derive(Debug)]
pub struct OwnedWriteHalf<S: Duplex = AsyncTcpStream> {
    stream: Rc<S>,
    /// True if dropping this half shuts down writing.
    shuts_down: bool,
}

/// The error of [`OwnedReadHalf::reunite`]: the halves, which belong to different connections.
#[derive(Debug)]
pub struct ReuniteError<S: Duplex = AsyncTcpStream>(pub OwnedReadHalf<S>, pub OwnedWriteHalf<S>);

impl<S: Duplex> fmt::Display for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves belong to different connections")
    }
}

impl<S: Duplex + fmt::Debug> std::error::Error for ReuniteError<S> {}

impl<S: Duplex> OwnedReadHalf<S> {
    /// Puts the two halves of a connection together again.
    ///
    /// # Errors
    /// Returns both halves if they belong to different connections.
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
    /// Puts the two halves of a connection together again.
    ///
    /// # Errors
    /// Returns both halves if they belong to different connections.
    pub fn reunite(self, read: OwnedReadHalf<S>) -> Result<S, ReuniteError<S>> {
        read.reunite(self)
    }

    /// Drops this half without shutting down writing.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::{AsyncUnixStream, prelude::*};
    ///
    /// fahrenheit::run(async {
    ///     let (a, mut b) = AsyncUnixStream::pair()?;
    ///     let (read, mut write) = a.into_split();
    ///     write.write_all(b"hello").await?;
    ///     write.forget();
    ///     // The connection stays open in both directions for as long as the other half is there.
    ///     let mut bytes = [0; 5];
    ///     b.read_exact(&mut bytes).await?;
    ///     drop(read);
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn forget(mut self) {
        self.shuts_down = false;
    }
}

impl<S: Duplex> Drop for OwnedWriteHalf<S> {
    fn drop(&mut self) {
        if self.shuts_down {
            // An error here means that the connection is gone, and then there is nothing to do.
            let _ = self.stream.close_write();
        }
    }
}

/// The connection that this half belongs to, for its addresses, its options and `peek`.
impl<S: Duplex> AsRef<S> for OwnedReadHalf<S> {
    fn as_ref(&self) -> &S {
        &self.0
    }
}

/// The connection that this half belongs to, for its addresses and its options.
impl<S: Duplex> AsRef<S> for OwnedWriteHalf<S> {
    fn as_ref(&self) -> &S {
        &self.stream
    }
}

impl_async_io!(
    AsyncRead for [OwnedReadHalf<S> where S: Duplex],
    half => half.0.registered()
);
impl_read_uninit!(
    [OwnedReadHalf<S> where S: Duplex],
    "net::OwnedReadHalf", half => half.0.registered()
);
impl_async_io!(
    AsyncWrite for [OwnedWriteHalf<S> where S: Duplex],
    half => half.stream.registered(), close => half.stream.close_write()
);

macro_rules! impl_into_split {
    ($stream:ident) => {
        impl $stream {
            /// Splits the connection into halves that may go to different tasks.
            ///
            /// # Examples
            /// ```
            /// # #[cfg(feature = "unix")] {
            /// let (stream, _peer) = fahrenheit::AsyncUnixStream::pair()?;
            /// let (read, write) = stream.into_split();
            /// let stream = read.reunite(write).expect("both halves belong to one connection");
            /// # drop(stream);
            /// # }
            /// # std::io::Result::Ok(())
            /// ```
            pub fn into_split(self) -> (OwnedReadHalf<Self>, OwnedWriteHalf<Self>) {
                let stream = Rc::new(self);
                let write = OwnedWriteHalf {
                    stream: Rc::clone(&stream),
                    shuts_down: true,
                };
                (OwnedReadHalf(stream), write)
            }
        }
    };
}

impl_into_split!(AsyncTcpStream);
#[cfg(feature = "unix")]
impl_into_split!(AsyncUnixStream);
