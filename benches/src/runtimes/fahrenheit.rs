//! This crate.

use fahrenheit::{AsyncTcpListener, AsyncTcpStream, time};
use futures_util::{AsyncReadExt, AsyncWriteExt};
use std::io;
use std::net::TcpListener;
use std::time::Duration;

use super::{Blocking, Executor, Net, Timed};

pub(crate) struct Fahrenheit;

impl Executor for Fahrenheit {
    fn block_on<T: 'static>(main: impl Future<Output = T> + 'static) -> T {
        fahrenheit::block_on(main)
    }

    fn spawn<T: 'static>(
        future: impl Future<Output = T> + 'static,
    ) -> impl Future<Output = T> + 'static {
        let task = fahrenheit::spawn(future);
        async move { task.await.expect("a task of the benchmark does not panic") }
    }

    fn detach(future: impl Future<Output = ()> + 'static) {
        drop(fahrenheit::spawn(future));
    }

    fn yield_now() -> impl Future<Output = ()> {
        fahrenheit::yield_now()
    }
}

impl Timed for Fahrenheit {
    fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
        time::sleep(duration)
    }

    async fn timeout<T>(limit: Duration, future: impl Future<Output = T> + 'static) -> Option<T> {
        time::timeout(limit, future).await.ok()
    }
}

impl Blocking for Fahrenheit {
    fn unblock<T: Send + 'static>(
        job: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static {
        let job = fahrenheit::spawn_blocking(job);
        async move { job.await.expect("a job of the benchmark does not panic") }
    }
}

impl Net for Fahrenheit {
    type Listener = AsyncTcpListener;
    type Stream = AsyncTcpStream;

    fn listener(listener: TcpListener) -> io::Result<AsyncTcpListener> {
        AsyncTcpListener::from_std(listener)
    }

    async fn accept(listener: &AsyncTcpListener) -> io::Result<AsyncTcpStream> {
        let (stream, _) = listener.accept().await?;
        Ok(stream)
    }

    async fn read(
        stream: &mut AsyncTcpStream,
        mut buffer: Vec<u8>,
    ) -> (io::Result<usize>, Vec<u8>) {
        (stream.read(&mut buffer).await, buffer)
    }

    async fn write(
        stream: &mut AsyncTcpStream,
        buffer: Vec<u8>,
        n: usize,
    ) -> (io::Result<()>, Vec<u8>) {
        (stream.write_all(&buffer[..n]).await, buffer)
    }
}
