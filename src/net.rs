//! TCP, UDP and Unix sockets, and the look-up of host names.

mod accept;
mod addr;
mod common;
mod incoming;
mod split;
mod stream;
mod tcp;
mod udp;
mod unix;

pub use addr::{ToSocketAddrs, lookup_host};
pub use incoming::Incoming;
pub use split::{OwnedReadHalf, OwnedWriteHalf, ReuniteError};
pub use tcp::{AsyncTcpListener, AsyncTcpStream};
pub use udp::AsyncUdpSocket;
pub use unix::{AsyncUnixDatagram, AsyncUnixListener, AsyncUnixStream, ReceivedFds, UCred};
