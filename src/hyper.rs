//! What hyper needs from an executor: [`Io`], [`Executor`] and [`Timer`], and a server in one line.
//!
//! Needs feature `hyper`. hyper is HTTP only; it reads and writes, starts tasks and waits by what
//! it is given. Nothing here is `Send`, except the timer, for which hyper demands it; services and
//! bodies need not be either.
//!
//! # A server
//! [`serve`] answers every connection of a listener, by HTTP/1 or HTTP/2, as the client begins.
//! [`serve_until`] stops in order once a future is ready, and [`serve_connection`] answers one
//! connection, for example one that is encrypted.
//!
//! ```no_run
//! use fahrenheit::AsyncTcpListener;
//! use hyper::{Request, Response, body::Incoming, service::service_fn};
//! use std::convert::Infallible;
//!
//! async fn hello(_: Request<Incoming>) -> Result<Response<String>, Infallible> {
//!     Ok(Response::new("Hello, world!\n".to_owned()))
//! }
//!
//! fn main() -> std::io::Result<()> {
//!     let listener = AsyncTcpListener::bind("127.0.0.1:3000")?;
//!     fahrenheit::run(fahrenheit::hyper::serve(listener, service_fn(hello)))
//! }
//! ```
//!
//! A service of tower, such as a `Router` of axum, is passed as
//! `hyper_util::service::TowerToHyperService::new(router)`.
//!
//! # hyper's own builders
//! For clients, for limits and for other settings, use the builders of hyper with the three types.
//!
//! ```no_run
//! use fahrenheit::AsyncTcpListener;
//! use fahrenheit::hyper::{Executor, Io, Timer};
//! use hyper::{Response, server::conn::http2, service::service_fn};
//! use std::{convert::Infallible, io};
//!
//! fahrenheit::run(async {
//!     let listener = AsyncTcpListener::bind("127.0.0.1:3000")?;
//!     let hello = |_| async { Ok::<_, Infallible>(Response::new("Hello!".to_owned())) };
//!     let (stream, _peer) = listener.accept().await?;
//!     let mut builder = http2::Builder::new(Executor::new());
//!     builder.timer(Timer::new()).max_concurrent_streams(100);
//!     let connection = builder.serve_connection(Io::new(stream), service_fn(hello));
//!     connection.await.map_err(io::Error::other)
//! })
//! # .unwrap();
//! ```
//!
//! # Upgrades
//! `hyper::upgrade::on` demands a connection that is `Send`. [`serve`] and [`serve_connection`]
//! take care of that. With the builders, pass `Local::new(Io::new(stream))`.

mod io;
mod serve;
mod timer;

use crate::task;
use std::future::Future;

pub use io::Io;
pub use serve::{serve, serve_connection, serve_connection_until, serve_until};
pub use timer::Timer;

/// Starts the tasks of hyper on this thread. They need not be `Send`.
///
/// hyper starts one for each request of an HTTP/2 connection. They are tasks like others:
/// [`run`](crate::run) waits for them, and an executor that is used on another thread starts them
/// there.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Executor;

impl Executor {
    /// Returns an executor that spawns on the loop of the thread that uses it.
    pub const fn new() -> Executor {
        Executor
    }
}

impl<F> ::hyper::rt::Executor<F> for Executor
where
    F: Future + 'static,
{
    #[track_caller]
    fn execute(&self, future: F) {
        let ignoring = async move {
            future.await;
        };
        task::spawn(ignoring).detach();
    }
}
