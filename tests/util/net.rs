//! What the socket tests share: connected pairs, watchdogs, CPU time, processes of their own.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "test code, and every test binary uses a part of it"
)]

use fahrenheit::prelude::*;
use fahrenheit::{AsyncTcpListener, AsyncTcpStream};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::Location;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// No test takes so long, however loaded the machine is.
pub(crate) const LIMIT: Duration = Duration::from_secs(100);

/// Says which test runs in a process of its own.
const ALONE: &str = "FAHRENHEIT_TEST_ALONE";
/// What such a process prints once its test has passed; an unknown name would "pass" as well.
pub(crate) const PASSED: &str = "the body of this test ran to its end";
/// Set by `ci/goals` and `ci/run` where they measure the optimised crate, with nothing beside it.
#[cfg(target_os = "linux")]
const CPU_LIMITS: &str = "FAHRENHEIT_TEST_CPU_LIMITS";

/// Set in CI: a test that cannot do its work fails, instead of being skipped.
const NO_SKIPS: &str = "FAHRENHEIT_TEST_NO_SKIPS";
/// The names of tests that may be skipped all the same, separated by blanks.
const ALLOWED_SKIPS: &str = "FAHRENHEIT_TEST_ALLOWED_SKIPS";
/// Tells a test that runs again in a process of its own to which `cargo test` it belongs.
const RUN: &str = "FAHRENHEIT_TEST_RUN";

/// Ends the process if it is not dropped in time.
pub(crate) struct Watchdog {
    _fed: Sender<()>,
}

#[track_caller]
pub(crate) fn watchdog() -> Watchdog {
    let place = Location::caller();
    let (fed, food) = channel::<()>();
    std::thread::spawn(move || {
        if food.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
            eprintln!("the test at {place} hangs");
            std::process::abort();
        }
    });
    Watchdog { _fed: fed }
}

/// `fahrenheit::run` under a watchdog.
#[track_caller]
pub(crate) fn go<F: Future>(main: F) -> F::Output {
    let _dog = watchdog();
    fahrenheit::run(main)
}

/// Two ends of one TCP connection.
pub(crate) async fn tcp_pair() -> (AsyncTcpStream, AsyncTcpStream) {
    let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
    let (client, server) = futures_util::join!(
        AsyncTcpStream::connect(listener.local_addr().unwrap()),
        listener.accept()
    );
    (client.unwrap(), server.unwrap().0)
}

/// An address that refuses connections for as long as this lives: that of a listener that was
/// closed.
///
/// A socket that is bound but does not listen would do on Linux, but macOS and NetBSD do not even
/// answer a connection to it. A connection that the listener accepted keeps the port from others,
/// because the listener was made without SO_REUSEADDR.
pub(crate) struct Refusing {
    _client: std::net::TcpStream,
    _server: std::net::TcpStream,
    pub(crate) addr: SocketAddr,
}

