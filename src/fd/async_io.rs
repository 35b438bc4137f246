//! The traits for reading and writing, implemented once for every type that has a `Registered`.

/// Implements `AsyncRead` or `AsyncWrite` for each of the types listed: that of futures-io and,
/// with feature `tokio-io`, that of tokio.
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

        #[cfg(feature = "tokio-io")]
        impl $(<$g: $bound>)? tokio::io::AsyncRead for $type {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buffer: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                let $this = self.get_mut();
                crate::sys::read_buf::fill_tokio(buffer, |unfilled| {
                    $io.poll_read_uninit(cx, unfilled)
                })
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

        #[cfg(feature = "tokio-io")]
        crate::fd::impl_tokio_write!([$($g: $bound)?], $type);
    )*};
}

/// Implements `poll_read_uninit` for each of the types listed. `$example` names one of them in the
/// example; `$this => $io` says which `Registered` does the work.
macro_rules! impl_read_uninit {
    (
        [$($type:ty $(where $g:ident: $bound:path)?),*],
        $example:literal, $this:ident => $io:expr
    ) => {$(
        impl $(<$g: $bound>)? $type {
            /// Polls for a read into memory that need not be initialised, and returns the part of
            /// `buffer` that was filled: nothing at the end. If it is pending, the task is woken
            /// once there is something to read.
            ///
            /// For adapters to crates whose buffers are not initialised. `poll_read` would have
            /// them cleared first, before each call.
            ///
            /// # Errors
            /// The error of `recv(2)` or `read(2)`: ECONNRESET if the peer has reset the
            /// connection. EBADF if other code closed the descriptor.
            ///
            /// # Cancel safety
            /// Bytes are taken only by the poll that returns them.
            ///
            /// # Examples
            /// ```
            /// use std::{future::poll_fn, mem::MaybeUninit};
            #[doc = concat!("use fahrenheit::", $example, " as Stream;")]
            ///
            /// async fn read(stream: &Stream) -> std::io::Result<Vec<u8>> {
            ///     let mut buffer = [MaybeUninit::uninit(); 4096];
            ///     poll_fn(|cx| {
            ///         stream.poll_read_uninit(cx, &mut buffer).map_ok(|filled| filled.to_vec())
            ///     })
            ///     .await
            /// }
            /// ```
            pub fn poll_read_uninit<'b>(
                &self,
                cx: &mut std::task::Context<'_>,
                buffer: &'b mut [std::mem::MaybeUninit<u8>],
            ) -> std::task::Poll<std::io::Result<&'b mut [u8]>> {
                let $this = self;
                let mut buffer = $crate::sys::uninit::Uninit::new(buffer);
                let polled = $io.poll_read_uninit(cx, &mut buffer);
                polled.map_ok(|_| buffer.into_filled())
            }
        }
    )*};
}

/// Implements tokio's `AsyncWrite` for a type that has that of futures-io.
#[cfg(feature = "tokio-io")]
macro_rules! impl_tokio_write {
    ([$($generics:tt)*], $type:ty $(, where $($bounds:tt)*)?) => {
        impl<$($generics)*> tokio::io::AsyncWrite for $type $(where $($bounds)*)? {
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bytes: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                futures_io::AsyncWrite::poll_write(self, cx, bytes)
            }

            fn poll_write_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                slices: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                futures_io::AsyncWrite::poll_write_vectored(self, cx, slices)
            }

            fn is_write_vectored(&self) -> bool {
                // So that callers do not copy their pieces into one buffer first.
                true
            }

            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                futures_io::AsyncWrite::poll_flush(self, cx)
            }

            fn poll_shutdown(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                futures_io::AsyncWrite::poll_close(self, cx)
            }
        }
    };
}

#[cfg(feature = "tokio-io")]
pub(crate) use impl_tokio_write;
pub(crate) use {impl_async_io, impl_read_uninit};
