//! What the tests of the kinds of faults share.

use crate::util::{round_trip, tcp_pair};
use fahrenheit::prelude::*;
use fahrenheit::time::timeout;
use fahrenheit::{AsyncFd, AsyncTcpStream, spawn};
use nix::libc;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

pub(crate) const MS: Duration = Duration::from_millis(1);
/// Longer than anything here takes on a slow machine.
pub(crate) const LONG: Duration = Duration::from_secs(10);

/// The ends of a new pipe, to read and to write. `std::io::pipe` needs Rust 1.87.
pub(crate) fn blocking_pipe() -> (File, File) {
    let (read, write) = nix::unistd::pipe().unwrap();
    (read.into(), write.into())
}

/// The descriptor that a system call has returned.
pub(crate) fn made(fd: libc::c_int) -> OwnedFd {
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the call of the caller has just made this descriptor, and nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

pub(crate) fn check(outcome: libc::c_int) -> libc::c_int {
    assert!(outcome >= 0, "{}", io::Error::last_os_error());
    outcome
}

pub(crate) fn set_option(fd: impl AsFd, name: libc::c_int, value: libc::c_int) {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the option is one int, and the call gets the address and the size of one.
    check(unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            name,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    });
}

/// Waits until `fd` has something to read, and reads once. There has to be something.
pub(crate) async fn read_once(fd: &AsyncFd<File>, buffer: &mut [u8]) -> usize {
    let read = fd.read_with(|mut file| file.read(buffer));
    let outcome = timeout(LONG, read).await;
    outcome.expect("there is something to read").unwrap()
}

/// Waits for a moment; there must be nothing to read.
pub(crate) async fn expect_nothing(fd: &AsyncFd<File>) {
    let read = fd.read_with(|mut file| file.read(&mut [0; 64]));
    assert!(timeout(MS, read).await.is_err());
}

/// A stream that the kernel's queue watches by now, if there is one, and its peer.
pub(crate) async fn tenured_pair() -> (AsyncTcpStream, AsyncTcpStream) {
    let (mut near, mut far) = tcp_pair();
    let echo = spawn(async move {
        let mut byte = [0];
        for _ in 0..20 {
            far.read_exact(&mut byte).await.unwrap();
            far.write_all(&byte).await.unwrap();
        }
        far
    });
    for _ in 0..20 {
        round_trip(&mut near).await;
    }
    (near, echo.await.unwrap())
}
