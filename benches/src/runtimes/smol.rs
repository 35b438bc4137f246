//! smol: its local executor on `async-io`.

use futures_util::future::{Either, select};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net;
use smol::{Async, LocalExecutor, Timer};
use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::time::Duration;

use super::{Blocking, Executor, Net, Timed};

pub(crate) struct Smol;

thread_local! {
    /// Leaked, once per process, so that tasks can spawn tasks.
    static EXECUTOR: &'static LocalExecutor<'static> = Box::leak(Box::new(LocalExecutor::new()));
}

fn executor() -> &'static LocalExecutor<'static> {
    EXECUTOR.with(|executor| *executor)
}

impl Executor for Smol {
    fn block_on<T: 'static>(main: impl Future<Output = T> + 'static) -> T {
        smol::block_on(executor().run(main))
    }

    fn spawn<T: 'static>(
        future: impl Future<Output = T> + 'static,
    ) -> impl Future<Output = T> + 'static {
        executor().spawn(future)
    }

    fn detach(future: impl Future<Output = ()> + 'static) {
        executor().spawn(future).detach();
    }

    fn yield_now() -> impl Future<Output = ()> {
        smol::future::yield_now()
    }
}

impl Timed for Smol {
    async fn sleep(duration: Duration) {
        Timer::after(duration).await;
    }

    /// smol has no `timeout`; its documentation races the future with a timer.
    async fn timeout<T>(limit: Duration, future: impl Future<Output = T> + 'static) -> Option<T> {
        match select(pin!(future), pin!(Timer::after(limit))).await {
            Either::Left((output, _)) => Some(output),
            Either::Right(_) => None,
        }
    }
}

impl Blocking for Smol {
    fn unblock<T: Send + 'static>(
        job: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static {
        smol::unblock(job)
    }
}

impl Net for Smol {
    type Listener = net::TcpListener;
    type Stream = net::TcpStream;

    fn listener(listener: TcpListener) -> io::Result<net::TcpListener> {
        Async::new(listener).map(net::TcpListener::from)
    }

    async fn accept(listener: &net::TcpListener) -> io::Result<net::TcpStream> {
        let (stream, _) = listener.accept().await?;
        Ok(stream)
    }

    async fn read(
        stream: &mut net::TcpStream,
        mut buffer: Vec<u8>,
    ) -> (io::Result<usize>, Vec<u8>) {
        (stream.read(&mut buffer).await, buffer)
    }

    async fn write(
        stream: &mut net::TcpStream,
        buffer: Vec<u8>,
        n: usize,
    ) -> (io::Result<()>, Vec<u8>) {
        (stream.write_all(&buffer[..n]).await, buffer)
    }
}
