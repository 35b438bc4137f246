//! TCP and UDP, and the names and addresses that they are called by.

mod addr;
mod common;
mod tcp;
mod udp;

pub use addr::{ToSocketAddrs, lookup_host};
pub use tcp::{
    AsyncTcpListener, AsyncTcpStream, Incoming, OwnedReadHalf, OwnedWriteHalf, ReuniteError,
};
pub use udp::AsyncUdpSocket;
