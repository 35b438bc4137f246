//! hickory's resolver on this crate's loop, to be copied.
//!
//! hickory demands `Send` of what it waits for, so sockets and timers are in a `Local`. A resolver
//! belongs to the thread that made it.

use fahrenheit::{AsyncTcpStream, AsyncUdpSocket, Local, prelude::*, time};
use hickory_resolver::net::runtime::{DnsTcpStream, DnsUdpSocket, RuntimeProvider, Spawn, Time};
use std::future::Future;
use std::io::Result;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

type Polled<T> = Poll<Result<T>>;
type Made<T> = Pin<Box<dyn Send + Future<Output = Result<T>>>>;

/// Runs hickory on the loop of the thread that uses it.
#[derive(Clone, Copy)]
pub struct Fahrenheit;

/// A UDP socket.
pub struct Udp(Local<AsyncUdpSocket>);

/// A TCP connection, as an object: hickory's trait may be implemented for a box of a trait from here,
/// and a box has the traits for reading and writing of what is in it.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl Connection for Local<AsyncTcpStream> {}

impl Spawn for Fahrenheit {
    fn spawn_bg(&mut self, future: impl Future<Output = ()> + Send + 'static) {
        fahrenheit::spawn(future).detach();
    }
}

#[async_trait::async_trait]
impl Time for Fahrenheit {
    async fn delay_for(duration: Duration) { Local::new(time::sleep(duration)).await; }
    async fn timeout<F: 'static + Future + Send>(limit: Duration, future: F) -> Result<F::Output> {
        Ok(Local::new(time::timeout(limit, future)).await?)
    }
}

impl RuntimeProvider for Fahrenheit {
    type Handle = Fahrenheit;
    type Timer = Fahrenheit;
    type Udp = Udp;
    type Tcp = Box<dyn Connection>;
    fn create_handle(&self) -> Fahrenheit { Fahrenheit }
    fn connect_tcp(
        &self, to: SocketAddr, _: Option<SocketAddr>, limit: Option<Duration>,
    ) -> Made<Self::Tcp> {
        let stream = AsyncTcpStream::connect_timeout(to, limit.unwrap_or(Duration::from_secs(5)));
        Box::pin(Local::new(async { Ok(Box::new(Local::new(stream.await?)) as Self::Tcp) }))
    }
    fn bind_udp(&self, local: SocketAddr, _: SocketAddr) -> Made<Self::Udp> {
        Box::pin(Local::new(async move { Ok(Udp(Local::new(AsyncUdpSocket::bind(local)?))) }))
    }
}

impl DnsUdpSocket for Udp {
    type Time = Fahrenheit;
    fn poll_recv_from(&self, cx: &mut Context<'_>, to: &mut [u8]) -> Polled<(usize, SocketAddr)> {
        self.0.poll_recv_from(cx, to)
    }
    fn poll_send_to(&self, cx: &mut Context<'_>, bytes: &[u8], to: SocketAddr) -> Polled<usize> {
        self.0.poll_send_to(cx, bytes, to)
    }
}

impl DnsTcpStream for Box<dyn Connection> { type Time = Fahrenheit; }
