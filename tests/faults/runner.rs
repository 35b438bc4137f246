//! Runs the rows, each under strace and `timeout`, and judges what it sees.

use crate::clients;
use crate::programs::WHOLE;
use crate::rows::{Expected, MATRIX, Pollers, REQUIRED, Row};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// What `timeout` allows one process.
const LIMIT_S: &str = "60";
/// More calls than a program here makes of those that are watched, unless it spins.
const MOST_CALLS: usize = 12_000;
/// At once. The machine has two cores, and most rows wait for strace.
const N_WORKERS: usize = 3;
const WAITS: &str = "?select,pselect6,?epoll_wait,?epoll_pwait,?epoll_pwait2";

/// What was seen of one row.
struct Seen {
    n_injected: usize,
    /// The errnos that the program told of, and how often.
    errors: BTreeMap<i32, usize>,
    /// How many clients were cut off.
    n_cut: usize,
    /// What must never be.
    trouble: Option<String>,
}

/// Runs all rows whose line contains `word`, and prints the table. Returns the exit code.
pub(crate) fn matrix(word: &str) -> i32 {
    let probe = [
        "-f",
        "-qq",
        "-e",
        "trace=read",
        "--seccomp-bpf",
        "-o",
        "/dev/null",
        "true",
    ];
    let probe = Command::new("strace").args(probe).status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("faults: strace is not installed, or may not trace here");
        return 1;
    }
    let both = |row: &Row| {
        let select = row.pollers == Pollers::Both;
        [Some((*row, "auto")), select.then_some((*row, "select"))]
    };
    let jobs: Vec<_> = MATRIX.iter().flat_map(both).flatten().collect();
    let jobs: Vec<_> = jobs
        .into_iter()
        .filter(|(row, poller)| head(row, poller).contains(word))
        .collect();
    let n_bad = run_all(&jobs);
    let missing = missing();
    for pair in &missing {
        println!("there is no row for {pair}");
    }
    let n_pairs: usize = REQUIRED.iter().map(|(_, e)| e.split(' ').count()).sum();
    println!(
        "faults: {} rows, {} as expected, {n_bad} not; {} of {n_pairs} pairs that have to be there",
        jobs.len(),
        jobs.len() - n_bad,
        n_pairs - missing.len()
    );
    i32::from(n_bad > 0 || !missing.is_empty() || jobs.is_empty())
}

/// The pairs of call and errno that no row has.
fn missing() -> Vec<String> {
    let pairs = REQUIRED
        .iter()
        .flat_map(|(call, errnos)| errnos.split(' ').map(move |errno| (*call, errno)));
    let absent = |pair: &(&str, &str)| !MATRIX.iter().any(|row| (row.call, row.errno) == *pair);
    pairs
        .filter(absent)
        .map(|(c, e)| format!("{c} {e}"))
        .collect()
}

fn head(row: &Row, poller: &str) -> String {
    format!(
        "{:<13} {:<13} {:<6} {:<13} {poller:<6}",
        row.call, row.errno, row.when, row.program
    )
}

/// Runs `jobs`, prints a line for each in their order, and returns how many went wrong.
fn run_all(jobs: &[(Row, &'static str)]) -> usize {
    println!("call          errno         when   program       poller faults  outcome");
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..N_WORKERS.min(jobs.len()) {
            let sender = sender.clone();
            let (next, done) = (&next, &done);
            scope.spawn(move || {
                while let Some((row, poller)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let line = judge(row, poller);
                    let number = jobs.iter().position(|j| std::ptr::eq(&j.0, row)).unwrap();
                    done.lock().unwrap().insert(number, line);
                    sender.send(()).unwrap();
                }
            });
        }
        drop(sender);
        let (mut n_printed, mut n_bad) = (0, 0);
        while receiver.recv().is_ok() {
            while let Some((good, line)) = done.lock().unwrap().remove(&n_printed) {
                println!("{line}");
                n_printed += 1;
                n_bad += usize::from(!good);
            }
        }
        n_bad + (jobs.len() - n_printed)
    })
}

/// Runs one row. Whether it went as expected, and its line in the table.
fn judge(row: &Row, poller: &str) -> (bool, String) {
    let seen = thread::scope(|scope| scope.spawn(|| observe(row, poller)).join());
    let head = head(row, poller);
    let Ok(seen) = seen else {
        return (false, format!("{head}    ?  A CLIENT FAILED"));
    };
    let n = seen.n_injected;
    let outcome = match (&seen.trouble, seen.errors.len()) {
        (Some(trouble), _) => trouble.clone(),
        (None, 0) => "unnoticed".to_owned(),
        (None, _) => {
            let told = |(&errno, n): (&i32, &usize)| format!("{} x {n}", name(errno));
            seen.errors.iter().map(told).collect::<Vec<_>>().join(", ")
        }
    };
    let expected = match row.expected {
        Expected::Unnoticed => "unnoticed".to_owned(),
        Expected::Each => format!("{} x {n}", row.errno),
        Expected::Once => format!("{} x 1", row.errno),
        Expected::As(errno) => format!("{errno} x {n}"),
    };
    // An error of a connection ends it, in the examples; a shortage ends none.
    let most_cut = match row.expected {
        Expected::Each if row.call != "accept4" => n,
        _ => 0,
    };
    let good = outcome == expected && n > 0 && seen.n_cut <= most_cut;
    let remark = match good {
        true => String::new(),
        false => format!("  NOT AS EXPECTED: {expected}; {} clients cut", seen.n_cut),
    };
    (good, format!("{head} {n:>6}  {outcome}{remark}"))
}

fn name(errno: i32) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(errno))
}

