//! What fails, how, in which program, and what has to come of it.

/// What must be seen of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Nothing: it is retried, or there is another way.
    Unnoticed,
    /// Each fault is an error of one operation, with this errno. The others go on.
    Each,
    /// Faults in a row are told once; the operation waits until they are over.
    Once,
    /// Each is an error of one operation, in the words of the crate: with another errno.
    As(&'static str),
}
use Expected::{As, Each, Once, Unnoticed};

/// Under which poller a row is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pollers {
    Both,
    /// Only where the kernel's queue is used.
    Auto,
}
use Pollers::{Auto, Both};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// The name of the call for the table, and for strace.
    pub(crate) call: &'static str,
    pub(crate) errno: &'static str,
    /// Which of the calls fail, by thread, in the words of strace; all if empty.
    pub(crate) when: &'static str,
    pub(crate) program: &'static str,
    pub(crate) expected: Expected,
    pub(crate) pollers: Pollers,
}

const fn on(
    call: &'static str,
    errno: &'static str,
    when: &'static str,
    program: &'static str,
    expected: Expected,
) -> Row {
    Row {
        call,
        errno,
        when,
        program,
        expected,
        pollers: Both,
    }
}

const fn queue(
    call: &'static str,
    errno: &'static str,
    when: &'static str,
    program: &'static str,
) -> Row {
    let row = on(call, errno, when, program, Unnoticed);
    Row {
        pollers: Auto,
        ..row
    }
}

/// The pairs that there must be at least a row of.
pub(crate) const REQUIRED: [(&str, &str); 13] = [
    ("pselect6", "EINTR ENOMEM EAGAIN EBADF"),
    (
        "accept4",
        "EINTR ECONNABORTED EPROTO EMFILE ENFILE ENOBUFS ENOMEM ENETDOWN EHOSTUNREACH EPERM",
    ),
    ("recvfrom", "EINTR EAGAIN ECONNRESET ETIMEDOUT"),
    ("read", "EINTR EAGAIN EIO"),
    ("sendto", "EINTR EAGAIN EPIPE ECONNRESET ENOBUFS"),
    ("write", "EINTR EAGAIN ENOSPC"),
    (
        "connect",
        "EINTR ECONNREFUSED EADDRNOTAVAIL ENETUNREACH ETIMEDOUT",
    ),
    ("socket", "EMFILE ENFILE EAFNOSUPPORT"),
    ("pipe2", "EMFILE ENOSYS"),
    ("fcntl", "EBADF EINVAL"),
    ("clone3", "EAGAIN"),
    ("wait4", "EINTR ECHILD"),
    ("getsockopt", "EINVAL"),
];

