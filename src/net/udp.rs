//! UDP: datagrams, to one peer or to many.

use super::addr::{self, ToSocketAddrs};
use super::common::{impl_data_socket, impl_options, impl_socket};
use crate::fd::Registered;
use crate::sys::fd::above_stdio;
use crate::sys::socket;
use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

/// A UDP socket.
///
/// Every operation takes `&self`, so one task may receive while others send. Datagrams arrive
/// whole, in any order, twice, or not at all. If a datagram is longer than the buffer that receives
/// it, the rest is **lost without notice**; 65,535 bytes are always enough. A length of 0 is an
/// empty datagram, never the end of anything.
///
/// Every operation may be cancelled by dropping its future: a datagram is consumed only in the poll
/// that returns it.
///
/// # Peers that do not exist
/// The system reports "port unreachable" to a *connected* socket as an error of the next send or
/// receive, usually `ConnectionRefused`. It does so once, and the socket remains usable. So do not
/// give up a socket because of one error.
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
/// A socket belongs to the thread that made it; [`into_std`](AsyncUdpSocket::into_std) moves it to
/// another:
///
/// ```compile_fail
/// fn must_be_send<T: Send>() {}
/// must_be_send::<fahrenheit::AsyncUdpSocket>();
/// ```
#[doc(alias = "UdpSocket")]
pub struct AsyncUdpSocket {
    socket: Registered<net::UdpSocket>,
}

impl AsyncUdpSocket {
    /// Binds to the first address of `addr` that is available; port 0 lets the system choose one.
    ///
    /// This function is not async, because binding does not wait; but a host *name* is looked up on
    /// this thread, which blocks it.
    ///
    /// # Errors
    /// The error of the look-up, or that of `bind(2)` for the last address tried: `AddrInUse` if
    /// another socket has it, `AddrNotAvailable` if this machine does not have the address,
    /// `PermissionDenied` for ports below 1,024 without the privilege.
    #[track_caller]
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<AsyncUdpSocket> {
        let addrs = addr::resolve_now(addr.target()?)?;
        if addrs.is_empty() {
            return Err(addr::no_address());
        }
        AsyncUdpSocket::from_std(above_stdio(net::UdpSocket::bind(&addrs[..])?)?)
    }

    /// Registers a socket that is non-blocking already.
    #[track_caller]
    fn adopt(socket: net::UdpSocket) -> io::Result<AsyncUdpSocket> {
        let socket = Registered::datagrams(socket)?;
        Ok(AsyncUdpSocket { socket })
    }

    /// Sets the peer that [`send`](AsyncUdpSocket::send) sends to: the first address of `addr` that
    /// the system accepts. From then on, only datagrams of this peer are received. Nothing is sent.
    ///
    /// Connecting again changes the peer. A host name is looked up in the blocking pool; addresses
    /// need no thread.
    ///
    /// # Errors
    /// The error of the look-up, or that of the last address tried, such as `NetworkUnreachable`.
    /// That no process receives there shows later, if at all.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the socket as it was.
    pub async fn connect(&self, addr: impl ToSocketAddrs) -> io::Result<()> {
        let addrs = addr::resolve(addr.target()?).await?;
        if addrs.is_empty() {
            return Err(addr::no_address());
        }
        self.socket.get_ref().connect(&addrs[..])
    }

