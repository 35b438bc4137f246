//! TCP, UDP and Unix sockets, and the names and addresses that they are called by.

mod accept;
mod addr;
mod common;
mod split;
mod stream;
mod tcp;
mod udp;
mod unix;

pub use accept::Incoming;
pub use addr::{ToSocketAddrs, lookup_host};
pub use split::{OwnedReadHalf, OwnedWriteHalf, ReuniteError};
pub use tcp::{AsyncTcpListener, AsyncTcpStream};
pub use udp::AsyncUdpSocket;
pub use unix::{AsyncUnixDatagram, AsyncUnixListener, AsyncUnixStream, ReceivedFds, UCred};