impl Refusing {
    pub(crate) fn new() -> Refusing {
        use nix::sys::socket::*;
        let (family, kind) = (AddressFamily::Inet, SockType::Stream);
        let socket = socket(family, kind, SockFlag::empty(), None).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
        bind(fd, &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
        listen(&socket, Backlog::new(1).unwrap()).unwrap();
        let listener = std::net::TcpListener::from(socket);
        let addr = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(addr).unwrap();
        let (server, _) = listener.accept().unwrap();
        Refusing {
            _client: client,
            _server: server,
            addr,
        }
    }
}

/// An address that does not answer at all: its queue of connections is full.
pub(crate) async fn silent() -> (AsyncTcpListener, Vec<AsyncTcpStream>) {
    use nix::sys::socket::{Backlog, listen};
    let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    let limit = Duration::from_millis(200);
    while let Ok(stream) = AsyncTcpStream::connect_timeout(addr, limit).await {
        queue.push(stream);
        assert!(queue.len() < 2_000, "the queue never fills");
    }
    (listener, queue)
}

/// Polls once, with a waker that does nothing.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Sends back what it gets until the end.
pub(crate) async fn echo(stream: AsyncTcpStream) -> io::Result<u64> {
    let mut bytes = [0; 4096];
    let mut n_echoed = 0;
    loop {
        let n = (&stream).read(&mut bytes).await?;
        if n == 0 {
            return Ok(n_echoed);
        }
        (&stream).write_all(&bytes[..n]).await?;
        n_echoed += n as u64;
    }
}

/// Has `stream` echo `n_rounds` words, and checks each.
pub(crate) async fn talk(stream: &AsyncTcpStream, n_rounds: u32) -> io::Result<()> {
    let mut stream = stream;
    for round in 0..n_rounds {
        let word = round.wrapping_mul(2_654_435_761).to_be_bytes();
        stream.write_all(&word).await?;
        let mut back = [0; 4];
        stream.read_exact(&mut back).await?;
        assert_eq!(back, word, "round {round}");
    }
    Ok(())
}

/// `n_clients` connections at once, each with `n_rounds` echoes, served on this loop. Connections
/// are closed in an orderly way.
pub(crate) async fn exchange(n_clients: usize, n_rounds: u32) -> io::Result<()> {
    let listener = AsyncTcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let server = fahrenheit::spawn(async move {
        let mut echoes = Vec::new();
        for _ in 0..n_clients {
            echoes.push(fahrenheit::spawn(echo(listener.accept().await?.0)));
        }
        for each in echoes {
            assert_eq!(each.await.unwrap()?, 4 * u64::from(n_rounds));
        }
        io::Result::Ok(())
    });
    let clients: Vec<_> = (0..n_clients)
        .map(|_| {
            fahrenheit::spawn(async move {
                let mut stream = AsyncTcpStream::connect(addr).await?;
                talk(&stream, n_rounds).await?;
                stream.close().await?;
                assert_eq!(stream.read(&mut [0]).await?, 0);
                io::Result::Ok(())
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap()?;
    }
    server.await.unwrap()
}

/// What waiting costs this thread, or this process.
#[cfg(target_os = "linux")]
pub(crate) struct Cost {
    begun: Instant,
    who: nix::sys::resource::UsageWho,
    usage: nix::sys::resource::Usage,
    /// How long it was ready to run while all processors were busy.
    queued: Option<Duration>,
}

#[cfg(target_os = "linux")]
impl Cost {
    pub(crate) fn begin() -> Cost {
        Cost::of(nix::sys::resource::UsageWho::RUSAGE_THREAD)
    }

    pub(crate) fn begin_of_process() -> Cost {
        Cost::of(nix::sys::resource::UsageWho::RUSAGE_SELF)
    }

    fn of(who: nix::sys::resource::UsageWho) -> Cost {
        // Before the call of `getrusage`, by which tests under strace find where they begin.
        let queued = queued(who);
        let usage = nix::sys::resource::getrusage(who).unwrap();
        let begun = Instant::now();
        Cost {
            begun,
            who,
            usage,
            queued,
        }
    }

    /// Prints the CPU time that was used, and checks that the loop did not spin: it ran for less
    /// than a third of the time. On a busy machine a loop that spins may get less than that, but it
    /// is then ready to run nearly always. What else runs adds to CPU time, so `limit` itself is
    /// only checked where [`CPU_LIMITS`] is set.
    #[track_caller]
    pub(crate) fn check(self, what: &str, limit: Duration) -> Cost {
        let wall = self.begun.elapsed();
        let usage = nix::sys::resource::getrusage(self.who).unwrap();
        let now = Cost {
            begun: Instant::now(),
            who: self.who,
            usage,
            queued: queued(self.who),
        };
        let cpu = |usage: &nix::sys::resource::Usage| {
            let us = [usage.user_time(), usage.system_time()]
                .map(|t| t.tv_sec() as u64 * 1_000_000 + t.tv_usec() as u64);
            Duration::from_micros(us[0] + us[1])
        };
        let spent = cpu(&now.usage) - cpu(&self.usage);
        println!("{what} cost {spent:?}");
        let queued = match (self.queued, now.queued) {
            (Some(before), Some(after)) => after - before,
            _ => Duration::ZERO,
        };
        assert!(spent < wall / 3, "{what}: {spent:?} of {wall:?}");
        // Not a third: after its sleep, an idle loop may have to wait long for a processor.
        assert!(
            spent + queued < wall / 10 * 9,
            "{what}: {spent:?}, and {queued:?} in the queue for a processor, of {wall:?}"
        );
        if std::env::var_os(CPU_LIMITS).is_some() {
            assert!(spent < limit, "{what}: {spent:?}");
        }
        now
    }

    /// How often the processor had been given up by then.
    pub(crate) fn n_switches(&self) -> std::ffi::c_long {
        self.usage.voluntary_context_switches()
    }
}

/// How long this thread, or the first thread of this process, was ready to run while all processors
/// were busy. `None` if the kernel does not count it, or if no descriptor is free to ask.
#[cfg(target_os = "linux")]
fn queued(who: nix::sys::resource::UsageWho) -> Option<Duration> {
    let path = match who {
        nix::sys::resource::UsageWho::RUSAGE_THREAD => "/proc/thread-self/schedstat",
        _ => "/proc/self/schedstat",
    };
    let text = std::fs::read_to_string(path).ok()?;
    let nanoseconds = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// The open descriptors of this process, without the one that this takes.
#[cfg(target_os = "linux")]
pub(crate) fn open_fds() -> std::collections::BTreeSet<i32> {
    let listed: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    let is_open = |fd: &i32| std::fs::read_link(format!("/proc/self/fd/{fd}")).is_ok();
    listed.into_iter().filter(is_open).collect()
}

/// Runs `body` in a process of its own: this test again, and nothing else. Returns what it printed.
///
/// `name` is the name of the calling test. In that process, nothing is returned.
#[track_caller]
pub(crate) fn alone(name: &str, body: impl FnOnce()) -> Option<String> {
    if is_alone(name) {
        body();
        println!("{PASSED}");
        return None;
    }
    Some(finish(name, again(name)))
}

/// Whether this is the process that [`alone`] or [`traced`] started for test `name`.
pub(crate) fn is_alone(name: &str) -> bool {
    std::env::var(ALONE).as_deref() == Ok(name)
}

/// The command that runs this test again, alone.
pub(crate) fn again(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    with_args(&mut command, name);
    command
}

fn with_args(command: &mut Command, name: &str) {
    command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ALONE, name)
        .env(RUN, run_id())
        // A logger of the environment shall not change what is counted.
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
}

/// Runs a command of [`again`] to its end, and returns what it printed.
#[track_caller]
pub(crate) fn finish(name: &str, mut command: Command) -> String {
    let child = command.spawn().unwrap();
    let (status, text) = wait(child);
    assert!(status.success(), "{name}, alone: {status}\n{text}");
    assert!(text.contains(PASSED), "{name} did not run alone\n{text}");
    text
}

/// Waits for a child, within the limit.
#[track_caller]
pub(crate) fn wait(mut child: Child) -> (ExitStatus, String) {
    let place = Location::caller();
    let mut output = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        io::Read::read_to_end(&mut output, &mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    });
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > LIMIT {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the process started at {place} hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    (status, reader.join().unwrap())
}

/// Reports that test `name` cannot do its work on this machine. That is a failure if [`NO_SKIPS`]
/// is set. Otherwise the report goes to standard error, past the test harness, which would hide
/// it, and `tests/untested.rs` repeats it at the end of `cargo test`.
#[track_caller]
pub(crate) fn skip(name: &str, reason: &str) {
    let allowed = std::env::var(ALLOWED_SKIPS).unwrap_or_default();
    let is_allowed = allowed.split_whitespace().any(|allowed| allowed == name);
    assert!(
        std::env::var_os(NO_SKIPS).is_none() || is_allowed,
        "{name} cannot do its work here: {reason}"
    );
    let line = format!("SKIPPED {name}: {reason}\n");
    let _ = io::Write::write_all(&mut io::stderr(), line.as_bytes());
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.append(true).create(true).open(skips()).unwrap();
    // One call, because other tests may append at the same time.
    io::Write::write_all(&mut file, line.as_bytes()).unwrap();
}

/// The file that collects the skipped tests of this `cargo test`.
pub(crate) fn skips() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("skipped-{}", run_id()))
}

/// The process number of the `cargo test` that runs this test.
fn run_id() -> String {
    let parent = || std::os::unix::process::parent_id().to_string();
    std::env::var(RUN).unwrap_or_else(|_| parent())
}

/// What `alone` prints of its own, by a caller that started the process itself.
pub(crate) fn passed() {
    println!("{PASSED}");
}

/// [`alone`] under strace, with `options`. Returns the log; `None` in the traced process, and if
/// strace cannot be used, after a call of [`skip`].
#[cfg(target_os = "linux")]
#[track_caller]
pub(crate) fn traced(name: &str, options: &[&str], body: impl FnOnce()) -> Option<String> {
    if is_alone(name) {
        body();
        passed();
        return None;
    }
    let (command, log) = strace(name, options)?;
    finish(name, command);
    Some(log.read())
}

/// [`again`] under strace, and the log that it will leave.
#[cfg(target_os = "linux")]
pub(crate) fn strace(name: &str, options: &[&str]) -> Option<(Command, Log)> {
    use std::sync::OnceLock;
    static WORKS: OnceLock<bool> = OnceLock::new();
    let probe = || {
        let probe = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "true"])
            .stderr(Stdio::null())
            .status();
        probe.is_ok_and(|status| status.success())
    };
    if !WORKS.get_or_init(probe) {
        skip(name, "strace is not installed, or may not trace here");
        return None;
    }
    let log = Log::new(name);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(&log.0).args(options);
    command.arg(std::env::current_exe().unwrap());
    with_args(&mut command, name);
    // Being traced takes CPU time.
    command.env_remove(CPU_LIMITS);
    Some((command, log))
}

/// A file that strace writes; removed when dropped.
#[cfg(target_os = "linux")]
pub(crate) struct Log(std::path::PathBuf);

#[cfg(target_os = "linux")]
impl Log {
    fn new(name: &str) -> Log {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static SERIAL: AtomicUsize = AtomicUsize::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let file = format!("{name}-{}-{serial}.strace", std::process::id());
        Log(std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(file))
    }

    pub(crate) fn read(&self) -> String {
        let bytes = std::fs::read(&self.0).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(target_os = "linux")]
impl Drop for Log {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Allows this process as many descriptors as it may have; returns how many.
#[cfg(target_os = "linux")]
pub(crate) fn raise_fd_limit() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    usize::try_from(hard).unwrap_or(usize::MAX)
}
