//! UDP: datagrams, to one peer or to many.

use super::addr::{self, ToSocketAddrs};
use super::common::{impl_data_socket, impl_socket};
use crate::fd::Registered;
use crate::sys::{Trigger, socket};
use std::future::poll_fn;
use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

/// A UDP socket.
///
/// Every operation takes `&self`, so one task may receive while others send. Datagrams arrive
/// whole, in any order, twice, or not at all. One that is longer than the bytes given to receive it
/// is **cut off**, and nothing says so: 65,535 bytes are always enough. A length of 0 is an empty
/// datagram, and never an end.
///
/// Every operation may be cancelled by dropping its future: a datagram is taken in the same poll
/// that returns it.
///
/// # Peers that are not there
/// The system reports "port unreachable" to a *connected* socket as an error of the next send or
/// receive, mostly `ConnectionRefused`: once, and the socket goes on as before. So do not give up a
/// socket because of one error.
///
/// # Examples
/// ```
/// use fahrenheit::AsyncUdpSocket;
///
/// fahrenheit::run(async {
///     let a = AsyncUdpSocket::bind("127.0.0.1:0")?;
///     let b = AsyncUdpSocket::bind("127.0.0.1:0")?;
///     a.send_to(b"ping", b.local_addr()?).await?;
///     let mut bytes = [0; 65_535];
///     let (n, from) = b.recv_from(&mut bytes).await?;
///     assert_eq!((&bytes[..n], from), (&b"ping"[..], a.local_addr()?));
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
///
/// It belongs to the thread that made it; [`into_std`](AsyncUdpSocket::into_std) moves it:
///
/// ```compile_fail
/// fn must_be_send<T: Send>() {}
/// must_be_send::<fahrenheit::AsyncUdpSocket>();
/// ```
pub struct AsyncUdpSocket {
    socket: Registered<net::UdpSocket>,
}

impl AsyncUdpSocket {
    /// Binds to the first address of `addr` that can be had; port 0 lets the system choose.
    ///
    /// Not async, as nothing waits; but a host *name* is looked up in place, and blocks.
    ///
    /// # Errors
    /// That of the look-up, or of the last address that was tried: `AddrInUse`, `PermissionDenied`…
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<AsyncUdpSocket> {
        let addrs = addr::resolve_now(addr.target()?)?;
        if addrs.is_empty() {
            return Err(addr::none());
        }
        AsyncUdpSocket::from_std(net::UdpSocket::bind(&addrs[..])?)
    }

    /// Registers a socket that is non-blocking already.
    #[track_caller]
    fn adopt(socket: net::UdpSocket) -> io::Result<AsyncUdpSocket> {
        let socket = Registered::new(socket, Trigger::Edge)?;
        Ok(AsyncUdpSocket { socket })
    }

    /// Sets the peer that [`send`](AsyncUdpSocket::send) goes to, and the only one that is received
    /// from: the first address of `addr` that the system accepts. Nothing is sent.
    ///
    /// Connecting again changes the peer. A host name is looked up in the blocking pool; addresses
    /// need no thread.
    ///
    /// # Errors
    /// That of the look-up, or of the last address that was tried: for one, `NetworkUnreachable`.
    /// That nobody listens there shows later, if at all.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the socket as it was.
    pub async fn connect(&self, addr: impl ToSocketAddrs) -> io::Result<()> {
        let addrs = addr::resolve(addr.target()?).await?;
        if addrs.is_empty() {
            return Err(addr::none());
        }
        self.socket.get_ref().connect(&addrs[..])
    }

