//! Simulated connections, for tests: feature `sim`.
//!
//! [`link`] makes two connected streams in memory, which behave as a network does: data takes its
//! time, a slow reader slows down the writer, connections break. Time is that of
//! [`time::now`](crate::time::now), chance that of [`Builder::seed`](crate::Builder::seed). So with
//! a [virtual clock](crate::Builder::virtual_clock) a test that sleeps for hours takes a moment,
//! and with a seed it can be repeated exactly.
//!
//! A client and a server that are written for any stream (`impl AsyncRead + AsyncWrite`) run over
//! such a link as they do over TCP. [`Net`] names hosts, which listen and connect, and separates
//! them from each other for a while.
//!
//! A task that waits on a simulated network can be woken by other tasks of its thread only. So if
//! all of them wait, and no timer is armed, that is certainly a deadlock, and a test that was asked
//! for with `#[fahrenheit::test]` or [`panic_when_stuck`](crate::Builder::panic_when_stuck) fails
//! and says who waits for what.

mod listener;
mod net;
mod options;
mod stream;
mod waiter;
mod way;

pub use listener::Listener;
pub use net::{Host, Net};
pub use options::Options;
pub use stream::SimStream;

/// Makes two connected streams. In dumps, their ends are called `first` and `second`.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use fahrenheit::{prelude::*, sim, time};
///
/// let latency = Duration::from_secs(1);
/// fahrenheit::Builder::new().virtual_clock(true).run(async move {
///     let (mut client, mut server) = sim::link(sim::Options::new().latency(latency));
///     let start = time::now();
///     client.write_all(b"hello").await?;
///     client.close().await?;
///     let mut text = String::new();
///     server.read_to_string(&mut text).await?;
///     assert_eq!((text.as_str(), time::now() - start), ("hello", latency));
///     std::io::Result::Ok(())
/// })
/// # .unwrap().unwrap();
/// ```
pub fn link(options: Options) -> (SimStream, SimStream) {
    stream::connect(&options, &"first".into(), &"second".into())
}
