//! Serving HTTP: one connection, or all connections of a listener.

use super::{Executor, Io, Timer};
use crate::event_loop::boundary;
use crate::fd::RegisterError;
use crate::local::Local;
use crate::net::Listen;
use crate::sys::socket::AcceptError;
use crate::task::{JoinError, JoinSet};
use crate::time::timeout;
use ::hyper::body::{Body, Incoming};
use ::hyper::server::conn::{http1, http2};
use ::hyper::service::Service;
use ::hyper::{Request, Response};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::io::AsyncReadExt;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::error::Error;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, RawWakerVTable, Waker};
use std::time::Duration;

/// What a client of HTTP/2 begins with. No request of HTTP/1 begins like that (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Number of bytes that the first read of a connection may take. Most requests fit, so that telling
/// the version costs no system call.
const FIRST_READ: usize = 1024;

/// How long a client may take to begin. hyper has this limit for the head of each request.
const TIME_TO_BEGIN: Duration = Duration::from_secs(30);

/// Serves every connection that `listener` accepts, by HTTP/1 or HTTP/2, until that fails.
///
/// Each connection is a task. Errors of connections are logged at level `debug`, and a panic of the
/// service, which ends its connection only, at level `error`. A client that has not sent the head
/// of a request after 30 seconds is disconnected.
///
/// # Errors
/// The error of `accept(2)` after which the listener can accept no more connections, such as EBADF
/// or EINVAL. Running out of descriptors or memory (EMFILE, ENFILE, ENOBUFS, ENOMEM) is logged, and
/// waited for.
///
/// # Cancel safety
/// Dropping the future closes the listener and all connections at once, requests or not. See
/// [`serve_until`] for an end in order.
pub async fn serve<L, V, B>(listener: L, service: V) -> io::Result<()>
where
    L: Listen,
    L::Connection: AsyncRead + AsyncWrite + Unpin + 'static,
    V: Service<Request<Incoming>, Response = Response<B>> + 'static,
    V::Error: Into<Box<dyn Error + Send + Sync>>,
    V::Future: 'static,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    serve_until(listener, service, pending()).await
}

/// [`serve`] until `shutdown` is ready. Then closes the listener, lets the requests that have begun
/// end, and returns once all connections are closed.
///
/// A client that never ends its request is waited for. [`timeout`] around this sets
/// a limit, after which all connections are closed.
///
/// # Errors
/// The error of `accept(2)` after which the listener can accept no more connections, such as EBADF
/// or EINVAL; returned once the connections that are open have ended.
///
/// # Cancel safety
/// Dropping the future closes the listener and all connections at once, requests or not.
///
/// # Examples
/// ```no_run
/// use fahrenheit::{AsyncTcpListener, hyper::serve_until};
/// use hyper::{Response, service::service_fn};
/// use std::{convert::Infallible, io};
///
/// # #[cfg(feature = "signal")]
/// fn main() -> io::Result<()> {
///     let listener = AsyncTcpListener::bind("127.0.0.1:3000")?;
///     let hello = |_| async { Ok::<_, Infallible>(Response::new("Hello!\n".to_owned())) };
///     fahrenheit::run(serve_until(listener, service_fn(hello), async {
///         // If the signal cannot be waited for, the server ends at once.
///         let _ = fahrenheit::signal::ctrl_c().await;
///     }))
/// }
/// # #[cfg(not(feature = "signal"))]
/// # fn main() {}
/// ```
pub async fn serve_until<L, V, B>(
    listener: L,
    service: V,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()>
where
    L: Listen,
    L::Connection: AsyncRead + AsyncWrite + Unpin + 'static,
    V: Service<Request<Incoming>, Response = Response<B>> + 'static,
    V::Error: Into<Box<dyn Error + Send + Sync>>,
    V::Future: 'static,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (service, closing) = (Rc::new(service), Rc::new(Closing::default()));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let outcome = loop {
        let accepted = poll_fn(|cx| {
            if shutdown.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            // Tasks that have ended are taken out here, or the set would grow for ever.
            while let Poll::Ready(Some(ended)) = connections.poll_join_next(cx) {
                log_end(ended);
            }
            listener.poll_next_connection(cx).map(Some)
        });
        match accepted.await {
            None => break Ok(()),
            Some(Ok(stream)) => {
                let (service, closing) = (Rc::clone(&service), Wait::new(&closing));
                connections.spawn(serve_connection_until(stream, service, closing));
            }
            Some(Err(error)) if is_temporary(&error) => {
                boundary::warning!("a connection was not accepted: {error}");
            }
            Some(Err(error)) => break Err(error),
        }
    };
    // From now on, clients are refused and may try another server.
    drop(listener);
    closing.close();
    while let Some(ended) = connections.join_next().await {
        log_end(ended);
    }
    outcome
}