    /// Sends one datagram to the peer of [`connect`](AsyncUdpSocket::connect); returns its length.
    ///
    /// Waits only while the system's own buffer is full.
    ///
    /// # Errors
    /// If the socket is not connected; `EMSGSIZE` if the datagram is longer than the system sends
    /// (65,507 bytes over IPv4 at most); an earlier datagram's failure, once. Where the network is
    /// slower than the sender, Linux waits or drops; macOS and the BSDs return `ENOBUFS`.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing has been sent.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_send(cx, bytes)).await
    }

    /// [`send`](AsyncUdpSocket::send) for hand-written futures.
    ///
    /// # Errors
    /// As [`send`](AsyncUdpSocket::send).
    pub fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let call = |socket: &net::UdpSocket| socket::send(socket, bytes);
        self.socket.poll_write_with(cx, call, |_| false)
    }

    /// Sends one datagram to `addr`; returns its length.
    ///
    /// A host name is looked up in the blocking pool, each time. Of several addresses, the first of
    /// the socket's own family is taken, and no other is tried.
    ///
    /// # Errors
    /// That of the look-up; else as [`send`](AsyncUdpSocket::send). macOS and the BSDs refuse it on
    /// a connected socket (`EISCONN`).
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing has been sent.
    pub async fn send_to(&self, bytes: &[u8], addr: impl ToSocketAddrs) -> io::Result<usize> {
        let addrs = addr::resolve(addr.target()?).await?;
        let addr = match addrs[..] {
            [] => return Err(addr::none()),
            [addr] => addr,
            [first, ..] => {
                let is_ipv4 = self.local_addr()?.is_ipv4();
                let fitting = addrs.iter().find(|addr| addr.is_ipv4() == is_ipv4);
                *fitting.unwrap_or(&first)
            }
        };
        poll_fn(|cx| self.poll_send_to(cx, bytes, addr)).await
    }

    /// [`send_to`](AsyncUdpSocket::send_to) for hand-written futures.
    ///
    /// # Errors
    /// As [`send`](AsyncUdpSocket::send).
    pub fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        addr: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        let call = |socket: &net::UdpSocket| socket.send_to(bytes, addr);
        self.socket.poll_write_with(cx, call, |_| false)
    }

    /// Receives one datagram; returns its length, or that of `bytes` if it was longer.
    ///
    /// # Errors
    /// That of the system: for one, that an earlier datagram of ours met a closed port, once.
    ///
    /// # Cancel safety
    /// No datagram is lost by dropping the future.
    pub async fn recv(&self, bytes: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_recv(cx, bytes)).await
    }

    /// [`recv`](AsyncUdpSocket::recv) for hand-written futures.
    ///
    /// # Errors
    /// As [`recv`](AsyncUdpSocket::recv).
    pub fn poll_recv(&self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        self.socket
            .poll_read_with(cx, |socket| socket.recv(bytes), |_| false)
    }

    /// Receives one datagram; returns its length, or that of `bytes` if it was longer, and the
    /// sender.
    ///
    /// # Errors
    /// As [`recv`](AsyncUdpSocket::recv).
    ///
    /// # Cancel safety
    /// No datagram is lost by dropping the future.
    pub async fn recv_from(&self, bytes: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|cx| self.poll_recv_from(cx, bytes)).await
    }

    /// [`recv_from`](AsyncUdpSocket::recv_from) for hand-written futures.
    ///
    /// # Errors
    /// As [`recv`](AsyncUdpSocket::recv).
    pub fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.socket
            .poll_read_with(cx, |socket| socket.recv_from(bytes), |_| false)
    }

    /// As [`recv`](AsyncUdpSocket::recv), but the datagram stays, and is the next to be received.
    ///
    /// # Errors
    /// As [`recv`](AsyncUdpSocket::recv).
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.socket.read_with(|socket| socket.peek(bytes)).await
    }

    /// As [`recv_from`](AsyncUdpSocket::recv_from), but the datagram stays.
    ///
    /// # Errors
    /// As [`recv`](AsyncUdpSocket::recv).
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn peek_from(&self, bytes: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|cx| self.poll_peek_from(cx, bytes)).await
    }

    /// [`peek_from`](AsyncUdpSocket::peek_from) for hand-written futures.
    ///
    /// # Errors
    /// As [`recv`](AsyncUdpSocket::recv).
    pub fn poll_peek_from(
        &self,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.socket
            .poll_read_with(cx, |socket| socket.peek_from(bytes), |_| false)
    }

    /// Starts to receive what is sent to the group `address`, on the interface that has the address
    /// `interface`; `UNSPECIFIED` lets the system choose (`IP_ADD_MEMBERSHIP`).
    ///
    /// # Errors
    /// That of the system: the group is no multicast address, there is no such interface, or the
    /// socket is a member already.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::AsyncUdpSocket;
    /// use std::net::Ipv4Addr;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let socket = AsyncUdpSocket::bind("0.0.0.0:0")?;
    /// let group = Ipv4Addr::new(239, 1, 2, 3);
    /// socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)?;
    /// socket.leave_multicast_v4(&group, &Ipv4Addr::LOCALHOST)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn join_multicast_v4(&self, address: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.socket.get_ref().join_multicast_v4(address, interface)
    }

    /// Undoes [`join_multicast_v4`](AsyncUdpSocket::join_multicast_v4) of the same arguments.
    ///
    /// # Errors
    /// That of the system: for one, if the socket is no member.
    pub fn leave_multicast_v4(&self, address: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.socket.get_ref().leave_multicast_v4(address, interface)
    }

    /// Starts to receive what is sent to the group `address`, on the interface of number
    /// `interface`; 0 lets the system choose (`IPV6_JOIN_GROUP`).
    ///
    /// # Errors
    /// As [`join_multicast_v4`](AsyncUdpSocket::join_multicast_v4).
    pub fn join_multicast_v6(&self, address: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.socket.get_ref().join_multicast_v6(address, interface)
    }

    /// Undoes [`join_multicast_v6`](AsyncUdpSocket::join_multicast_v6) of the same arguments.
    ///
    /// # Errors
    /// As [`leave_multicast_v4`](AsyncUdpSocket::leave_multicast_v4).
    pub fn leave_multicast_v6(&self, address: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.socket.get_ref().leave_multicast_v6(address, interface)
    }
}

