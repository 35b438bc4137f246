//! What the socket types of this crate have in common, written once.
//!
//! Each macro takes a type and its field: a `Registered` socket of std, or what has its `get_ref`
//! and `into_inner`.

/// Implements what every socket type has, listeners included: `from_std`, `into_std`,
/// `into_blocking_std`, `local_addr`, `Debug`, `TryFrom`, `AsFd` and `AsRawFd`.
///
/// `$type::adopt` registers a socket of std that is non-blocking already.
macro_rules! impl_socket {
    ($type:ident { $field:ident }, $std:ty, $addr:ty) => {
        impl $type {
            /// Takes over a socket of std and makes it non-blocking.
            ///
            /// # Errors
            /// If `fcntl(2)` fails, or a [`RegisterError`](crate::RegisterError) if the descriptor
            /// is beyond what this system's `select` takes. The socket is closed then.
            #[track_caller]
            pub fn from_std(socket: $std) -> std::io::Result<$type> {
                socket.set_nonblocking(true)?;
                crate::sys::socket::silence(&socket)?;
                $type::adopt(socket)
            }

            /// Converts into a socket of std, which is still non-blocking.
            pub fn into_std(self) -> $std {
                self.$field.into_inner()
            }

            /// Converts into a socket of std that blocks, as std itself makes them.
            ///
            /// # Errors
            /// `fcntl(2)` fails only if other code closed the descriptor.
            pub fn into_blocking_std(self) -> std::io::Result<$std> {
                let socket = self.into_std();
                socket.set_nonblocking(false)?;
                Ok(socket)
            }

            /// Returns the address that this socket is bound to, with the port that the system
            /// chose if it was bound to port 0. A Unix socket need not have a name.
            ///
            /// # Errors
            /// `getsockname(2)` fails only if the system is short of memory.
            pub fn local_addr(&self) -> std::io::Result<$addr> {
                self.$field.get_ref().local_addr()
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.$field.get_ref().fmt(f)
            }
        }

        impl TryFrom<$std> for $type {
            type Error = std::io::Error;

            #[track_caller]
            fn try_from(socket: $std) -> std::io::Result<$type> {
                $type::from_std(socket)
            }
        }

        impl std::os::fd::AsFd for $type {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.$field.get_ref().as_fd()
            }
        }

        impl std::os::fd::AsRawFd for $type {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                self.$field.get_ref().as_raw_fd()
            }
        }
    };
}

/// Implements waiting for something to receive, and for room to send.
macro_rules! impl_readiness {
    ($type:ident { $field:ident }) => {
        impl $type {
            /// Waits until there is something to receive: data, the end, or an error.
            ///
            /// This is a hint: another task or process may receive it first.
            ///
            /// # Errors
            /// EBADF if other code closed the descriptor.
            ///
            /// # Cancel safety
            /// Nothing is lost by dropping the future.
            pub async fn readable(&self) -> std::io::Result<()> {
                self.$field.readable().await
            }

            /// Waits until the system has room for something to send, or sending would fail.
            ///
            /// This is a hint: another task or process may take the room first, and the receiver
            /// of a datagram over a Unix socket may have none.
            ///
            /// # Errors
            /// EBADF if other code closed the descriptor.
            ///
            /// # Cancel safety
            /// Nothing is lost by dropping the future.
            pub async fn writable(&self) -> std::io::Result<()> {
                self.$field.writable().await
            }

            /// Ready if there is something to receive right now: data, the end, or an error.
            /// Otherwise the task is woken once there is.
            ///
            /// Each call asks `select` about this socket. For a future, see
            /// [`readable`](Self::readable).
            ///
            /// # Errors
            /// EBADF if other code closed the descriptor.
            pub fn poll_readable(
                &self,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                self.$field.poll_readable(cx)
            }

            /// Ready if the system has room for something to send right now, or sending would fail.
            /// Otherwise the task is woken once it has.
            ///
            /// Each call asks `select` about this socket. For a future, see
            /// [`writable`](Self::writable).
            ///
            /// # Errors
            /// EBADF if other code closed the descriptor.
            pub fn poll_writable(
                &self,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                self.$field.poll_writable(cx)
            }
        }
    };
}

