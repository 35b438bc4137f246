//! glommio: io_uring only.

use futures_util::{AsyncReadExt, AsyncWriteExt};
use glommio::net;
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement};
use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::time::Duration;

use super::{Blocking, Executor, Net, Timed};
use crate::work::YieldOnce;

pub(crate) struct Glommio;

impl Executor for Glommio {
    fn block_on<T: 'static>(main: impl Future<Output = T> + 'static) -> T {
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .make()
            .expect("glommio starts");
        executor.run(main)
    }

    fn spawn<T: 'static>(
        future: impl Future<Output = T> + 'static,
    ) -> impl Future<Output = T> + 'static {
        glommio::spawn_local(future)
    }

    fn detach(future: impl Future<Output = ()> + 'static) {
        glommio::spawn_local(future).detach();
    }

    fn yield_now() -> impl Future<Output = ()> {
        YieldOnce::default()
    }
}

impl Timed for Glommio {
    async fn sleep(duration: Duration) {
        Timer::new(duration).await;
    }

    async fn timeout<T>(limit: Duration, future: impl Future<Output = T> + 'static) -> Option<T> {
        let future = async move { Ok(future.await) };
        glommio::timer::timeout::<_, T>(limit, future).await.ok()
    }
}

impl Blocking for Glommio {
    async fn unblock<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
        glommio::executor().spawn_blocking(job).await
    }
}

impl Net for Glommio {
    type Listener = net::TcpListener;
    type Stream = net::TcpStream;

    fn listener(listener: TcpListener) -> io::Result<net::TcpListener> {
        // SAFETY: the descriptor comes from an owner that has just given it up.
        Ok(unsafe { net::TcpListener::from_raw_fd(listener.into_raw_fd()) })
    }

    async fn accept(listener: &net::TcpListener) -> io::Result<net::TcpStream> {
        listener
            .accept()
            .await
            .map_err(|error| io::Error::other(error.to_string()))
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
