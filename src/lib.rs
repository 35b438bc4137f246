//! A portable, `select(2)`-based, single-threaded async executor for every Unix.
mod blocking;
mod fd;
pub mod net;
mod reactor;
mod runtime;
mod sys;
pub mod task;
pub mod time;
mod timer;

pub use blocking::spawn_blocking;
pub use fd::{AsyncFd, RegisterError};
pub use net::{AsyncTcpListener, AsyncTcpStream};
pub use reactor::Poller;
pub use runtime::{Builder, CreateError, Interest, block_on, interest, run, turn};
pub use task::{spawn, yield_now};
/// The traits.
pub mod prelude {
    pub use futures_io::{AsyncBufRead, AsyncRead, AsyncSeek, AsyncWrite};
    pub use futures_util::future::{FutureExt, TryFutureExt};
    pub use futures_util::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
    pub use futures_util::stream::{Stream, StreamExt, TryStreamExt};
}
