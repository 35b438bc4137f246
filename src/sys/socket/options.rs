//! Options of sockets that std does not offer.

use nix::libc;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use std::io;
use std::os::fd::AsFd;

// Counts in seconds. The option of this name on Apple's systems counts in hundredths of a second.
#[cfg(not(target_vendor = "apple"))]
use sockopt::Linger;
#[cfg(target_vendor = "apple")]
use sockopt::LingerSec as Linger;

/// Sets how long `close` waits for unsent data, in seconds. `None`: the system sends it in the
/// background. Zero: it is discarded, and the connection is reset.
pub(crate) fn set_linger(socket: impl AsFd, linger: Option<u64>) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: linger.is_some().into(),
        // An `int` on most systems, an `unsigned short` on Cygwin.
        l_linger: linger
            .unwrap_or(0)
            .try_into()
            .unwrap_or(libc::c_ushort::MAX.into()),
    };
    Ok(setsockopt(&socket, Linger, &linger)?)
}

/// Returns how long `close` waits for unsent data, in seconds.
pub(crate) fn linger(socket: impl AsFd) -> io::Result<Option<u64>> {
    let linger = getsockopt(&socket, Linger)?;
    Ok((linger.l_onoff != 0).then(|| u64::try_from(linger.l_linger).unwrap_or(0)))
}

/// Enables or disables keepalive probes.
pub(crate) fn set_keepalive(socket: impl AsFd, on: bool) -> io::Result<()> {
    Ok(setsockopt(&socket, sockopt::KeepAlive, &on)?)
}

/// Returns whether keepalive probes are enabled.
pub(crate) fn keepalive(socket: impl AsFd) -> io::Result<bool> {
    Ok(getsockopt(&socket, sockopt::KeepAlive)?)
}

/// Sets whether the address can be bound while connections of an earlier socket linger.
pub(crate) fn set_reuseaddr(socket: impl AsFd, on: bool) -> io::Result<()> {
    Ok(setsockopt(&socket, sockopt::ReuseAddr, &on)?)
}

/// Returns whether the address can be bound while connections of an earlier socket linger.
pub(crate) fn reuseaddr(socket: impl AsFd) -> io::Result<bool> {
    Ok(getsockopt(&socket, sockopt::ReuseAddr)?)
}

/// Sets whether several sockets may be bound to one address.
pub(crate) fn set_reuseport(socket: impl AsFd, on: bool) -> io::Result<()> {
    reuseport::set(socket, on)
}

/// Returns whether several sockets may be bound to one address.
pub(crate) fn reuseport(socket: impl AsFd) -> io::Result<bool> {
    reuseport::get(socket)
}

/// Sets the size of the buffer for data that has not been read yet.
pub(crate) fn set_recv_buffer_size(socket: impl AsFd, n_bytes: u32) -> io::Result<()> {
    let n_bytes = usize::try_from(n_bytes).unwrap_or(usize::MAX);
    Ok(setsockopt(&socket, sockopt::RcvBuf, &n_bytes)?)
}

/// Returns the size of the buffer for data that has not been read yet.
pub(crate) fn recv_buffer_size(socket: impl AsFd) -> io::Result<u32> {
    let n_bytes = getsockopt(&socket, sockopt::RcvBuf)?;
    Ok(u32::try_from(n_bytes).unwrap_or(u32::MAX))
}

/// Sets the size of the buffer for data that has not been sent yet.
pub(crate) fn set_send_buffer_size(socket: impl AsFd, n_bytes: u32) -> io::Result<()> {
    let n_bytes = usize::try_from(n_bytes).unwrap_or(usize::MAX);
    Ok(setsockopt(&socket, sockopt::SndBuf, &n_bytes)?)
}

/// Returns the size of the buffer for data that has not been sent yet.
pub(crate) fn send_buffer_size(socket: impl AsFd) -> io::Result<u32> {
    let n_bytes = getsockopt(&socket, sockopt::SndBuf)?;
    Ok(u32::try_from(n_bytes).unwrap_or(u32::MAX))
}

/// `SO_REUSEPORT`, which `nix` does not offer on every system.
#[cfg(not(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin")))]
mod reuseport {
    use super::{AsFd, getsockopt, io, setsockopt, sockopt};

    pub(super) fn set(socket: impl AsFd, on: bool) -> io::Result<()> {
        Ok(setsockopt(&socket, sockopt::ReusePort, &on)?)
    }

    pub(super) fn get(socket: impl AsFd) -> io::Result<bool> {
        Ok(getsockopt(&socket, sockopt::ReusePort)?)
    }
}

#[cfg(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin"))]
mod reuseport {
    use super::{AsFd, io};

    pub(super) fn set(_socket: impl AsFd, _on: bool) -> io::Result<()> {
        Err(nix::errno::Errno::ENOPROTOOPT.into())
    }

    pub(super) fn get(_socket: impl AsFd) -> io::Result<bool> {
        Err(nix::errno::Errno::ENOPROTOOPT.into())
    }
}
