//! A portable, `select(2)`-based, single-threaded async executor for every Unix.
//!
//! ```
//! use fahrenheit::{prelude::*, AsyncTcpListener, AsyncTcpStream};
//! use futures_util::{future::try_join, io::copy};
//!
//! async fn serve_one(listener: &AsyncTcpListener) -> std::io::Result<u64> {
//!     let (stream, _peer) = listener.accept().await?;
//!     copy(&stream, &mut &stream).await
//! }
//!
//! async fn greet(listener: &AsyncTcpListener) -> std::io::Result<String> {
//!     let mut stream = AsyncTcpStream::connect(listener.local_addr()?).await?;
//!     stream.write_all(b"hello").await?;
//!     stream.close().await?;
//!     let mut reply = String::new();
//!     stream.read_to_string(&mut reply).await?;
//!     Ok(reply)
//! }
//!
//! # fn main() -> std::io::Result<()> {
//! let listener = AsyncTcpListener::bind("127.0.0.1:0")?;
//! let (n_bytes, reply) = fahrenheit::run(try_join(serve_one(&listener), greet(&listener)))?;
//! assert_eq!((n_bytes, reply.as_str()), (5, "hello"));
//! # Ok(())
//! # }
//! ```
//!
//! # What runs where
//! Everything runs on the thread that calls [`run`] or [`block_on`]. Futures need not be `Send`.
//! Each thread has its own event loop, which is created when it is first needed: tasks may be
//! [`spawn`]ed and sockets bound before `run`, and they stay usable in the next `run`. There is no
//! other thread, unless [`spawn_blocking`], a function of [`fs`] or the look-up of a host *name*
//! needs one. Wakers, [`task::AbortHandle`]s and [`Notifier`]s may be sent to other threads. Types
//! that wait are not `Send`; a [`Local`] carries them through code that demands `Send`.
//!
//! `run` ends when its future **and all tasks** have ended; `block_on` ends with its future. A
//! program that has a loop of its own drives this one with [`turn`] and [`interest`]. The futures
//! of this crate need this loop: polled by another executor, on a thread that calls none of these
//! functions, they never become ready, which is logged as a warning, once per thread.
//!
//! # One turn of the loop
//! 1. **Run** the tasks that were woken, batch after batch, up to about 200 polls.
//! 2. **Done?** Return if the main future has ended and, in `run`, all tasks have.
//! 3. **How long** may the loop sleep? Not at all if a task is queued, otherwise until the next
//!    deadline.
//! 4. **Wait** in `select`: the only place that blocks.
//! 5. **Collect** the wakers whose descriptors are ready or whose timers are due.
//! 6. **Wake** them.
//!
//! A task is polled at most once per batch. A task whose operations are always ready yields after
//! about 128 of them, so that no socket and no task can keep the others waiting.
//!
//! # The life of a read
//! Nothing is logged unless the program installs a [`log`] logger. At level `trace`, this is logged
//! while one task reads from a socket and another task writes to it a millisecond later:
//!
//! ```text
//! run: 0 tasks are waiting to start
//! poll the main future
//! register descriptor 7
//! the main future spawned task 2
//! the main future spawned task 3
//! poll task 2
//! descriptor 7: would block
//! interest: descriptor 7, to read, task 2
//! poll task 3
//! select: 1 to read, 0 to write, 0 exceptional, 0 tenured; 2 tasks, 1 timers; for at most 993µs
//! wake 1 waiters
//! poll task 3
//! task 3 has ended
//! poll the main future
//! select: 1 to read, 0 to write, 0 exceptional, 0 tenured; 1 tasks; no time limit
//! ready: descriptor 7, to read
//! wake 1 waiters
//! poll task 2
//! deregister descriptor 7
//! task 2 has ended
//! poll the main future
//! run: finished
//! ```
//!
//! # How it scales
//! `select` costs about 0.2 µs for each descriptor that is waited for, whether it is ready or not.
//! So a descriptor that lives long is added, once, to the kernel's own queue (epoll, kqueue), whose
//! descriptor is one more member of the set; waiting for it costs nothing from then on. See
//! [`Poller`], which can also keep everything in `select`.
//!
//! # Features
//! On by default, and left out by `default-features = false`, which makes a small program smaller:
//! - `fs`, `process` and `signal`: the modules [`fs`], [`process`] and [`signal`]. `process` needs
//!   `signal` and turns it on.
//! - `udp` and `unix`: the sockets for UDP and of the Unix domain.
//! - `dump`: [`dump()`], the report of a [loop that is stuck](Builder::panic_when_stuck), and the
//!   [times of tasks](Builder::track). They add 100 kB to a minimal TCP server.
//!
//! `diagnostics`: `diagnostics::serve`, by which `fahrenheit-top` shows the tasks of a running
//! program and what they wait for.
//!
//! `hyper`: the module `hyper`, with HTTP servers in one line, and what hyper needs for everything
//! else.
//!
//! `sim`: two connected streams in memory that behave as a network does, by virtual time and by a
//! seed, for tests. It needs no further crates.
//!
//! `tokio-io`: all streams have `AsyncRead` and `AsyncWrite` of tokio as well, for crates that take
//! any stream with these traits, such as h2 and tokio-postgres. Reads fill the buffer of the caller
//! without initialising it first. It adds the crate tokio to the program, without its runtime.
//!
//! # What is absent
//! No work stealing; no channels or locks (those of `futures` work); no traits of its own; no
//! global state beyond the thread, except for what a process has only once (signal handlers,
//! children whose handle was dropped); no `unsafe` outside the module `sys`; and no panic that a
//! peer could cause.
// docs.rs builds with a nightly compiler, which then shows the feature that an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod blocking;
pub mod diagnostics;
mod event;
mod event_loop;
mod fd;
#[cfg(feature = "fs")]
pub mod fs;
#[cfg(feature = "hyper")]
pub mod hyper;
pub mod io;
mod local;
pub mod net;
#[cfg(feature = "process")]
pub mod process;
mod runtime;
#[cfg(feature = "signal")]
pub mod signal;
#[cfg(feature = "sim")]
pub mod sim;
mod sys;
pub mod task;
pub mod time;