/// Pairs of a getter and a setter that std has, too.
macro_rules! options {
    ($($getter:ident, $setter:ident: $type:ty, $what:literal, $option:literal;)*) => {
        /// Options of the socket, as the system keeps them.
        impl AsyncUdpSocket {
            $(
                #[doc = concat!("Returns ", $what, " (`", $option, "`).")]
                ///
                /// # Errors
                /// That of the system.
                pub fn $getter(&self) -> io::Result<$type> {
                    self.socket.get_ref().$getter()
                }

                #[doc = concat!("Sets ", $what, " (`", $option, "`).")]
                ///
                /// # Errors
                /// That of the system.
                pub fn $setter(&self, value: $type) -> io::Result<()> {
                    self.socket.get_ref().$setter(value)
                }
            )*
        }
    };
}

options! {
    broadcast, set_broadcast: bool,
        "whether the socket may send to broadcast addresses", "SO_BROADCAST";
    ttl, set_ttl: u32,
        "how many routers a datagram may cross, 1 to 255", "IP_TTL";
    multicast_ttl_v4, set_multicast_ttl_v4: u32,
        "how many routers a datagram to a group may cross; 1, the default, stays in the network",
        "IP_MULTICAST_TTL";
    multicast_loop_v4, set_multicast_loop_v4: bool,
        "whether this machine receives what it sends to a group, too", "IP_MULTICAST_LOOP";
    multicast_loop_v6, set_multicast_loop_v6: bool,
        "whether this machine receives what it sends to a group over IPv6, too",
        "IPV6_MULTICAST_LOOP";
}

impl_socket!(AsyncUdpSocket { socket }, net::UdpSocket, SocketAddr);
impl_data_socket!(AsyncUdpSocket { socket }, SocketAddr);
