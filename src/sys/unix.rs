//! Which Unix this is, and what its error numbers mean. Makes no system call.
//!
//! Every rule is a method of [`Unix`], so that tests on one system check the rules of all.

use super::Errno;
use nix::libc;

/// Systems that differ from the others in a rule of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unix {
    /// Linux and Android, whatever the libc.
    Linux,
    /// macOS and its relatives.
    Apple,
    /// FreeBSD and DragonFly BSD, which agree in these rules.
    FreeBsd,
    /// NetBSD, on any processor.
    NetBsd,
    /// OpenBSD, on any processor.
    OpenBsd,
    /// illumos, Solaris, AIX, Haiku, the Hurd, Cygwin…: only what POSIX promises is relied on.
    Other,
}

/// The Unix that this crate is compiled for.
///
/// With `--cfg fahrenheit_unix="..."` Linux keeps to the rules of another system, so that tests can
/// run the code that they decide about.
pub(crate) const HERE: Unix = if cfg!(fahrenheit_unix = "apple") {
    Unix::Apple
} else if cfg!(fahrenheit_unix = "freebsd") {
    Unix::FreeBsd
} else if cfg!(fahrenheit_unix = "netbsd") {
    Unix::NetBsd
} else if cfg!(fahrenheit_unix = "openbsd") {
    Unix::OpenBsd
} else if cfg!(fahrenheit_unix = "illumos") {
    Unix::Other
} else if cfg!(any(target_os = "linux", target_os = "android")) {
    Unix::Linux
} else if cfg!(target_vendor = "apple") {
    Unix::Apple
} else if cfg!(any(target_os = "freebsd", target_os = "dragonfly")) {
    Unix::FreeBsd
} else if cfg!(target_os = "netbsd") {
    Unix::NetBsd
} else if cfg!(target_os = "openbsd") {
    Unix::OpenBsd
} else {
    Unix::Other
};

/// Compiles its items on systems that set O_NONBLOCK and FD_CLOEXEC in the call that makes a
/// descriptor. This is the only list of them.
///
/// With `--cfg fahrenheit_plain_flags` there are none, so that Linux can test what the others do.
macro_rules! if_atomic_flags {
    ($($item:item)*) => {
        $(
            #[cfg(all(
                not(fahrenheit_plain_flags),
                any(
                    target_os = "linux",
                    target_os = "android",
                    target_os = "freebsd",
                    target_os = "dragonfly",
                    target_os = "netbsd",
                    target_os = "openbsd",
                    target_os = "illumos",
                    target_os = "solaris",
                    target_os = "hurd",
                    target_os = "cygwin",
                )
            ))]
            $item
        )*
    };
}
pub(super) use if_atomic_flags;

impl Unix {
    /// Returns the first descriptor number that `select` cannot take; `None` if there is no limit.
    ///
    /// Linux, macOS (by its symbol without a limit) and the BSDs copy as much of a set as the
    /// `nfds` argument says. On all others a set is taken to have no more than the `set_bytes` of
    /// an `fd_set`: 65,536 descriptors on 64-bit illumos and Solaris, 256 on the Hurd.
    pub(crate) const fn select_limit(self, set_bytes: usize) -> Option<usize> {
        match self {
            Unix::Linux | Unix::Apple | Unix::FreeBsd | Unix::NetBsd | Unix::OpenBsd => None,
            Unix::Other => Some(8 * set_bytes),
        }
    }

    /// Returns what an errno of `connect`, or of a call that asks for its outcome, means.
    ///
    /// OpenBSD returns EINVAL when it is asked a second time about a refusal; macOS, if the peer is
    /// gone before `getpeername`.
    pub(crate) fn connect_error(self, errno: Errno) -> Errno {
        match (self, errno) {
            (Unix::OpenBsd | Unix::Apple, Errno::EINVAL) => Errno::ECONNREFUSED,
            _ => errno,
        }
    }

    /// Returns whether `send` waits on a blocking socket in spite of `MSG_DONTWAIT`. macOS obeys
    /// the flag only in calls that receive.
    pub(crate) const fn waits_despite_dontwait(self) -> bool {
        matches!(self, Unix::Apple)
    }

    /// Returns whether an errno of a write to a connection means that the system is short of
    /// network buffers at the moment. On other systems, ENOBUFS is an error like any other.
    pub(crate) fn is_out_of_buffers(self, errno: Errno) -> bool {
        self == Unix::Apple && errno == Errno::ENOBUFS
    }

    /// Returns whether `accept` loses the connection when it fails because no descriptor is free.
    pub(crate) const fn loses_connection_without_free_fd(self) -> bool {
        matches!(self, Unix::Apple)
    }

    /// Returns what an errno of receiving descriptors means: macOS returns EMSGSIZE if the process
    /// may open no more of them.
    #[cfg(any(test, feature = "unix"))]
    pub(crate) fn receive_fds_error(self, errno: Errno) -> Errno {
        match (self, errno) {
            (Unix::Apple, Errno::EMSGSIZE) => Errno::EMFILE,
            _ => errno,
        }
    }

    /// Returns what an errno of `send` means: macOS returns EPROTOTYPE if the peer closes the
    /// connection during the call.
    pub(crate) fn write_error(self, errno: Errno) -> Errno {
        match (self, errno) {
            (Unix::Apple, Errno::EPROTOTYPE) => Errno::ECONNRESET,
            _ => errno,
        }
    }

    /// Returns whether the kernel's queue works for sockets only.
    ///
    /// That of macOS reports the data in a named pipe but never its end, and does not take
    /// `/dev/tty`; older releases took other terminals and then reported nothing about them.
    #[allow(dead_code, reason = "only kqueue asks")]
    pub(crate) const fn queues_sockets_only(self) -> bool {
        matches!(self, Unix::Apple)
    }