pub use blocking::spawn_blocking;
#[cfg(feature = "dump")]
#[doc(inline)]
pub use diagnostics::Dump;
#[doc(inline)]
pub use diagnostics::Metrics;
pub use event::{Event, Notifier};
pub use event_loop::drop_all_tasks;
pub use event_loop::metrics::metrics;
pub use event_loop::reactor::Poller;
#[cfg(feature = "dump")]
pub use event_loop::survey::dump;
pub use fd::{AsyncFd, RegisterError};
pub use local::Local;
#[cfg(feature = "udp")]
#[doc(inline)]
pub use net::AsyncUdpSocket;
#[doc(inline)]
pub use net::{AsyncTcpListener, AsyncTcpStream};
#[cfg(feature = "unix")]
#[doc(inline)]
pub use net::{AsyncUnixDatagram, AsyncUnixListener, AsyncUnixStream};
#[cfg(feature = "unix")]
#[doc(inline)]
pub use net::{AsyncUnixSeqpacket, AsyncUnixSeqpacketListener};
pub use runtime::{Builder, CreateError, Interest, InterestFd};
pub use runtime::{block_on, interest, interest_fd, run, turn};
#[doc(inline)]
pub use task::{spawn, yield_now};

/// Makes an `async fn main` the `main` of the program, which [`run`]s it: feature `macros`.
///
/// The function has no parameters and may return what any `main` may. The program ends when it and
/// all tasks have ended.
///
/// # Arguments
/// - `crate = "path"`: where the library is found. Needed only if the program depends on it under
///   another name, and does not say so in its own Cargo.toml by `package = "fahrenheit"`.
///
/// # Examples
/// ```
/// #[fahrenheit::main]
/// async fn main() -> std::io::Result<()> {
///     let listener = fahrenheit::AsyncTcpListener::bind("127.0.0.1:0")?;
///     println!("listening on {}", listener.local_addr()?);
///     Ok(())
/// }
/// ```
#[cfg(feature = "macros")]
pub use fahrenheit_macros::main;
#[cfg(feature = "macros")]
#[doc(hidden)]
pub use runtime::macros as __macros;

/// Makes a test of an `async fn`: feature `macros`.
///
/// The function has no parameters and may return what any test may. It is run by [`block_on`].
/// Tasks that have not ended with it are dropped, also if it panics. Other attributes, such as
/// `#[should_panic]` and `#[ignore]`, have their usual meaning.
///
/// A test that can never go on, because no waker of its tasks is left, fails and says which tasks
/// wait for what; see [`Builder::panic_when_stuck`].
///
/// # Arguments
/// - `crate = "path"`, as for [`main`].
/// - `virtual_clock`: the test has a [virtual clock](Builder::virtual_clock).
/// - `seeds = 500`: the test is run under that many [seeds](Builder::seed), one after the other on
///   one thread, until one fails. That one is printed, with a [`dump`] of the tasks that are left
///   and the command that repeats it: `FAHRENHEIT_SEED=17 cargo test NAME`. The function returns
///   nothing or a `Result`.
///
/// # Examples
/// ```
/// #[fahrenheit::test]
/// async fn a_task_returns_its_output() {
///     assert_eq!(fahrenheit::spawn(async { 42 }).await.unwrap(), 42);
/// }
///
/// #[fahrenheit::test(virtual_clock, seeds = 500)]
/// async fn an_answer_comes_within_an_hour() {
///     let hour = std::time::Duration::from_secs(3_600);
///     let answer = fahrenheit::spawn(fahrenheit::time::sleep(hour / 2));
///     fahrenheit::time::timeout(hour, answer).await.unwrap().unwrap();
/// }
/// ```
#[cfg(feature = "macros")]
pub use fahrenheit_macros::test;

/// The traits for reading, writing and combining: `use fahrenheit::prelude::*`.
///
/// All of them come from `futures-io` and `futures-util`.
///
/// For long inputs, use [`io::read_to_end`] and
/// [`io::read_to_string`] instead of the methods of [`AsyncReadExt`]:
/// the time that those take grows with the square of the length.
///
/// [`AsyncReadExt`]: prelude::AsyncReadExt
pub mod prelude {
    pub use futures_io::{AsyncBufRead, AsyncRead, AsyncSeek, AsyncWrite};
    pub use futures_util::future::{FutureExt, TryFutureExt};
    pub use futures_util::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
    pub use futures_util::stream::{Stream, StreamExt, TryStreamExt};
}