    /// Sends one datagram to the peer set by [`connect`](AsyncUdpSocket::connect). Returns its
    /// length.
    ///
    /// Waits only while the system's own buffer is full.
    ///
    /// # Errors
    /// `EDESTADDRREQ` or `NotConnected` if the socket has no peer; `EMSGSIZE` if the datagram is
    /// longer than the system sends (at most 65,507 bytes over IPv4); once, the failure of an
    /// earlier datagram. If the network is slower than the sender, Linux waits or drops datagrams;
    /// macOS and the BSDs return `ENOBUFS`.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing has been sent.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let call = |socket: &net::UdpSocket| socket::send(socket, bytes);
        self.socket.write_with(call).await
    }

    /// [`send`](AsyncUdpSocket::send) for hand-written futures.
    ///
    /// # Errors
    /// The error of `send(2)`: `EDESTADDRREQ` or `NotConnected` if the socket has no peer,
    /// `EMSGSIZE` if the datagram is too long; once, the failure of an earlier datagram.
    pub fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let call = |socket: &net::UdpSocket| socket::send(socket, bytes);
        self.socket.poll_write_with(cx, call, |_| false)
    }

    /// Sends one datagram to `addr`. Returns its length.
    ///
    /// A host name is looked up in the blocking pool, on every call. Of several addresses, the
    /// first one of the socket's own family is used, and no other is tried.
    ///
    /// # Errors
    /// The error of the look-up; `EISCONN` on macOS and the BSDs if the socket is connected;
    /// `EMSGSIZE` if the datagram is longer than the system sends (at most 65,507 bytes over IPv4);
    /// once, the failure of an earlier datagram; `ENOBUFS` on macOS and the BSDs if the network is
    /// slower than the sender.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing has been sent.
    pub async fn send_to(&self, bytes: &[u8], addr: impl ToSocketAddrs) -> io::Result<usize> {
        let addrs = addr::resolve(addr.target()?).await?;
        let addr = match addrs[..] {
            [] => return Err(addr::no_address()),
            [addr] => addr,
            [first, ..] => {
                let is_ipv4 = self.local_addr()?.is_ipv4();
                let fitting = addrs.iter().find(|addr| addr.is_ipv4() == is_ipv4);
                *fitting.unwrap_or(&first)
            }
        };
        let call = |socket: &net::UdpSocket| socket.send_to(bytes, addr);
        self.socket.write_with(call).await
    }

    /// [`send_to`](AsyncUdpSocket::send_to) for hand-written futures.
    ///
    /// # Errors
    /// The error of `sendto(2)`: `EISCONN` on macOS and the BSDs if the socket is connected,
    /// `EMSGSIZE` if the datagram is too long; once, the failure of an earlier datagram.
    pub fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        addr: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        let call = |socket: &net::UdpSocket| socket.send_to(bytes, addr);
        self.socket.poll_write_with(cx, call, |_| false)
    }

    /// Receives one datagram. Returns its length, or that of `bytes` if the datagram was longer.
    ///
    /// # Errors
    /// `ConnectionRefused`, once, if an earlier datagram of this socket met a closed port.
    ///
    /// # Cancel safety
    /// No datagram is lost by dropping the future.
    pub async fn recv(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.socket.read_with(|socket| socket.recv(bytes)).await
    }

    /// [`recv`](AsyncUdpSocket::recv) for hand-written futures.
    ///
    /// # Errors
    /// `ConnectionRefused`, once, if an earlier datagram of this socket met a closed port.
    pub fn poll_recv(&self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        self.socket
            .poll_read_with(cx, |socket| socket.recv(bytes), |_| false)
    }

    /// Receives one datagram. Returns its length, or that of `bytes` if the datagram was longer,
    /// and the address of the sender.
    ///
    /// # Errors
    /// `ConnectionRefused`, once, if an earlier datagram of this socket met a closed port.
    ///
    /// # Cancel safety
    /// No datagram is lost by dropping the future.
    pub async fn recv_from(&self, bytes: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket
            .read_with(|socket| socket.recv_from(bytes))
            .await
    }

    /// [`recv_from`](AsyncUdpSocket::recv_from) for hand-written futures.
    ///
    /// # Errors
    /// `ConnectionRefused`, once, if an earlier datagram of this socket met a closed port.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::AsyncUdpSocket;
    /// use std::future::poll_fn;
    ///
    /// fahrenheit::run(async {
    ///     let a = AsyncUdpSocket::bind("127.0.0.1:0")?;
    ///     let b = AsyncUdpSocket::bind("127.0.0.1:0")?;
    ///     let (from, to) = (a.local_addr()?, b.local_addr()?);
    ///     let mut bytes = [0; 16];
    ///     poll_fn(|cx| a.poll_send_to(cx, b"one", to)).await?;
    ///     assert_eq!(poll_fn(|cx| b.poll_peek_from(cx, &mut bytes)).await?, (3, from));
    ///     assert_eq!(poll_fn(|cx| b.poll_recv_from(cx, &mut bytes)).await?, (3, from));
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.socket
            .poll_read_with(cx, |socket| socket.recv_from(bytes), |_| false)
    }

    /// Receives one datagram without consuming it: the next call receives it again.
    ///
    /// # Errors
    /// `ConnectionRefused`, once, if an earlier datagram of this socket met a closed port.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::AsyncUdpSocket;
    /// use std::future::poll_fn;
    ///
    /// fahrenheit::run(async {
    ///     let a = AsyncUdpSocket::bind("127.0.0.1:0")?;
    ///     let b = AsyncUdpSocket::bind("127.0.0.1:0")?;
    ///     a.connect(b.local_addr()?).await?;
    ///     b.connect(a.local_addr()?).await?;
    ///     let mut bytes = [0; 16];
    ///
    ///     poll_fn(|cx| a.poll_send(cx, b"one")).await?;
    ///     assert_eq!(b.peek(&mut bytes).await?, 3);
    ///     assert_eq!(b.peek_from(&mut bytes).await?, (3, a.local_addr()?));
    ///     assert_eq!(poll_fn(|cx| b.poll_recv(cx, &mut bytes)).await?, 3);
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.socket.read_with(|socket| socket.peek(bytes)).await
    }

    /// Receives one datagram without consuming it, and returns the address of the sender as well.
    ///
    /// # Errors
    /// `ConnectionRefused`, once, if an earlier datagram of this socket met a closed port.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn peek_from(&self, bytes: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket
            .read_with(|socket| socket.peek_from(bytes))
            .await
    }

    /// [`peek_from`](AsyncUdpSocket::peek_from) for hand-written futures.
    ///
    /// # Errors
    /// `ConnectionRefused`, once, if an earlier datagram of this socket met a closed port.
    pub fn poll_peek_from(
        &self,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.socket
            .poll_read_with(cx, |socket| socket.peek_from(bytes), |_| false)
    }

    /// Joins the multicast group `address` on the interface with the address `interface`
    /// (`IP_ADD_MEMBERSHIP`); `UNSPECIFIED` lets the system choose the interface.
    ///
    /// # Errors
    /// `InvalidInput` if `address` is not a multicast address; `ENODEV` if there is no such
    /// interface; `AddrInUse` if the socket is a member already.
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

    /// Leaves a group that was joined by [`join_multicast_v4`](AsyncUdpSocket::join_multicast_v4)
    /// with the same arguments.
    ///
    /// # Errors
    /// `AddrNotAvailable` if the socket is not a member.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::AsyncUdpSocket;
    ///
    /// let socket = AsyncUdpSocket::bind("0.0.0.0:0")?;
    /// socket.set_broadcast(true)?;
    /// socket.set_ttl(16)?;
    /// assert!(socket.broadcast()? && socket.ttl()? == 16);
    /// socket.set_multicast_ttl_v4(4)?;
    /// socket.set_multicast_loop_v4(false)?;
    /// assert!(socket.multicast_ttl_v4()? == 4 && !socket.multicast_loop_v4()?);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn leave_multicast_v4(&self, address: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.socket.get_ref().leave_multicast_v4(address, interface)
    }

    /// Joins the multicast group `address` on the interface with the index `interface`
    /// (`IPV6_JOIN_GROUP`); 0 lets the system choose the interface.
    ///
    /// # Errors
    /// `InvalidInput` if `address` is not a multicast address; `ENODEV` if there is no such
    /// interface; `AddrInUse` if the socket is a member already.
    ///
    /// # Examples
    /// ```no_run
    /// use fahrenheit::AsyncUdpSocket;
    /// use std::net::Ipv6Addr;
    ///
    /// let socket = AsyncUdpSocket::bind("[::]:0")?;
    /// let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x123);
    /// socket.set_multicast_loop_v6(false)?;
    /// assert!(!socket.multicast_loop_v6()?);
    /// socket.join_multicast_v6(&group, 0)?;
    /// socket.leave_multicast_v6(&group, 0)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn join_multicast_v6(&self, address: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.socket.get_ref().join_multicast_v6(address, interface)
    }

    /// Leaves a group that was joined by [`join_multicast_v6`](AsyncUdpSocket::join_multicast_v6)
    /// with the same arguments.
    ///
    /// # Errors
    /// `AddrNotAvailable` if the socket is not a member.
    pub fn leave_multicast_v6(&self, address: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.socket.get_ref().leave_multicast_v6(address, interface)
    }
}

impl_options! {
    AsyncUdpSocket { socket }:
    broadcast, set_broadcast: bool,
        "whether the socket may send to broadcast addresses", "SO_BROADCAST";
    ttl, set_ttl: u32,
        "the maximum number of routers that a datagram may pass, 1 to 255", "IP_TTL";
    multicast_ttl_v4, set_multicast_ttl_v4: u32,
        "the maximum number of routers that a datagram to a group may pass; with 1, the default, \
         it stays in the local network",
        "IP_MULTICAST_TTL";
    multicast_loop_v4, set_multicast_loop_v4: bool,
        "whether this machine receives its own datagrams to a group", "IP_MULTICAST_LOOP";
    multicast_loop_v6, set_multicast_loop_v6: bool,
        "whether this machine receives its own datagrams to a group over IPv6",
        "IPV6_MULTICAST_LOOP";
}

impl_socket!(AsyncUdpSocket { socket }, net::UdpSocket, SocketAddr);
impl_data_socket!(AsyncUdpSocket { socket }, net::UdpSocket, SocketAddr);
