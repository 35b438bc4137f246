//! The traits that a [`Local`] has because its value has them.
//!
//! Each method checks the thread, by `as_pin_mut` or `deref`, and then calls that of the value.

use super::Local;
use futures_io::{AsyncBufRead, AsyncRead, AsyncSeek, AsyncWrite};
use futures_util::stream::Stream;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Implements a trait for `Local<T>` if `T` has it. In the first braces are the associated type and
/// the methods that take the value pinned, in the second those that take a reference to it.
///
/// Every method of the trait must be listed, also those with a default: the default would work
/// without the methods of the value, and without looking at the thread.
macro_rules! forward {
    (
        $trait:path {
            $(type $type:ident;)?
            $(fn $method:ident($($name:ident: $argument:ty),*) $(-> $output:ty)?;)*
        } {
            $(fn $getter:ident() -> $value:ty;)*
        }
    ) => {
        impl<T: $trait> $trait for Local<T> {
            $(type $type = T::$type;)?

            $(
                #[track_caller]
                fn $method(self: Pin<&mut Self>, $($name: $argument),*) $(-> $output)? {
                    self.get_mut().as_pin_mut().$method($($name),*)
                }
            )*

            $(
                #[track_caller]
                fn $getter(&self) -> $value {
                    T::$getter(self)
                }
            )*
        }
    };
}

forward!(Future {
    type Output;
    fn poll(cx: &mut Context<'_>) -> Poll<T::Output>;
} {});

forward!(Stream {
    type Item;
    fn poll_next(cx: &mut Context<'_>) -> Poll<Option<T::Item>>;
} {
    fn size_hint() -> (usize, Option<usize>);
});

forward!(AsyncRead {
    fn poll_read(cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>>;
    fn poll_read_vectored(
        cx: &mut Context<'_>,
        slices: &mut [IoSliceMut<'_>]
    ) -> Poll<io::Result<usize>>;
} {});

forward!(AsyncBufRead {
    fn poll_fill_buf(cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>>;
    fn consume(n_bytes: usize);
} {});

forward!(AsyncSeek {
    fn poll_seek(cx: &mut Context<'_>, position: SeekFrom) -> Poll<io::Result<u64>>;
} {});

forward!(AsyncWrite {
    fn poll_write(cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
    fn poll_write_vectored(
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>]
    ) -> Poll<io::Result<usize>>;
    fn poll_flush(cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_close(cx: &mut Context<'_>) -> Poll<io::Result<()>>;
} {});

forward!(AsFd {} {
    fn as_fd() -> BorrowedFd<'_>;
});

#[cfg(feature = "tokio-io")]
forward!(tokio::io::AsyncRead {
    fn poll_read(
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>
    ) -> Poll<io::Result<()>>;
} {});

// hyper demands that a connection is `Send` before it can be upgraded to another protocol.
#[cfg(feature = "hyper")]
forward!(hyper::rt::Read {
    fn poll_read(
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>
    ) -> Poll<io::Result<()>>;
} {});

/// Implements a trait for writing of tokio or hyper, which have the same methods.
#[cfg(any(feature = "tokio-io", feature = "hyper"))]
macro_rules! forward_write {
    ($trait:path) => {
        forward!($trait {
            fn poll_write(cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
            fn poll_write_vectored(
                cx: &mut Context<'_>,
                slices: &[IoSlice<'_>]
            ) -> Poll<io::Result<usize>>;
            fn poll_flush(cx: &mut Context<'_>) -> Poll<io::Result<()>>;
            fn poll_shutdown(cx: &mut Context<'_>) -> Poll<io::Result<()>>;
        } {
            fn is_write_vectored() -> bool;
        });
    };
}

#[cfg(feature = "tokio-io")]
forward_write!(tokio::io::AsyncWrite);
#[cfg(feature = "hyper")]
forward_write!(hyper::rt::Write);
