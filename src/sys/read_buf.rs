//! Reading into the buffers of tokio and hyper, whose unfilled part need not be initialised.
//!
//! Both are told afterwards how much was filled, which only an [`Uninit`] can vouch for.

use super::uninit::Uninit;
use std::io;
use std::task::{Poll, ready};

/// Lets `read` read into the unfilled part of `buffer`, and counts what it has filled.
#[cfg(feature = "tokio-io")]
pub(crate) fn fill_tokio(
    buffer: &mut tokio::io::ReadBuf<'_>,
    read: impl FnOnce(&mut Uninit<'_>) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<()>> {
    // SAFETY: an `Uninit` never makes an initialised byte uninitialised.
    let mut unfilled = Uninit::new(unsafe { buffer.unfilled_mut() });
    ready!(read(&mut unfilled))?;
    let n_filled = unfilled.n_filled();
    // SAFETY: the invariant of `Uninit` is that this many bytes are initialised.
    unsafe { buffer.assume_init(n_filled) };
    buffer.advance(n_filled);
    Poll::Ready(Ok(()))
}

/// Lets `read` read into the unfilled part of `buffer`, and counts what it has filled.
#[cfg(feature = "hyper")]
pub(crate) fn fill_hyper(
    mut buffer: hyper::rt::ReadBufCursor<'_>,
    read: impl FnOnce(&mut Uninit<'_>) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<()>> {
    // SAFETY: an `Uninit` never makes an initialised byte uninitialised.
    let mut unfilled = Uninit::new(unsafe { buffer.as_mut() });
    ready!(read(&mut unfilled))?;
    let n_filled = unfilled.n_filled();
    // SAFETY: the invariant of `Uninit` is that this many bytes are initialised.
    unsafe { buffer.advance(n_filled) };
    Poll::Ready(Ok(()))
}
