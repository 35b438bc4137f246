//! TCP, and the names and addresses that it is called by.

mod addr;
mod tcp;

pub use addr::{ToSocketAddrs, lookup_host};
pub use tcp::{
    AsyncTcpListener, AsyncTcpStream, Incoming, OwnedReadHalf, OwnedWriteHalf, ReuniteError,
};