/// Returns whether another connection may be accepted after this error of accepting one.
fn is_temporary(error: &io::Error) -> bool {
    let is_too_high = error
        .get_ref()
        .is_some_and(|inner| inner.is::<RegisterError>());
    is_too_high || matches!(AcceptError::of(error), AcceptError::Shortage)
}

fn log_end(ended: Result<io::Result<()>, JoinError>) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => boundary::debug!("a connection of a client has failed: {error}"),
        Err(error) => boundary::error!("a connection of a client has ended: {error}"),
    }
}

/// Serves one connection, by HTTP/1 or HTTP/2, as the client begins, until it is closed.
///
/// `stream` is anything with the traits of futures-io, for example a connection of a TLS library.
///
/// # Errors
/// - `TimedOut` if the client does not begin within 30 seconds.
/// - What reading `stream` before the first request returns: ECONNRESET of `recv(2)` if the client
///   has reset the connection.
/// - Of kind [`Other`](io::ErrorKind::Other) after that, with the [`hyper::Error`](::hyper::Error)
///   inside: for a message that is not HTTP, a connection that breaks off, and an error that the
///   service or a body has returned.
///
/// # Cancel safety
/// Dropping the future closes the connection at once.
pub async fn serve_connection<S, V, B>(stream: S, service: V) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    V: Service<Request<Incoming>, Response = Response<B>>,
    V::Error: Into<Box<dyn Error + Send + Sync>>,
    V::Future: 'static,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    serve_connection_until(stream, service, pending()).await
}

/// Serves one connection, as [`serve_connection`] does, until `shutdown` is ready. Then lets the
/// requests that have begun end, and closes the connection.
///
/// # Errors
/// - `TimedOut` if the client does not begin within 30 seconds.
/// - What reading `stream` before the first request returns: ECONNRESET of `recv(2)` if the client
///   has reset the connection.
/// - Of kind [`Other`](io::ErrorKind::Other) after that, with the [`hyper::Error`](::hyper::Error)
///   inside: for a message that is not HTTP, a connection that breaks off, and an error that the
///   service or a body has returned.
///
/// # Cancel safety
/// Dropping the future closes the connection at once.
///
/// # Examples
/// ```
/// use fahrenheit::{AsyncUnixStream, hyper::serve_connection_until, prelude::*};
/// use hyper::{Request, Response, body::Incoming, service::service_fn};
/// use std::{convert::Infallible, time::Duration};
///
/// async fn hello(_: Request<Incoming>) -> Result<Response<String>, Infallible> {
///     Ok(Response::new("hello".to_owned()))
/// }
///
/// fahrenheit::run(async {
///     let (client, server) = AsyncUnixStream::pair()?;
///     (&client).write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await?;
///     // It is told to end after 10 ms, and closes the connection, which the client leaves open.
///     let end = fahrenheit::time::sleep(Duration::from_millis(10));
///     serve_connection_until(server, service_fn(hello), end).await?;
///     let mut answer = String::new();
///     (&client).read_to_string(&mut answer).await?;
///     assert!(answer.ends_with("hello"));
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
pub async fn serve_connection_until<S, V, B>(
    mut stream: S,
    service: V,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    V: Service<Request<Incoming>, Response = Response<B>>,
    V::Error: Into<Box<dyn Error + Send + Sync>>,
    V::Future: 'static,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut shutdown = pin!(shutdown);
    let ahead = {
        let mut reading = pin!(timeout(TIME_TO_BEGIN, read_ahead(&mut stream)));
        let ahead = poll_fn(|cx| match reading.as_mut().poll(cx) {
            Poll::Ready(ahead) => Poll::Ready(Some(ahead)),
            // Nothing has begun, so there is nothing to end in order.
            Poll::Pending => shutdown.as_mut().poll(cx).map(|()| None),
        });
        match ahead.await {
            Some(ahead) => ahead??,
            None => return Ok(()),
        }
    };
    let is_http2 = ahead.starts_with(PREFACE);
    let io = Io::with_read_ahead(stream, ahead);
    if is_http2 {
        let mut builder = http2::Builder::new(Executor::new());
        let connection = builder.timer(Timer::new()).serve_connection(io, service);
        return drive(connection, shutdown, http2::Connection::graceful_shutdown).await;
    }
    let mut builder = http1::Builder::new();
    // In a `Local`, because hyper lets only what is `Send` be upgraded.
    let connection = builder
        .timer(Timer::new())
        .serve_connection(Local::new(io), service);
    let connection = connection.with_upgrades();
    drive(
        connection,
        shutdown,
        http1::UpgradeableConnection::graceful_shutdown,
    )
    .await
}