/// Implements what the sockets of std have that data is sent and received through: readiness,
/// `peer_addr`, `take_error`, and trying a call without waiting.
macro_rules! impl_data_socket {
    ($type:ident { $field:ident }, $std:ty, $addr:ty) => {
        $crate::net::common::impl_readiness!($type { $field });

        impl $type {
            /// Makes `call`, which receives from the socket, without waiting. `Interrupted` is
            /// retried.
            ///
            /// # Errors
            /// Every error that `call` returns, except `Interrupted`: `WouldBlock` if there is
            /// nothing to receive. EBADF if other code closed the descriptor.
            pub fn try_read_with<R>(
                &self,
                call: impl FnMut(&$std) -> std::io::Result<R>,
            ) -> std::io::Result<R> {
                self.$field.try_read_with(call)
            }

            /// Makes `call`, which sends through the socket, without waiting. `Interrupted` is
            /// retried.
            ///
            /// # Errors
            /// Every error that `call` returns, except `Interrupted`: `WouldBlock` if the system
            /// has no room. EBADF if other code closed the descriptor.
            pub fn try_write_with<R>(
                &self,
                call: impl FnMut(&$std) -> std::io::Result<R>,
            ) -> std::io::Result<R> {
                self.$field.try_write_with(call)
            }

            /// Returns the address of the peer that this socket is connected to. A Unix socket that
            /// connected usually has no name.
            ///
            /// # Errors
            /// `NotConnected` if there is no peer, or if a connection has been reset; on some
            /// systems `InvalidInput` after a reset.
            pub fn peer_addr(&self) -> std::io::Result<$addr> {
                self.$field.get_ref().peer_addr()
            }

            /// Returns and clears the error that the system has stored for this socket
            /// (`SO_ERROR`).
            ///
            /// # Errors
            /// `getsockopt(2)` fails only if the system is short of memory.
            pub fn take_error(&self) -> std::io::Result<Option<std::io::Error>> {
                self.$field.get_ref().take_error()
            }
        }
    };
}

/// Implements reading and writing bytes without waiting, for connections.
macro_rules! impl_try_io {
    ($type:ident { $field:ident }) => {
        impl $type {
            /// Reads what has arrived, without waiting. Returns 0 at the end.
            ///
            /// # Errors
            /// `WouldBlock` if nothing has arrived; ECONNRESET if the peer has reset the
            /// connection; other errors of `recv(2)`.
            pub fn try_read(&self, bytes: &mut [u8]) -> std::io::Result<usize> {
                self.$field.try_read(bytes)
            }

            /// Writes what the system has room for, without waiting. Returns the number of bytes.
            ///
            /// # Errors
            /// `WouldBlock` if there is no room; EPIPE or ECONNRESET if the peer has closed the
            /// connection; other errors of `send(2)`.
            pub fn try_write(&self, bytes: &[u8]) -> std::io::Result<usize> {
                self.$field.try_write(bytes)
            }
        }
    };
}

/// Implements a getter and a setter for each of the socket options listed, by the methods of std
/// that have these names.
macro_rules! impl_options {
    (
        $type:ident { $field:ident }:
        $($getter:ident, $setter:ident: $value:ty, $what:literal, $option:literal;)*
    ) => {
        impl $type {
            $(
                #[doc(alias = $option)]
                #[doc = concat!("Returns ", $what, " (`", $option, "`).")]
                ///
                /// # Errors
                /// `getsockopt(2)` fails if the system does not know the option.
                pub fn $getter(&self) -> std::io::Result<$value> {
                    self.$field.get_ref().$getter()
                }

                #[doc = concat!("Sets ", $what, " (`", $option, "`).")]
                ///
                /// # Errors
                /// `InvalidInput` if `setsockopt(2)` does not accept the value.
                pub fn $setter(&self, value: $value) -> std::io::Result<()> {
                    self.$field.get_ref().$setter(value)
                }
            )*
        }
    };
}

pub(super) use {impl_data_socket, impl_options, impl_readiness, impl_socket, impl_try_io};
