//! What the connections have in common: reading, writing, and closing one direction.

use crate::fd::{NonblockingIo, Registered};
use crate::sys::socket;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::TcpStream;
use std::os::fd::AsFd;
#[cfg(any(test, feature = "unix"))]
use std::os::unix::net::UnixStream;

/// A connection: a socket that bytes are read from and written to.
///
/// In a private module, so that only this crate implements it.
pub trait Duplex: AsFd {
    /// The socket of std inside.
    #[doc(hidden)]
    #[allow(private_bounds, reason = "the trait is sealed")]
    type Socket: NonblockingIo;

    #[doc(hidden)]
    #[allow(private_interfaces, reason = "the trait is sealed")]
    fn registered(&self) -> &Registered<Self::Socket>;

    /// Reads into memory that need not be initialised.
    #[doc(hidden)]
    #[cfg(feature = "hyper")]
    #[allow(private_interfaces, reason = "the trait is sealed")]
    fn poll_read_into(
        &self,
        cx: &mut std::task::Context<'_>,
        buffer: &mut crate::sys::uninit::Uninit<'_>,
    ) -> std::task::Poll<io::Result<usize>> {
        self.registered().poll_read_uninit(cx, buffer)
    }

    /// Shuts down writing. It is no error if that was done before, or if the peer is gone.
    #[doc(hidden)]
    fn close_write(&self) -> io::Result<()> {
        match socket::shutdown_write(self) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            outcome => outcome,
        }
    }
}

macro_rules! impl_nonblocking_io {
    ($socket:ty, short_means_blocked: $short:literal) => {
        impl NonblockingIo for $socket {
            const SHORT_MEANS_BLOCKED: bool = $short;

            fn is_write_delayed(error: &io::Error) -> bool {
                socket::is_out_of_buffers(error)
            }

            fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
                socket::receive(self, bytes)
            }

            fn read_vectored(&self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                socket::receive_vectored(self, slices)
            }

            fn write(&self, bytes: &[u8]) -> io::Result<usize> {
                socket::send(self, bytes)
            }

            fn write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                socket::send_vectored(self, slices)
            }
        }
    };
}

impl_nonblocking_io!(TcpStream, short_means_blocked: true);
#[cfg(any(test, feature = "unix"))]
impl_nonblocking_io!(UnixStream, short_means_blocked: false);
