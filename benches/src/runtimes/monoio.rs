//! monoio, on io_uring and on its epoll driver ("legacy").

use monoio::blocking::DefaultThreadPool;
use monoio::buf::IoBuf;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder, net, time};
use std::io;
use std::net::TcpListener;
use std::time::Duration;

use super::{Blocking, Executor, Net, Timed};
use crate::work::YieldOnce;

pub(crate) struct MonoioUring;
pub(crate) struct MonoioLegacy;

macro_rules! monoio {
    ($name:ident, $driver:ident) => {
        impl Executor for $name {
            fn block_on<T: 'static>(main: impl Future<Output = T> + 'static) -> T {
                let mut runtime = RuntimeBuilder::<$driver>::new()
                    .attach_thread_pool(Box::new(DefaultThreadPool::new(4)))
                    .enable_timer()
                    .build()
                    .expect("monoio starts");
                runtime.block_on(main)
            }

            fn spawn<T: 'static>(
                future: impl Future<Output = T> + 'static,
            ) -> impl Future<Output = T> + 'static {
                monoio::spawn(future)
            }

            fn detach(future: impl Future<Output = ()> + 'static) {
                drop(monoio::spawn(future));
            }

            fn yield_now() -> impl Future<Output = ()> {
                YieldOnce::default()
            }
        }

        impl Timed for $name {
            fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
                time::sleep(duration)
            }

            async fn timeout<T>(
                limit: Duration,
                future: impl Future<Output = T> + 'static,
            ) -> Option<T> {
                time::timeout(limit, future).await.ok()
            }
        }

        impl Blocking for $name {
            fn unblock<T: Send + 'static>(
                job: impl FnOnce() -> T + Send + 'static,
            ) -> impl Future<Output = T> + 'static {
                let job = monoio::spawn_blocking(job);
                async move { job.await.expect("a job of the benchmark does not panic") }
            }
        }

        impl Net for $name {
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
                buffer: Vec<u8>,
            ) -> (io::Result<usize>, Vec<u8>) {
                stream.read(buffer).await
            }

            async fn write(
                stream: &mut net::TcpStream,
                buffer: Vec<u8>,
                n: usize,
            ) -> (io::Result<()>, Vec<u8>) {
                let (written, slice) = stream.write_all(buffer.slice(..n)).await;
                (written.map(drop), slice.into_inner())
            }
        }
    };
}

monoio!(MonoioUring, IoUringDriver);
monoio!(MonoioLegacy, LegacyDriver);
