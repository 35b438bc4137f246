//! TCP, UDP and Unix sockets, and the look-up of host names.
//!
//! Each type also has its name without `Async`: [`TcpStream`] is [`AsyncTcpStream`]. So a program
//! that uses the names of tokio or smol only has to name this crate instead.

mod accept;
mod addr;
mod common;
mod incoming;
mod split;
mod stream;
mod tcp;
#[cfg(feature = "udp")]
mod udp;
#[cfg(feature = "unix")]
mod unix;

pub use addr::{ToSocketAddrs, lookup_host};
pub use incoming::Incoming;
#[cfg(feature = "hyper")]
pub(crate) use incoming::Listen;
pub use split::{OwnedReadHalf, OwnedWriteHalf, ReuniteError};
#[cfg(feature = "hyper")]
pub(crate) use stream::Duplex;
pub use tcp::{AsyncTcpListener, AsyncTcpStream, TcpSocket};
#[cfg(feature = "udp")]
pub use udp::AsyncUdpSocket;
#[cfg(feature = "unix")]
pub use unix::{AsyncUnixDatagram, AsyncUnixListener, AsyncUnixStream, ReceivedFds, UCred};
#[cfg(feature = "unix")]
pub use unix::{AsyncUnixSeqpacket, AsyncUnixSeqpacketListener, Record};

#[doc(no_inline)]
pub use tcp::{AsyncTcpListener as TcpListener, AsyncTcpStream as TcpStream};
#[cfg(feature = "udp")]
#[doc(no_inline)]
pub use udp::AsyncUdpSocket as UdpSocket;
#[cfg(feature = "unix")]
#[doc(no_inline)]
pub use unix::AsyncUnixStream as UnixStream;
#[cfg(feature = "unix")]
#[doc(no_inline)]
pub use unix::{AsyncUnixDatagram as UnixDatagram, AsyncUnixListener as UnixListener};
#[cfg(feature = "unix")]
#[doc(no_inline)]
pub use unix::{
    AsyncUnixSeqpacket as UnixSeqpacket, AsyncUnixSeqpacketListener as UnixSeqpacketListener,
};