    /// Returns whether an errno of sending a datagram over a Unix socket means that the receiver's
    /// queue is full: ENOBUFS on macOS and the BSDs. The others return EAGAIN.
    #[cfg(any(test, feature = "unix"))]
    pub(crate) fn receiver_is_full(self, errno: Errno) -> bool {
        let is_bsd = !matches!(self, Unix::Linux | Unix::Other);
        is_bsd && errno == Errno::ENOBUFS
    }
}

/// Returns whether the connection may still be made after this errno of `connect`.
///
/// A signal does not stop a connection that is under way. EISCONN and EALREADY mean that the system
/// has come further than the last call said. macOS returns EISCONN for refused connections, too, so
/// the outcome still has to be asked for.
pub(crate) fn is_connecting(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EINPROGRESS | Errno::EINTR | Errno::EISCONN | Errno::EALREADY
    )
}

/// The first descriptor number that `select` cannot take on this system.
pub(crate) const SELECT_LIMIT: Option<usize> = HERE.select_limit(FD_SET_BYTES);

/// The size of an `fd_set`; under the rules of illumos, the size that it has there.
const FD_SET_BYTES: usize = match cfg!(fahrenheit_unix = "illumos") {
    true => 8_192,
    false => size_of::<libc::fd_set>(),
};

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Unix; 6] = [
        Unix::Linux,
        Unix::Apple,
        Unix::FreeBsd,
        Unix::NetBsd,
        Unix::OpenBsd,
        Unix::Other,
    ];

    /// The systems on which `rule` turns `errno` into something else, and into what.
    fn changes(rule: fn(Unix, Errno) -> Errno, errno: Errno) -> Vec<(Unix, Errno)> {
        let outcomes = ALL.map(|unix| (unix, rule(unix, errno)));
        outcomes.into_iter().filter(|&(_, e)| e != errno).collect()
    }

    #[test]
    fn einval_of_connect_is_a_refusal_on_openbsd_and_macos_only() {
        let refused = Errno::ECONNREFUSED;
        assert_eq!(
            changes(Unix::connect_error, Errno::EINVAL),
            [(Unix::Apple, refused), (Unix::OpenBsd, refused)]
        );
        for errno in [Errno::ECONNREFUSED, Errno::ETIMEDOUT, Errno::EPROTOTYPE] {
            assert_eq!(changes(Unix::connect_error, errno), []);
        }
    }

    #[test]
    fn eprototype_of_send_is_a_reset_on_macos_only() {
        assert_eq!(
            changes(Unix::write_error, Errno::EPROTOTYPE),
            [(Unix::Apple, Errno::ECONNRESET)]
        );
        for errno in [Errno::EAGAIN, Errno::EINVAL, Errno::EPIPE, Errno::ENOBUFS] {
            assert_eq!(changes(Unix::write_error, errno), []);
        }
    }

    #[test]
    fn emsgsize_of_received_descriptors_means_that_none_is_free_on_macos_only() {
        let rule = Unix::receive_fds_error;
        let changed = [(Unix::Apple, Errno::EMFILE)];
        assert_eq!(changes(rule, Errno::EMSGSIZE), changed);
        assert_eq!(changes(rule, Errno::ECONNRESET), []);
    }

    #[test]
    fn only_macos_waits_despite_dontwait_runs_out_of_buffers_and_loses_connections() {
        let rules: [fn(Unix) -> bool; 3] = [
            Unix::waits_despite_dontwait,
            |unix| unix.is_out_of_buffers(Errno::ENOBUFS),
            Unix::loses_connection_without_free_fd,
        ];
        for rule in rules {
            assert_eq!(ALL.map(rule), ALL.map(|unix| unix == Unix::Apple));
        }
        assert!(!Unix::Apple.is_out_of_buffers(Errno::ENOMEM));
    }

    #[test]
    fn enobufs_of_a_datagram_is_a_full_receiver_on_macos_and_the_bsds_only() {
        let full = ALL.map(|unix| unix.receiver_is_full(Errno::ENOBUFS));
        assert_eq!(full, [false, true, true, true, true, false]);
        assert!(!ALL.iter().any(|unix| unix.receiver_is_full(Errno::ENOMEM)));
    }

    #[test]
    fn a_connection_is_under_way_after_four_errnos_and_no_other() {
        let under_way: Vec<Errno> = (1..200)
            .map(Errno::from_raw)
            .filter(|&errno| is_connecting(errno))
            .collect();
        let four = [
            Errno::EINTR,
            Errno::EISCONN,
            Errno::EALREADY,
            Errno::EINPROGRESS,
        ];
        assert!(four.iter().all(|errno| under_way.contains(errno)));
        assert_eq!(under_way.len(), four.len(), "{under_way:?}");
    }

    #[test]
    fn only_macos_keeps_pipes_and_terminals_out_of_its_queue() {
        let careful = ALL.map(|unix| (unix, unix.queues_sockets_only()));
        let careful = careful
            .into_iter()
            .filter(|&(_, sockets_only)| sockets_only);
        assert_eq!(careful.collect::<Vec<_>>(), [(Unix::Apple, true)]);
    }

    #[test]
    fn only_systems_that_size_the_set_by_nfds_are_without_limit() {
        let capped = ALL.map(|unix| (unix, unix.select_limit(32)));
        let capped = capped.into_iter().filter(|(_, limit)| limit.is_some());
        assert_eq!(capped.collect::<Vec<_>>(), [(Unix::Other, Some(256))]);
        // 64-bit illumos: an `fd_set` of 8 KiB.
        assert_eq!(Unix::Other.select_limit(8_192), Some(65_536));
        if HERE == Unix::Linux {
            assert_eq!(SELECT_LIMIT, None);
        }
    }
}
