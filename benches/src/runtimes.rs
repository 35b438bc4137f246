//! What a runtime has to offer to take part, and the list of those that do.
//!
//! The work is written once, over these traits, so every runtime does the same. Buffers are
//! owned and handed back, because completion-based runtimes need that; to the others it costs
//! a move of three words.

mod calloop;
mod compio;
mod fahrenheit;
mod glommio;
mod local_pool;
mod monoio;
mod smol;
mod tokio;

use std::io;
use std::net::TcpListener;
use std::time::Duration;

pub(crate) use self::calloop::Calloop;
pub(crate) use self::compio::{CompioPoll, CompioUring};
pub(crate) use self::fahrenheit::Fahrenheit;
pub(crate) use self::glommio::Glommio;
pub(crate) use self::local_pool::Pool;
pub(crate) use self::monoio::{MonoioLegacy, MonoioUring};
pub(crate) use self::smol::Smol;
pub(crate) use self::tokio::Tokio;

/// Runs tasks on the thread it is called from.
pub(crate) trait Executor: 'static {
    /// Runs `main`, and whatever it spawns, until `main` has ended.
    fn block_on<T: 'static>(main: impl Future<Output = T> + 'static) -> T;

    /// Starts a task; the future returned ends with it.
    fn spawn<T: 'static>(
        future: impl Future<Output = T> + 'static,
    ) -> impl Future<Output = T> + 'static;

    /// Starts a task that no other task waits for.
    fn detach(future: impl Future<Output = ()> + 'static);

    /// Lets the other tasks run.
    fn yield_now() -> impl Future<Output = ()>;
}

/// Knows the time.
pub(crate) trait Timed: Executor {
    fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static;

    /// `None` if the time is over first.
    fn timeout<T>(
        limit: Duration,
        future: impl Future<Output = T> + 'static,
    ) -> impl Future<Output = Option<T>>;
}

/// Runs what blocks on threads.
pub(crate) trait Blocking: Executor {
    fn unblock<T: Send + 'static>(
        job: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static;
}

/// Reads and writes TCP.
pub(crate) trait Net: Executor {
    type Listener: 'static;
    type Stream: 'static;

    /// Takes a listener that is bound, listening and non-blocking.
    ///
    /// It is made by `std` for all, so that none has a longer backlog than another.
    fn listener(listener: TcpListener) -> io::Result<Self::Listener>;

    fn accept(listener: &Self::Listener) -> impl Future<Output = io::Result<Self::Stream>>;

    /// Reads once into `buffer`, up to its length or capacity.
    fn read(
        stream: &mut Self::Stream,
        buffer: Vec<u8>,
    ) -> impl Future<Output = (io::Result<usize>, Vec<u8>)>;

    /// Writes the first `n` bytes of `buffer`, all of them.
    fn write(
        stream: &mut Self::Stream,
        buffer: Vec<u8>,
        n: usize,
    ) -> impl Future<Output = (io::Result<()>, Vec<u8>)>;
}
