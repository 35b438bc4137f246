//! The traits for reading and writing, implemented once for every type that has a `Registered`.

/// Implements `AsyncRead` or `AsyncWrite` of futures-io for each of the types listed.
///
/// `$this => $io` names the value and says which `Registered` in it does the work. Nothing is
/// buffered there, so `flush` has nothing to do. `close` evaluates `$close`, an `io::Result<()>`.
macro_rules! impl_async_io {
    (AsyncRead for [$($type:ty $(where $g:ident: $bound:path)?),*], $this:ident => $io:expr) => {$(
        impl $(<$g: $bound>)? futures_io::AsyncRead for $type {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bytes: &mut [u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let $this = self.get_mut();
                $io.poll_read(cx, bytes)
            }

            fn poll_read_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                slices: &mut [std::io::IoSliceMut<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let $this = self.get_mut();
                $io.poll_read_vectored(cx, slices)
            }
        }
    )*};
    (
        AsyncWrite for [$($type:ty $(where $g:ident: $bound:path)?),*],
        $this:ident => $io:expr, close => $close:expr
    ) => {$(
        impl $(<$g: $bound>)? futures_io::AsyncWrite for $type {
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bytes: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let $this = self.get_mut();
                $io.poll_write(cx, bytes)
            }

            fn poll_write_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                slices: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let $this = self.get_mut();
                $io.poll_write_vectored(cx, slices)
            }

            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                _cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::task::Poll::Ready(Ok(()))
            }

            fn poll_close(
                self: std::pin::Pin<&mut Self>,
                _cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                #[allow(unused_variables, reason = "closing may have nothing to do")]
                let $this = self.get_mut();
                std::task::Poll::Ready($close)
            }
        }
    )*};
}
pub(crate) use impl_async_io;
