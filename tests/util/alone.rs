//! Tests in processes of their own, with or without strace, and tests that cannot do their work.

#[cfg(target_os = "linux")]
use super::cost::CPU_LIMITS;
use super::watch::LIMIT;
use std::io;
use std::panic::Location;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Says which test runs in a process of its own.
const ALONE: &str = "FAHRENHEIT_TEST_ALONE";
/// What such a process prints once its test has passed; an unknown name would "pass" as well.
pub(crate) const PASSED: &str = "the body of this test ran to its end";
/// Set in CI: a test that cannot do its work fails, instead of being skipped.
const NO_SKIPS: &str = "FAHRENHEIT_TEST_NO_SKIPS";
/// The names of tests that may be skipped all the same, separated by blanks.
const ALLOWED_SKIPS: &str = "FAHRENHEIT_TEST_ALLOWED_SKIPS";
/// Tells a test that runs again in a process of its own to which `cargo test` it belongs.
const RUN: &str = "FAHRENHEIT_TEST_RUN";

/// The name of the test that this stands in, as the test harness knows it: `module::name`.
macro_rules! test_name {
    () => {{
        fn here() {}
        crate::util::test_around(std::any::type_name_of_val(&here))
    }};
}

/// The name of the test in which an item stands, by the path of that item: without the crate, and
/// without the closures and blocks between the two.
pub(crate) fn test_around(path: &'static str) -> &'static str {
    let path = path.split_once("::").map_or(path, |(_, rest)| rest);
    let path = path.strip_suffix("::here").unwrap_or(path);
    path.split("::{{closure}}").next().unwrap_or(path)
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
    through(None, name)
}

/// The command that runs this test again, alone, as an argument of `wrapper`.
pub(crate) fn again_through(wrapper: Command, name: &str) -> Command {
    through(Some(wrapper), name)
}

fn through(wrapper: Option<Command>, name: &str) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        None => Command::new(this),
        Some(mut wrapper) => {
            wrapper.arg(this);
            wrapper
        }
    };
    command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ALONE, name)
        .env(RUN, run_id())
        // A logger of the environment shall not change what is counted.
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
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
    let mut command = again_through(command, name);
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
        let name = name.replace("::", "-");
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
