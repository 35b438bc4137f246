//! Pipes, the standard streams, and copying both ways between two streams.
//!
//! Built on [`AsyncFd`]'s registration. Knows no task. **Invariant.** `O_NONBLOCK` is set only on
//! descriptors that were made here; those that the process was started with are shared with other
//! processes, so their flags are left as they are.

/// Implements `AsyncWrite` for a writer, or a reference to one, around something that writes and
/// that has nothing to flush.
macro_rules! writes {
    ($writer:ty) => {
        impl AsyncWrite for $writer {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.0.poll_write(cx, bytes)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.0.poll_write_vectored(cx, slices)
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
    };
}

mod copy;
mod pipe;
mod stdio;

pub use crate::fd::AsyncFd;
pub use copy::copy_bidirectional;
pub use pipe::{PipeReader, PipeWriter, pipe};
pub use stdio::{Stderr, Stdin, Stdout, stderr, stdin, stdout};