pub(crate) const MATRIX: &[Row] = &[
    // The wait. With the queue, most waits are those of epoll, further down.
    on("pselect6", "EINTR", "2+2", "exchange", Unnoticed),
    on("pselect6", "ENOMEM", "2+2", "exchange", Unnoticed),
    on("pselect6", "EAGAIN", "2+2", "exchange", Unnoticed),
    on("pselect6", "EBADF", "2+2", "exchange", Unnoticed),
    on("pselect6", "EINTR", "2+2", "sleeps", Unnoticed),
    on("pselect6", "EINTR", "2+2", "http_server", Unnoticed),
    on("pselect6", "ENOMEM", "2+2", "proxy", Unnoticed),
    // What concerns one connection that has gone is passed over.
    on("accept4", "EINTR", "2+2", "echo_spawn", Unnoticed),
    on("accept4", "EAGAIN", "2+2", "echo_spawn", Unnoticed),
    on("accept4", "ECONNABORTED", "2+2", "echo_spawn", Unnoticed),
    on("accept4", "EPROTO", "2+2", "echo_spawn", Unnoticed),
    on("accept4", "ENETDOWN", "2+2", "echo_spawn", Unnoticed),
    on("accept4", "EHOSTUNREACH", "2+2", "echo_spawn", Unnoticed),
    on("accept4", "EPERM", "2+2", "echo_spawn", Unnoticed),
    on("accept4", "ECONNABORTED", "2..40", "echo", Unnoticed),
    // A shortage is told once, however long it takes.
    on("accept4", "EMFILE", "2", "echo_spawn", Each),
    on("accept4", "EMFILE", "2..6", "echo_spawn", Once),
    on("accept4", "ENFILE", "2..4", "echo_spawn", Once),
    on("accept4", "ENOBUFS", "2..4", "echo_spawn", Once),
    on("accept4", "ENOMEM", "2..4", "echo_spawn", Once),
    on("accept4", "EMFILE", "2..4", "echo", Once),
    on("accept4", "EMFILE", "2..4", "exchange", Once),
    on("accept4", "EINVAL", "2", "exchange", Each),
    // Reading.
    on("recvfrom", "EINTR", "3+3", "echo_spawn", Unnoticed),
    on("recvfrom", "EAGAIN", "3+3", "echo_spawn", Unnoticed),
    on("recvfrom", "ECONNRESET", "30", "echo_spawn", Each),
    on("recvfrom", "ETIMEDOUT", "30", "echo_spawn", Each),
    on("recvfrom", "ECONNRESET", "40", "proxy", Each),
    on("recvfrom", "ECONNRESET", "50+50", "exchange", Each),
    on("recvfrom", "ETIMEDOUT", "50+50", "exchange", Each),
    on("recvfrom", "EAGAIN", "3+3", "http_server", Unnoticed),
    on("recvmsg", "EINTR", "3+3", "vectored", Unnoticed),
    on("recvmsg", "EAGAIN", "3+3", "vectored", Unnoticed),
    on("recvmsg", "ECONNRESET", "50+50", "vectored", Each),
    // A pipe of the program's own; and the wake-up pipe, whose byte must arrive. The first reads
    // of a process are the loader's.
    on("read", "EINTR", "100+3", "pipe", Unnoticed),
    on("read", "EAGAIN", "100+3", "pipe", Unnoticed),
    on("read", "EIO", "100+50", "pipe", Each),
    on("read", "EINTR", "100+3", "pingpong", Unnoticed),
    on("read", "EAGAIN", "100+3", "pingpong", Unnoticed),
    on("read", "EIO", "100+3", "pingpong", Unnoticed),
    // Writing.
    on("sendto", "EINTR", "3+3", "echo_spawn", Unnoticed),
    on("sendto", "EAGAIN", "3+3", "echo_spawn", Unnoticed),
    on("sendto", "EPIPE", "30", "echo_spawn", Each),
    on("sendto", "ECONNRESET", "30", "proxy", Each),
    on("sendto", "EPIPE", "50+50", "exchange", Each),
    on("sendto", "ECONNRESET", "50+50", "exchange", Each),
    on("sendto", "ENOBUFS", "50+50", "exchange", Each),
    on("sendmsg", "EINTR", "3+3", "vectored", Unnoticed),
    on("sendmsg", "EAGAIN", "3+3", "vectored", Unnoticed),
    on("sendmsg", "EPIPE", "50+50", "vectored", Each),
    on("sendmsg", "ECONNRESET", "50+50", "vectored", Each),
    on("sendmsg", "ENOBUFS", "50+50", "vectored", Each),
    // Wakes from another thread.
    on("write", "EINTR", "100+3", "pingpong", Unnoticed),
    on("write", "EAGAIN", "100+3", "pingpong", Unnoticed),
    on("write", "ENOSPC", "100+3", "pingpong", Unnoticed),
    // Events from another thread; signals, whose handler writes.
    on("read", "EINTR", "50+3", "event", Unnoticed),
    on("read", "EAGAIN", "50+3", "event", Unnoticed),
    on("read", "EIO", "50+20", "event", Each),
    on("write", "EINTR", "50+3", "event", Unnoticed),
    on("write", "EAGAIN", "50+3", "event", Unnoticed),
    on("write", "ENOSPC", "50+3", "event", Unnoticed),
    on("pipe2", "EMFILE", "2", "event", Each),
    on("read", "EINTR", "50+3", "signals", Unnoticed),
    on("read", "EAGAIN", "50+3", "signals", Unnoticed),
    on("write", "EINTR", "20+3", "signals", Unnoticed),
    on("write", "EAGAIN", "20+3", "signals", Unnoticed),
    on("write", "ENOSPC", "20+3", "signals", Unnoticed),
    on("pipe2", "EMFILE", "2", "signals", Each),
    // Connecting.
    on("connect", "EINTR", "2+2", "connect", Unnoticed),
    on("connect", "EINTR", "2+2", "proxy", Unnoticed),
    on("connect", "ECONNREFUSED", "2+3", "connect", Each),
    on("connect", "EADDRNOTAVAIL", "2+3", "connect", Each),
    on("connect", "ENETUNREACH", "2+3", "connect", Each),
    on("connect", "ETIMEDOUT", "2+3", "connect", Each),
    on("connect", "ECONNREFUSED", "2", "proxy", Each),
    on("connect", "ENETUNREACH", "1", "http_get", Each),
    on("connect", "ECONNREFUSED", "1+2", "two_addresses", Unnoticed),
    on("socket", "EMFILE", "3+3", "connect", Each),
    on("socket", "ENFILE", "3+3", "connect", Each),
    on("socket", "EAFNOSUPPORT", "3+3", "connect", Each),
    on("socket", "EAFNOSUPPORT", "3+2", "two_addresses", Unnoticed),
    on("socket", "EMFILE", "3", "proxy", Each),
    on("getsockopt", "EINVAL", "2+3", "connect", Each),
    on("getsockopt", "EINVAL", "2", "proxy", Each),
    on("getpeername", "EINVAL", "2+3", "connect", Each),
    // By path, where a full queue of the listener is waited out; and datagrams.
    on("connect", "EINTR", "2+2", "unix", Unnoticed),
    on("connect", "EAGAIN", "2+2", "unix", Unnoticed),
    on("connect", "ECONNREFUSED", "2+3", "unix", Each),
    on("accept4", "ECONNABORTED", "2+2", "unix", Unnoticed),
    on("accept4", "EMFILE", "2..4", "unix", Once),
    on("recvfrom", "EINTR", "3+3", "unix", Unnoticed),
    on("sendto", "EPIPE", "20+20", "unix", Each),
    on("recvfrom", "EINTR", "3+3", "datagrams", Unnoticed),
    on("recvfrom", "EAGAIN", "3+3", "datagrams", Unnoticed),
    on("recvfrom", "ECONNREFUSED", "5+5", "datagrams", Each),
    on("sendto", "EINTR", "3+3", "datagrams", Unnoticed),
    on("sendto", "EAGAIN", "3+3", "datagrams", Unnoticed),
    on("sendto", "ENOBUFS", "5+5", "datagrams", Each),
    on("sendto", "EMSGSIZE", "5+5", "datagrams", Each),
    // Listening, and closing one direction of what has gone.
    on("socket", "EMFILE", "2+3", "listen", Each),
    on("setsockopt", "EINVAL", "2+3", "listen", Each),
    on("bind", "EADDRINUSE", "2+3", "listen", Each),
    on("listen", "EADDRINUSE", "2+3", "listen", Each),
    on("shutdown", "ENOTCONN", "2+2", "echo_spawn", Unnoticed),
    // The loop itself.
    on("pipe2", "EMFILE", "1+2", "create", Each),
    on("pipe2", "ENFILE", "1+2", "create", Each),
    // The second is glibc's `pipe`, to which the flags are added afterwards.
    on("pipe2", "ENOSYS", "1+2", "create", Unnoticed),
    on("fcntl", "EBADF", "20", "register", Each),
    on("fcntl", "EINVAL", "20", "register", As("EBADF")),
    // The first blocking thread is needed; without the second, jobs wait for the first.
    on("clone3", "EAGAIN", "1", "blocking", Each),
    on("clone3", "EAGAIN", "2", "blocking", Unnoticed),
    on("wait4", "EINTR", "1", "children", Unnoticed),
    on("wait4", "ECHILD", "1", "children", Each),
    on("waitid", "EINTR", "1+2", "children", Unnoticed),
    // Without a pidfd or a queue for them, children are looked at.
    on("pidfd_open", "EMFILE", "", "children", Unnoticed),
    on("pidfd_open", "ENOSYS", "", "children", Unnoticed),
    on("pidfd_open", "EPERM", "2", "children", Unnoticed),
    on("waitid", "EINVAL", "", "children", Unnoticed),
    on("epoll_create1", "EMFILE", "", "children", Unnoticed),
    // The kernel's queue. Where it cannot be had, the loop goes on in `select`.
    queue("epoll_create1", "EMFILE", "", "exchange"),
    queue("epoll_create1", "ENOSYS", "", "pingpong"),
    queue("epoll_ctl", "ENOMEM", "", "exchange"),
    queue("epoll_ctl", "ENOMEM", "2+2", "exchange"),
    queue("epoll_ctl", "ENOSPC", "", "exchange"),
    queue("epoll_ctl", "ENOSPC", "2+2", "echo_spawn"),
    queue("epoll_ctl", "EPERM", "2+2", "exchange"),
    queue("epoll_ctl", "EPERM", "2..9", "http_server"),
    queue("epoll_wait", "EINTR", "2+2", "exchange"),
    queue("epoll_wait", "EINTR", "2+2", "echo_spawn"),
    queue("epoll_wait", "ENOMEM", "2+2", "exchange"),
    queue("epoll_pwait2", "EINTR", "2+2", "sleeps"),
    queue("epoll_pwait2", "ENOSYS", "", "sleeps"),
    queue("epoll_pwait2", "EPERM", "", "sleeps"),
];
