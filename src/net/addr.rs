//! What can be connected to: addresses, or host names, which the blocking pool looks up.
//!
//! **Invariant.** An address is never looked up, so it needs no thread.

use crate::blocking::{Kind, submit};
use crate::event_loop::boundary;
use std::io;
use std::net::ToSocketAddrs as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Types that name what to connect to: addresses, or a host name and a port.
///
/// Implemented for [`SocketAddr`], [`SocketAddrV4`] and [`SocketAddrV6`], for slices, arrays and
/// vectors of `SocketAddr`, for `(IpAddr, u16)`, `(Ipv4Addr, u16)` and `(Ipv6Addr, u16)`, and for
/// `"host:port"` and `("host", port)`. A host that is a numeric address is not looked up. The trait
/// is sealed.
pub trait ToSocketAddrs: sealed::Sealed {}

pub(crate) mod sealed {
    use super::*;

    /// Addresses, or the host name and port to look up.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum Target {
        Addrs(Vec<SocketAddr>),
        Name(String, u16),
    }

    pub trait Sealed {
        fn target(&self) -> io::Result<Target>;
    }
}

use sealed::{Sealed, Target};

/// Looks up the addresses of `host` by the system's resolver, in the blocking pool.
///
/// Returns at least one address. A numeric address is returned without a look-up and without a
/// thread.
///
/// # Errors
/// If the name is unknown, the resolver fails, `host` has no port, or no thread can be started.
///
/// # Cancel safety
/// Dropping the future discards the result; the thread is free again once the resolver answers.
///
/// # Examples
/// ```
/// fahrenheit::run(async {
///     let mut addrs = fahrenheit::net::lookup_host("127.0.0.1:80").await?;
///     assert_eq!(addrs.next(), Some("127.0.0.1:80".parse().unwrap()));
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
pub async fn lookup_host(host: impl ToSocketAddrs) -> io::Result<impl Iterator<Item = SocketAddr>> {
    let addrs = resolve(host.target()?).await?;
    if addrs.is_empty() {
        Err(no_address())
    } else {
        Ok(addrs.into_iter())
    }
}

/// Returns the addresses of a target, after a look-up in the blocking pool if it is a name.
pub(crate) async fn resolve(target: Target) -> io::Result<Vec<SocketAddr>> {
    match target {
        Target::Addrs(addrs) => Ok(addrs),
        Target::Name(host, port) => {
            boundary::debug!("look up {host:?}");
            submit(Kind::Name, move || look_up(&host, port)).await?
        }
    }
}

/// Returns the addresses of a target, after a look-up on this thread if it is a name.
pub(crate) fn resolve_now(target: Target) -> io::Result<Vec<SocketAddr>> {
    match target {
        Target::Addrs(addrs) => Ok(addrs),
        Target::Name(host, port) => look_up(&host, port),
    }
}

fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// The error of a target that has no address.
pub(crate) fn no_address() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "could not resolve to any address",
    )
}

fn host_and_port(host: &str, port: u16) -> Target {
    match host.parse::<IpAddr>() {
        Ok(ip) => Target::Addrs(vec![SocketAddr::new(ip, port)]),
        Err(_) => Target::Name(host.to_owned(), port),
    }
}

macro_rules! addresses {
    ($($type:ty),*) => {$(
        impl ToSocketAddrs for $type {}
        impl Sealed for $type {
            fn target(&self) -> io::Result<Target> {
                Ok(Target::Addrs(vec![SocketAddr::from(*self)]))
            }
        }
    )*};
}

addresses!(
    SocketAddr,
    SocketAddrV4,
    SocketAddrV6,
    (IpAddr, u16),
    (Ipv4Addr, u16),
    (Ipv6Addr, u16)
);

impl ToSocketAddrs for [SocketAddr] {}
impl Sealed for [SocketAddr] {
    fn target(&self) -> io::Result<Target> {
        Ok(Target::Addrs(self.to_vec()))
    }
}

impl ToSocketAddrs for Vec<SocketAddr> {}
impl Sealed for Vec<SocketAddr> {
    fn target(&self) -> io::Result<Target> {
        Ok(Target::Addrs(self.clone()))
    }
}

impl<const N: usize> ToSocketAddrs for [SocketAddr; N] {}
impl<const N: usize> Sealed for [SocketAddr; N] {
    fn target(&self) -> io::Result<Target> {
        Ok(Target::Addrs(self.to_vec()))
    }
}

impl ToSocketAddrs for (&str, u16) {}
impl Sealed for (&str, u16) {
    fn target(&self) -> io::Result<Target> {
        Ok(host_and_port(self.0, self.1))
    }
}

impl ToSocketAddrs for (String, u16) {}
impl Sealed for (String, u16) {
    fn target(&self) -> io::Result<Target> {
        Ok(host_and_port(&self.0, self.1))
    }
}

impl ToSocketAddrs for str {}
impl Sealed for str {
    fn target(&self) -> io::Result<Target> {
        if let Ok(addr) = self.parse() {
            return Ok(Target::Addrs(vec![addr]));
        }
        let invalid = |what: &str| {
            let text = format!("{what} in {self:?}, expected \"host:port\"");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        };
        let (host, port) = self.rsplit_once(':').ok_or_else(|| invalid("no port"))?;
        let port = port.parse().map_err(|_| invalid("invalid port"))?;
        if host.is_empty() {
            return Err(invalid("no host"));
        }
        Ok(host_and_port(host, port))
    }
}

impl ToSocketAddrs for String {}
impl Sealed for String {
    fn target(&self) -> io::Result<Target> {
        self.as_str().target()
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {}
impl<T: ToSocketAddrs + ?Sized> Sealed for &T {
    fn target(&self) -> io::Result<Target> {
        (**self).target()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_hosts_are_never_looked_up() {
        for host in ["127.0.0.1:80", "[::1]:80"] {
            assert_eq!(
                host.target().unwrap(),
                Target::Addrs(vec![host.parse().unwrap()])
            );
        }
        let addrs = Target::Addrs(vec!["[::1]:80".parse().unwrap()]);
        assert_eq!(("::1", 80).target().unwrap(), addrs);
        assert_eq!("a:80".target().unwrap(), Target::Name("a".into(), 80));
    }

    #[test]
    fn a_host_without_a_good_port_is_invalid_input() {
        for host in [
            "localhost",
            "localhost:",
            "localhost:65536",
            "localhost:http",
            ":80",
            "",
        ] {
            let error = host.target().unwrap_err();
            assert_eq!(
                error.kind(),
                io::ErrorKind::InvalidInput,
                "{host:?}: {error}"
            );
            assert!(
                error.to_string().contains("expected \"host:port\""),
                "{error}"
            );
        }
    }
}
