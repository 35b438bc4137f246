//! Which Unix this is, and what its odd error numbers mean. Pure: no system call is made here.
//!
//! Every rule takes the Unix as an argument, so that the tests run all of them on any one.

use super::Errno;
use nix::libc;

/// Systems that differ from the others in a rule of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unix {
    /// Linux and Android, whatever the libc.
    Linux,
    /// macOS and its relatives.
    Apple,
    /// FreeBSD and DragonFly.
    FreeBsd,
    NetBsd,
    OpenBsd,
    /// illumos, Solaris, AIX, Haiku, the Hurd, Cygwin…: nothing is taken for granted.
    Other,
}

/// The Unix that this is compiled for.
pub(crate) const HERE: Unix = if cfg!(any(target_os = "linux", target_os = "android")) {
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

/// Which systems take the flags along when a descriptor is made: the one list of them.
///
/// `--cfg fahrenheit_plain_flags` denies them everywhere, so that Linux can test what the others
/// do.
macro_rules! where_flags_come_along {
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
pub(super) use where_flags_come_along;

impl Unix {
    /// The first descriptor number that `select` cannot take; `None` where there is no limit.
    ///
    /// Linux, macOS (by its unlimited symbol) and the BSDs size their copy by the `nfds` that they
    /// are given. All others are held to their `fd_set`, of `set_bytes`: 65,536 descriptors on
    /// 64-bit illumos and Solaris, 256 on the Hurd.
    pub(crate) const fn select_limit(self, set_bytes: usize) -> Option<usize> {
        match self {
            Unix::Linux | Unix::Apple | Unix::FreeBsd | Unix::NetBsd | Unix::OpenBsd => None,
            Unix::Other => Some(8 * set_bytes),
        }
    }

    /// What an errno of `connect`, or of a question about its outcome, means.
    ///
    /// OpenBSD says EINVAL when asked again about a refusal; macOS, when the peer has gone before
    /// `getpeername`.
    pub(crate) fn connect_error(self, errno: Errno) -> Errno {
        match (self, errno) {
            (Unix::OpenBsd | Unix::Apple, Errno::EINVAL) => Errno::ECONNREFUSED,
            _ => errno,
        }
    }

    /// Whether `send` waits on a blocking socket in spite of `MSG_DONTWAIT`. macOS heeds the flag
    /// only when it receives.
    pub(crate) const fn waits_despite_dontwait(self) -> bool {
        matches!(self, Unix::Apple)
    }

    /// Whether an errno of a write to a connection means that the system is short of network
    /// buffers for the moment. Elsewhere, ENOBUFS is an error like others.
    pub(crate) fn is_out_of_buffers(self, errno: Errno) -> bool {
        self == Unix::Apple && errno == Errno::ENOBUFS
    }

    /// Whether `accept` loses the connection when it fails because no descriptor is free.
    pub(crate) const fn loses_connection_without_free_fd(self) -> bool {
        matches!(self, Unix::Apple)
    }

    /// What an errno of receiving descriptors means: macOS returns EMSGSIZE if the process may open
    /// no more of them.
    pub(crate) fn receive_fds_error(self, errno: Errno) -> Errno {
        match (self, errno) {
            (Unix::Apple, Errno::EMSGSIZE) => Errno::EMFILE,
            _ => errno,
        }
    }

    /// What an errno of `send` means: macOS says EPROTOTYPE to a write that races with the peer's
    /// close.
    pub(crate) fn write_error(self, errno: Errno) -> Errno {
        match (self, errno) {
            (Unix::Apple, Errno::EPROTOTYPE) => Errno::ECONNRESET,
            _ => errno,
        }
    }

    /// Whether the kernel's queue can be trusted with sockets only.
    ///
    /// macOS's tells of the data in a named pipe and never of its end, does not take `/dev/tty`,
    /// and older releases took other terminals and then said nothing of them.
    #[allow(dead_code, reason = "only kqueue asks")]
    pub(crate) const fn queues_sockets_only(self) -> bool {
        matches!(self, Unix::Apple)
    }

    /// Whether an errno of sending a datagram over a Unix socket means that the receiver has not
    /// taken the earlier ones yet: macOS and the BSDs say ENOBUFS, the others EAGAIN.
    pub(crate) fn receiver_is_full(self, errno: Errno) -> bool {
        let is_bsd = !matches!(self, Unix::Linux | Unix::Other);
        is_bsd && errno == Errno::ENOBUFS
    }
}

/// Whether the connection may still come about after this errno of `connect`.
///
/// A signal does not stop it. EISCONN and EALREADY mean that it is further than we thought; macOS
/// says EISCONN of refused connections too, so nothing is believed before it was asked about.
pub(crate) fn is_connecting(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EINPROGRESS | Errno::EINTR | Errno::EISCONN | Errno::EALREADY
    )
}

/// The first descriptor number that `select` cannot take here.
pub(crate) const SELECT_LIMIT: Option<usize> = HERE.select_limit(size_of::<libc::fd_set>());

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
    fn e4_e5_einval_of_connect_is_a_refusal_on_openbsd_and_macos_only() {
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
    fn e15_eprototype_of_send_is_a_reset_on_macos_only() {
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
    fn e15_enobufs_of_a_datagram_is_a_full_receiver_on_macos_and_the_bsds_only() {
        let full = ALL.map(|unix| unix.receiver_is_full(Errno::ENOBUFS));
        assert_eq!(full, [false, true, true, true, true, false]);
        assert!(!ALL.iter().any(|unix| unix.receiver_is_full(Errno::ENOMEM)));
    }

    #[test]
    fn e4_a_connection_is_under_way_after_four_errnos_and_no_other() {
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
    fn a1_only_systems_that_size_the_set_by_nfds_are_without_limit() {
        let capped = ALL.map(|unix| (unix, unix.select_limit(32)));
        let capped = capped.into_iter().filter(|(_, limit)| limit.is_some());
        assert_eq!(capped.collect::<Vec<_>>(), [(Unix::Other, Some(256))]);
        // 64-bit illumos: an `fd_set` of 8 KiB.
        assert_eq!(Unix::Other.select_limit(8_192), Some(65_536));
        if cfg!(target_os = "linux") {
            assert_eq!((HERE, SELECT_LIMIT), (Unix::Linux, None));
        }
    }
}
