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