/// Reads until it is certain whether the client begins as one of HTTP/2 does, or until the end.
async fn read_ahead(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; FIRST_READ];
    let mut n_read = 0;
    while n_read < PREFACE.len() && bytes[..n_read] == PREFACE[..n_read] {
        match stream.read(&mut bytes[n_read..]).await? {
            0 => break,
            n => n_read += n,
        }
    }
    bytes.truncate(n_read);
    Ok(bytes)
}

/// Polls `connection` until it has ended. Once `shutdown` is ready, calls `end` on it.
async fn drive<C>(
    connection: C,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
    end: fn(Pin<&mut C>),
) -> io::Result<()>
where
    C: Future<Output = Result<(), ::hyper::Error>>,
{
    let mut connection = pin!(connection);
    let mut is_ending = false;
    let ended = poll_fn(|cx| {
        if !is_ending && shutdown.as_mut().poll(cx).is_ready() {
            is_ending = true;
            end(connection.as_mut());
        }
        connection.as_mut().poll(cx)
    });
    ended.await.map_err(io::Error::other)
}

/// Tells all connections of a server that it shuts down.
#[derive(Default)]
struct Closing {
    is_closing: Cell<bool>,
    /// The tasks that wait for it, each with a number of its own.
    wakers: RefCell<BTreeMap<u64, Waker>>,
    /// Number of tasks that have ever waited.
    n_waits: Cell<u64>,
}

impl Closing {
    fn close(&self) {
        self.is_closing.set(true);
        // Woken with nothing borrowed: a wake is foreign code.
        let wakers = std::mem::take(&mut *self.wakers.borrow_mut());
        wakers.into_values().for_each(boundary::wake);
    }
}

/// The future of one connection that waits for [`Closing::close`].
struct Wait {
    closing: Rc<Closing>,
    number: u64,
    /// What the waker consists of that `closing` has of this. Compared instead of the waker itself,
    /// since each poll of a connection comes here, and the waker need not be looked up for that.
    known: Option<(*const (), *const RawWakerVTable)>,
}

impl Wait {
    fn new(closing: &Rc<Closing>) -> Wait {
        let number = closing.n_waits.get();
        closing.n_waits.set(number + 1);
        Wait {
            closing: Rc::clone(closing),
            number,
            known: None,
        }
    }
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.closing.is_closing.get() {
            return Poll::Ready(());
        }
        let parts = |waker: &Waker| (waker.data(), std::ptr::from_ref(waker.vtable()));
        if self.known != Some(parts(cx.waker())) {
            // The clone is what stays alive, so its parts cannot become those of another waker.
            let waker = cx.waker().clone();
            self.known = Some(parts(&waker));
            let replaced = self.closing.wakers.borrow_mut().insert(self.number, waker);
            drop(replaced);
        }
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let waker = self.closing.wakers.borrow_mut().remove(&self.number);
        drop(waker);
    }
}
