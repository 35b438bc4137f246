//! tokio's current-thread runtime, in its form for tasks that are not `Send`.

use std::io;
use std::net::TcpListener;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net;
use tokio::runtime::{Builder, LocalOptions};
use tokio::{task, time};

use super::{Blocking, Executor, Net, Timed};

pub(crate) struct Tokio;

impl Executor for Tokio {
    fn block_on<T: 'static>(main: impl Future<Output = T> + 'static) -> T {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .expect("tokio starts");
        runtime.block_on(main)
    }

    fn spawn<T: 'static>(
        future: impl Future<Output = T> + 'static,
    ) -> impl Future<Output = T> + 'static {
        let task = task::spawn_local(future);
        async move { task.await.expect("a task of the benchmark does not panic") }
    }

    fn detach(future: impl Future<Output = ()> + 'static) {
        drop(task::spawn_local(future));
    }

    fn yield_now() -> impl Future<Output = ()> {
        task::yield_now()
    }
}

impl Timed for Tokio {
    fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
        time::sleep(duration)
    }

    async fn timeout<T>(limit: Duration, future: impl Future<Output = T> + 'static) -> Option<T> {
        time::timeout(limit, future).await.ok()
    }
}

impl Blocking for Tokio {
    fn unblock<T: Send + 'static>(
        job: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static {
        let job = task::spawn_blocking(job);
        async move { job.await.expect("a job of the benchmark does not panic") }
    }
}

impl Net for Tokio {
    type Listener = net::TcpListener;
    type Stream = net::TcpStream;

    fn listener(listener: TcpListener) -> io::Result<net::TcpListener> {
        net::TcpListener::from_std(listener)
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
