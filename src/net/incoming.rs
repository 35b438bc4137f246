//! The connections that a listener accepts, as a stream.

use super::{AsyncTcpListener, AsyncTcpStream};
#[cfg(feature = "unix")]
use super::{AsyncUnixListener, AsyncUnixStream};
#[cfg(feature = "unix")]
use super::{AsyncUnixSeqpacket, AsyncUnixSeqpacketListener};
use futures_util::stream::{FusedStream, Stream};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A listener whose connections come as a stream.
///
/// In a private module, so that only this crate implements it.
pub trait Listen {
    /// What the listener accepts.
    type Connection;

    /// Polls for the next connection and leaves out its address.
    fn poll_next_connection(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Connection>>;
}

/// The stream that the `incoming` methods of listeners return.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Incoming<'a, L = AsyncTcpListener> {
    listener: &'a L,
}

impl<L: Listen> Stream for Incoming<'_, L> {
    type Item = io::Result<L::Connection>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.listener.poll_next_connection(cx).map(Some)
    }
}

impl<L: Listen> FusedStream for Incoming<'_, L> {
    fn is_terminated(&self) -> bool {
        false
    }
}

macro_rules! impl_incoming {
    ($listener:ident, $connection:ident) => {
        impl $listener {
            /// Returns the connections to come as a stream that never ends.
            ///
            /// Its items are what `accept` returns, errors included: a server should continue
            /// after an error.
            pub fn incoming(&self) -> Incoming<'_, $listener> {
                Incoming { listener: self }
            }
        }

        impl Listen for $listener {
            type Connection = $connection;

            fn poll_next_connection(&self, cx: &mut Context<'_>) -> Poll<io::Result<$connection>> {
                self.poll_accept(cx).map_ok(|(stream, _)| stream)
            }
        }
    };
}

impl_incoming!(AsyncTcpListener, AsyncTcpStream);
#[cfg(feature = "unix")]
impl_incoming!(AsyncUnixListener, AsyncUnixStream);
#[cfg(feature = "unix")]
impl_incoming!(AsyncUnixSeqpacketListener, AsyncUnixSeqpacket);
