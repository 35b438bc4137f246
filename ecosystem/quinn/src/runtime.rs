//! quinn on this crate's loop, to be copied: `Endpoint::new(.., Arc::new(FahrenheitRuntime))`.
//!
//! quinn demands `Send` of what it waits for, so sockets and timers are in a `Local`. An endpoint
//! and its connections belong to the thread that made them.

use fahrenheit::time::{Sleep, sleep_until};
use fahrenheit::{AsyncFd, Local};
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, UdpPoller};
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

/// Runs quinn on the loop of the thread that uses it.
#[derive(Debug)]
pub struct FahrenheitRuntime;

#[derive(Debug)]
struct Timer(Local<Sleep>);

/// quinn's own calls, which send and receive many packets at once, and our waiting.
#[derive(Debug, Clone)]
struct Socket {
    fd: Arc<Local<AsyncFd<UdpSocket>>>,
    state: Arc<UdpSocketState>,
}

impl Runtime for FahrenheitRuntime {
    fn new_timer(&self, deadline: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Timer(Local::new(sleep_until(deadline))))
    }
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        fahrenheit::spawn(future).detach();
    }
    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        // This makes the socket non-blocking.
        let state = Arc::new(UdpSocketState::new((&socket).into())?);
        Ok(Arc::new(Socket { fd: Arc::new(Local::new(AsyncFd::new(socket)?)), state }))
    }
}

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        self.0.reset(deadline);
    }
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_pin_mut().poll(cx)
    }
}

impl UdpPoller for Socket {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fd.poll_writable(cx)
    }
}

// One line for each call that is only passed on.
#[rustfmt::skip]
impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> { Box::pin((*self).clone()) }
    fn local_addr(&self) -> io::Result<SocketAddr> { self.fd.get_ref().local_addr() }
    fn max_transmit_segments(&self) -> usize { self.state.max_gso_segments() }
    fn max_receive_segments(&self) -> usize { self.state.gro_segments() }
    fn may_fragment(&self) -> bool { self.state.may_fragment() }
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.fd.try_write_with(|socket| self.state.send(socket.into(), transmit))
    }
    fn poll_recv(
        &self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.fd.poll_read_with(cx, |socket| self.state.recv(socket.into(), bufs, meta))
    }
}