/// Runs the program of a row under strace, with clients if it is an example.
fn observe(row: &Row, poller: &str) -> Seen {
    let log = log_path();
    let mut child = start(row, poller, &log);
    let mut errors = child.stderr.take().unwrap();
    let errors = thread::spawn(move || {
        let mut text = String::new();
        errors.read_to_string(&mut text).map(|_| text)
    });
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let (mut n_cut, mut trouble) = (0, None);
    let serves = !is_own(row) && row.program != "http_get";
    if serves {
        match clients::address(&mut stdout) {
            None => trouble = Some("IT DOES NOT START".to_owned()),
            Some(addr) => {
                let pid = leaf(child.id());
                let before = n_sockets(pid);
                n_cut = clients::talk(addr, row.program == "http_server");
                trouble = leak(pid, before);
            }
        }
        kill(leaf(child.id()));
    }
    let mut text = String::new();
    let _ = stdout.read_to_string(&mut text);
    let status = child.wait().unwrap();
    let errors = errors.join().unwrap().unwrap_or_default();
    let lines = fs::read_to_string(&log).unwrap_or_default();
    let _ = fs::remove_file(&log);
    Seen {
        n_injected: lines.lines().filter(|l| l.contains("INJECTED")).count(),
        trouble: trouble.or_else(|| disaster(row, serves, status, &errors, &text, &lines)),
        errors: count_errnos(&errors),
        n_cut,
    }
}

/// What must never happen, whatever fails.
fn disaster(
    row: &Row,
    serves: bool,
    status: ExitStatus,
    errors: &str,
    text: &str,
    log: &str,
) -> Option<String> {
    let n_calls = log.lines().count();
    let failing_client = row.program == "http_get" && row.expected != Expected::Unnoticed;
    // A server is killed by us, and `timeout` ends as it did.
    let code = status.code().unwrap_or(-1);
    let wanted = match (serves, failing_client) {
        (true, _) => status.signal() == Some(9),
        (_, true) => code == 1,
        _ => code == 0,
    };
    if let Some(panic) = errors.lines().find(|line| line.contains("panicked")) {
        let said = errors.lines().skip_while(|line| *line != panic).nth(1);
        return Some(format!("PANIC: {panic} {}", said.unwrap_or_default()));
    }
    if code == 124 || (!serves && code == 137) {
        return Some("HANG".to_owned());
    }
    if !wanted || (is_own(row) && !text.contains(WHOLE)) {
        return Some(format!("EXIT CODE {code}: {}", errors.trim()));
    }
    if n_calls > MOST_CALLS {
        return Some(format!("SPIN: {n_calls} calls"));
    }
    None
}

fn is_own(row: &Row) -> bool {
    !["echo", "echo_spawn", "http_server", "http_get", "proxy"].contains(&row.program)
}

fn start(row: &Row, poller: &str, log: &Path) -> Child {
    let when = match row.when {
        "" => String::new(),
        when => format!(":when={when}"),
    };
    let mut command = Command::new("timeout");
    command
        .args([
            "-k",
            "2",
            LIMIT_S,
            "strace",
            "-f",
            "-qq",
            "--seccomp-bpf",
            "-o",
        ])
        .arg(log)
        .args(["-e", &format!("trace={},{WAITS}", row.call)])
        .args([
            "-e",
            &format!("inject={}:error={}{when}", row.call, row.errno),
        ]);
    let this = std::env::current_exe().unwrap();
    if is_own(row) {
        command.arg(this).args(["--program", row.program]);
    } else {
        // `deps/faults-…` is beside `examples/echo`.
        let examples = this
            .parent()
            .and_then(Path::parent)
            .unwrap()
            .join("examples");
        let example = examples.join(row.program);
        assert!(
            example.exists(),
            "{example:?} is missing: `ci/faults` builds it"
        );
        command.arg(example);
        match row.program {
            "http_get" => command.arg(clients::upstream(true).to_string()),
            "proxy" => command.args(["127.0.0.1:0", &clients::upstream(false).to_string()]),
            _ => command.arg("127.0.0.1:0"),
        };
    }
    command
        .env("FAHRENHEIT_POLLER", poller)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("`timeout` is part of every Linux")
}

fn log_path() -> PathBuf {
    static SERIAL: AtomicUsize = AtomicUsize::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let name = format!("faults-{}-{serial}.strace", std::process::id());
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// The errnos in what a program says, and how often each is there.
fn count_errnos(text: &str) -> BTreeMap<i32, usize> {
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        // `(os error 4)` as std says it, `(EINTR, errno 4)` as the crate does.
        let number = ["os error ", "errno "].iter().find_map(|word| {
            let (_, rest) = line.rsplit_once(word)?;
            rest.split(')').next()?.parse().ok()
        });
        *counts.entry(number.unwrap_or(0)).or_default() += 1;
    }
    counts
}

/// The last of the children of `pid`: below `timeout` and strace, the program.
fn leaf(pid: u32) -> u32 {
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        rest.split(' ').nth(1)?.parse::<u32>().ok()
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    let all: Vec<u32> = all
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    let mut last = pid;
    while let Some(child) = all.iter().find(|&&child| parent(child) == Some(last)) {
        last = *child;
    }
    last
}

/// How many sockets a server has open. Its pipe and its queue may not have been made yet.
fn n_sockets(pid: u32) -> usize {
    let all = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    let what = all
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    what.filter(|what| what.to_string_lossy().starts_with("socket:"))
        .count()
}

/// Waits until no more sockets are open than there were.
fn leak(pid: u32, before: usize) -> Option<String> {
    let start = Instant::now();
    while n_sockets(pid) > before {
        if start.elapsed() > Duration::from_secs(10) {
            return Some(format!("LEAK: {} sockets, not {before}", n_sockets(pid)));
        }
        thread::sleep(Duration::from_millis(2));
    }
    None
}

fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(pid as i32);
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
}
