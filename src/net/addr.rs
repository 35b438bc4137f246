//! Names and addresses. Names are looked up in the blocking pool; addresses never go there.

use crate::blocking::{Kind, submit};
use crate::event_loop::boundary;
use std::io;
use std::net::ToSocketAddrs as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// What a connection can be made to: addresses, or a host name and a port.
///
/// Implemented for [`SocketAddr`] and its kin, for slices of it, for `(IpAddr, u16)` and its kin,
/// and for `"host:port"` and `("host", port)`. A host that is a numeric address is not looked up.
/// The trait is sealed.
pub trait ToSocketAddrs: sealed::Sealed {}

pub(crate) mod sealed {
    use super::*;

    /// Addresses, or what has to be looked up to get them.
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

/// The addresses of `host`, looked up by the system's resolver in the blocking pool.
///
/// At least one address is returned. Numeric addresses are returned without a look-up, and without
/// a thread.
///
/// # Errors
/// If the name is unknown, the resolver fails, `host` has no port, or no thread can be had.
///
/// # Cancel safety
/// Dropping the future forgets the look-up; its thread is free again once the resolver answers.
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
        Err(none())
    } else {
        Ok(addrs.into_iter())
    }
}

/// The addresses of a target.
pub(crate) async fn resolve(target: Target) -> io::Result<Vec<SocketAddr>> {
    match target {
        Target::Addrs(addrs) => Ok(addrs),
        Target::Name(host, port) => {
            boundary::debug!("look up {host:?}");
            submit(Kind::Name, move || look_up(&host, port)).await?
        }
    }
}

/// As [`resolve`], on this thread, whatever it costs.
pub(crate) fn resolve_now(target: Target) -> io::Result<Vec<SocketAddr>> {
    match target {
        Target::Addrs(addrs) => Ok(addrs),
        Target::Name(host, port) => look_up(&host, port),
    }
}

fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// What is wrong with a target that has no address.
pub(crate) fn none() -> io::Error {
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
    fn h5_numeric_hosts_are_never_looked_up() {
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
