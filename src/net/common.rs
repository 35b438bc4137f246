//! What every socket type here has alike.

/// Implements what a type owes to the socket of std that is in its field: `Debug`, `TryFrom`,
/// `AsFd` and `AsRawFd`.
macro_rules! wraps {
    ($type:ident, $($io:ident).+, $std:ty) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.$($io).+.fmt(f)
            }
        }

        impl TryFrom<$std> for $type {
            type Error = std::io::Error;

            fn try_from(socket: $std) -> std::io::Result<$type> {
                $type::from_std(socket)
            }
        }

        impl std::os::fd::AsFd for $type {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.$($io).+.as_fd()
            }
        }

        impl std::os::fd::AsRawFd for $type {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                self.$($io).+.as_raw_fd()
            }
        }
    };
}

pub(super) use wraps;
