//! compio, on io_uring and on its `polling` driver.

use compio::BufResult;
use compio::buf::{IntoInner, IoBuf};
use compio::driver::{DriverType, ProactorBuilder};
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net;
use compio::runtime::{self, Runtime, time};
use std::io;
use std::net::TcpListener;
use std::time::Duration;

use super::{Blocking, Executor, Net, Timed};
use crate::work::YieldOnce;

pub(crate) struct CompioUring;
pub(crate) struct CompioPoll;

macro_rules! compio {
    ($name:ident, $driver:ident) => {
        impl Executor for $name {
            fn block_on<T: 'static>(main: impl Future<Output = T> + 'static) -> T {
                let mut proactor = ProactorBuilder::new();
                proactor.driver_type(DriverType::$driver);
                let runtime = Runtime::builder()
                    .with_proactor(proactor)
                    .build()
                    .expect("compio starts");
                assert_eq!(runtime.driver_type(), DriverType::$driver);
                runtime.block_on(main)
            }

            fn spawn<T: 'static>(
                future: impl Future<Output = T> + 'static,
            ) -> impl Future<Output = T> + 'static {
                let task = runtime::spawn(future);
                async move { task.await.expect("a task of the benchmark does not panic") }
            }

            fn detach(future: impl Future<Output = ()> + 'static) {
                runtime::spawn(future).detach();
            }

            fn yield_now() -> impl Future<Output = ()> {
                YieldOnce::default()
            }
        }

        impl Timed for $name {
            async fn sleep(duration: Duration) {
                time::sleep(duration).await;
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
                let job = runtime::spawn_blocking(job);
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
                let BufResult(read, buffer) = stream.read(buffer).await;
                (read, buffer)
            }

            async fn write(
                stream: &mut net::TcpStream,
                buffer: Vec<u8>,
                n: usize,
            ) -> (io::Result<()>, Vec<u8>) {
                let BufResult(written, slice) = stream.write_all(buffer.slice(..n)).await;
                (written.map(drop), slice.into_inner())
            }
        }
    };
}

compio!(CompioUring, IoUring);
compio!(CompioPoll, Poll);
