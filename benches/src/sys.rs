//! What the harness asks of Linux: cores, limits, clocks, memory, and two socket options.
//!
//! The only `unsafe` of the harness outside the hand-written loops is here.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use std::fs;
use std::io;
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// The core that the measured process runs on, and the one of the load generator.
///
/// On a machine with one core both are 0: the figures of CPU time stand, the latencies do not.
pub(crate) fn cores() -> (usize, usize) {
    let online = std::thread::available_parallelism().map_or(1, usize::from);
    (0, usize::from(online > 1))
}

/// Keeps this process, and every thread it starts from now on, on one core.
///
/// Failure is no reason to stop: a container may own other cores than these, and then the run is
/// noisier, not wrong. The results say so: see [`pinning`].
pub(crate) fn pin(core: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// Whether the measured process and the load generator get cores of their own, in words.
pub(crate) fn pinning() -> String {
    let (server, load) = cores();
    // A thread of its own, because the core of this one must not change.
    let try_pin = |core| match std::thread::spawn(move || pin(core)).join() {
        Ok(Ok(())) => format!("core {core}"),
        Ok(Err(errno)) => format!("NOT PINNED to core {core} ({errno})"),
        Err(_) => format!("NOT PINNED to core {core}"),
    };
    format!(
        "measured process {}, load {}",
        try_pin(server),
        try_pin(load)
    )
}

/// Raises the limit of open descriptors as far as it goes, and says how far that was.
///
/// Locked memory too: older io_uring runtimes ask for more of it than the default.
pub(crate) fn raise_limits() -> u64 {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_MEMLOCK) {
        // Root may go past the hard limit; anyone else gets as much as there is.
        let wanted = hard.max(512 << 20);
        if setrlimit(Resource::RLIMIT_MEMLOCK, wanted, wanted).is_err() {
            let _ = setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard);
        }
    }
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 1024;
    };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// Keeps what is freed for the next allocation, as in a process that has run for long.
///
/// Otherwise the allocator gives it back and asks again, and page faults, dear in a virtual
/// machine, are most of what spawning 100,000 tasks costs.
pub(crate) fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    for parameter in [libc::M_TRIM_THRESHOLD, libc::M_MMAP_THRESHOLD] {
        // SAFETY: no other thread has been started, and any value is allowed.
        unsafe { libc::mallopt(parameter, 1 << 30) };
    }
}

/// CPU time used by this process so far, all its threads, user and kernel.
pub(crate) fn cpu_of_this() -> Duration {
    cpu(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time used by another process so far; reading it costs that process nothing.
pub(crate) fn cpu_of(pid: u32) -> io::Result<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid as i32))?;
    let now = clock.now()?;
    Ok(Duration::from(now))
}

fn cpu(clock: ClockId) -> Duration {
    clock.now().map_or(Duration::ZERO, Duration::from)
}

/// Resident memory of a process in bytes, counted page by page.
///
/// `statm` would be cheaper, but it reads counters that lag by some hundred pages.
pub(crate) fn resident(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("Rss:"))
        .and_then(|rest| {
            rest.trim()
                .trim_end_matches("kB")
                .trim()
                .parse::<u64>()
                .ok()
        })
        .map(|kilobytes| kilobytes * 1024)
        .ok_or_else(|| io::Error::other("no Rss in smaps_rollup"))
}

/// Connects from one of many loopback addresses, chosen by `serial`.
///
/// The kernel keeps a closed connection's port for a minute, so one source address would run
/// out of ports after 28,000 short connections; fifty do not.
pub(crate) fn connect(port: u16, serial: usize) -> io::Result<TcpStream> {
    let fd = socket::socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // The port is chosen by connect, per destination, and not by bind, for ever.
    set_int(&fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    let source = SockaddrIn::new(127, 0, 0, 2 + (serial % 50) as u8, 0);
    socket::bind(fd.as_raw_fd(), &source)?;
    let to = SocketAddrV4::new([127, 0, 0, 1].into(), port);
    socket::connect(fd.as_raw_fd(), &SockaddrIn::from(to))?;
    let stream = TcpStream::from(fd);
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Makes closing this socket send a reset, which leaves no port behind.
pub(crate) fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    socket::setsockopt(stream, socket::sockopt::Linger, &linger)?;
    Ok(())
}

fn set_int(fd: &OwnedFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = size_of::<i32>() as libc::socklen_t;
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the pointer and the length describe one live i32, which the call only reads.
    let done = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), length) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
