//! The examples that do something with the loop itself: drive it from another, fork inside of it,
//! and mix everything that it can wait for.
#![cfg(feature = "signal")]

use crate::util::{LIMIT, connect_to, end_of, example, in_time, line_of, port_in};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// An example that runs, in a process group of its own, which ends with the test.
struct Running {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Running {
    fn new(name: &str, args: &[&str]) -> Running {
        let mut command = example(name);
        command.args(args).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // Never as much as would fill it.
        command.stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        Running { child, stdout }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    /// The next line that it says, without its end.
    fn line(&mut self) -> String {
        let (line, stdout) = line_of(self.stdout.take().unwrap());
        self.stdout = Some(stdout);
        line
    }

    /// The port of a server that says "listening on ADDRESS:PORT;" first.
    fn port(&mut self) -> u16 {
        port_in(&self.line())
    }

    fn end(&mut self) -> ExitStatus {
        end_of(&mut self.child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// A client, with what it was greeted with.
struct Client {
    stream: BufReader<TcpStream>,
    worker: Pid,
}

fn connect(port: u16) -> BufReader<TcpStream> {
    BufReader::new(connect_to(port))
}

impl Client {
    fn new(port: u16) -> Client {
        let mut stream = connect(port);
        let mut greeting = String::new();
        stream.read_line(&mut greeting).unwrap();
        let pid = greeting.trim_end().strip_prefix("worker ");
        let pid = pid.unwrap_or_else(|| panic!("no greeting but {greeting:?}"));
        let worker = Pid::from_raw(pid.parse().unwrap());
        Client { stream, worker }
    }

    fn round_trips(&mut self, n: usize) {
        for n in 0..n {
            let said = format!("hello {n}\n");
            self.stream.get_mut().write_all(said.as_bytes()).unwrap();
            let mut heard = String::new();
            self.stream.read_line(&mut heard).unwrap();
            assert_eq!(heard, said);
        }
    }

    /// Says that it is done, and is told the same. Returns who has served it.
    fn end(mut self) -> Pid {
        self.round_trips(20);
        self.stream.get_mut().shutdown(Shutdown::Write).unwrap();
        assert_eq!(self.stream.read_to_end(&mut Vec::new()).unwrap(), 0);
        self.worker
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < LIMIT, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn is_gone(pid: &Pid) -> bool {
    kill(*pid, None) == Err(Errno::ESRCH)
}

/// Forty clients, of which thirty come while workers are replaced, and five stay all the time.
/// Returns how many were served, which is all of them or a panic.
fn one_run_of_prefork() -> usize {
    let mut master = Running::new("prefork", &["127.0.0.1:0"]);
    let port = master.port();
    let (mut stay, early): (Vec<_>, Vec<_>) = (0..10)
        .map(|_| Client::new(port))
        .enumerate()
        .partition(|(n, _)| n % 2 == 0);
    let mut old: BTreeSet<Pid> = stay.iter().map(|(_, client)| client.worker).collect();
    let mut n_served = early.len();
    old.extend(early.into_iter().map(|(_, client)| client.end()));
    let others: Vec<_> = (0..30)
        .map(|n| {
            if n == 5 || n == 15 {
                kill(master.pid(), Signal::SIGHUP).unwrap();
            }
            thread::spawn(move || Client::new(port).end())
        })
        .collect();
    let others = others.into_iter().map(|client| client.join().unwrap());
    let mut all: BTreeSet<Pid> = others.inspect(|_| n_served += 1).collect();
    // Those who stayed are still served, by those who were there before.
    for (_, client) in &mut stay {
        client.round_trips(5);
    }
    n_served += stay.len();
    all.extend(stay.into_iter().map(|(_, client)| client.end()));
    wait_until("the old workers go when their clients have gone", || {
        old.iter().all(is_gone)
    });
    let last = Client::new(port);
    all.insert(last.worker);
    assert!(!old.contains(&last.worker), "an old worker accepts");
    last.end();
    kill(master.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(master.end().code(), Some(0));
    // Buried by the master, so that not even their numbers are left.
    assert!(all.iter().all(is_gone), "a worker is left");
    let refused = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    n_served
}

#[test]
fn forty_of_forty_clients_are_served_in_ten_runs_with_forks_inside_the_loop() {
    for _ in 0..10 {
        assert_eq!(one_run_of_prefork(), 40);
    }
}

#[test]
fn a_worker_that_dies_is_replaced_and_the_master_ends_with_the_others() {
    let mut master = Running::new("prefork", &["127.0.0.1:0"]);
    let port = master.port();
    let mut seen = BTreeSet::new();
    for _ in 0..6 {
        let mut client = Client::new(port);
        kill(client.worker, Signal::SIGKILL).unwrap();
        // The end, or a reset.
        let _ = client.stream.read_to_end(&mut Vec::new());
        assert!(seen.insert(client.worker), "a dead worker has served");
    }
    assert!(master.child.try_wait().unwrap().is_none());
    kill(master.pid(), Signal::SIGINT).unwrap();
    assert_eq!(master.end().code(), Some(0));
}

/// The numbers in "7 beats, 3 served".
fn beats_and_served(host: &mut Running) -> (u64, u64) {
    host.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let line = host.line();
    let numbers: Vec<_> = line.split(' ').filter_map(|w| w.parse().ok()).collect();
    assert_eq!(numbers.len(), 2, "{line}");
    (numbers[0], numbers[1])
}

#[test]
fn a_poll_loop_by_hand_serves_echoes_beside_its_timer_and_stdin() {
    let mut host = Running::new("host_loop", &["127.0.0.1:0"]);
    let port = host.port();
    let long = "all work and no play\n".repeat(20_000);
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let text = long.clone();
            thread::spawn(move || {
                let mut stream = connect(port);
                let mut writer = stream.get_ref().try_clone().unwrap();
                let sent = text.clone();
                let writer = thread::spawn(move || {
                    writer.write_all(sent.as_bytes()).unwrap();
                    writer.shutdown(Shutdown::Write).unwrap();
                });
                let mut back = String::new();
                stream.read_to_string(&mut back).unwrap();
                writer.join().unwrap();
                assert!(back == text, "{} of {} bytes", back.len(), text.len());
            })
        })
        .collect();
    // Stdin is heard while it serves.
    let (first, _) = beats_and_served(&mut host);
    clients.into_iter().for_each(|c| c.join().unwrap());
    wait_until("its timer goes on, and it has served all", || {
        let (n_beats, n_served) = beats_and_served(&mut host);
        n_beats >= first + 3 && n_served == 20
    });
    drop(host.child.stdin.take());
    assert_eq!(host.end().code(), Some(0));
}

/// The CPU time that a process has used, in ticks of 10 ms.
#[cfg(target_os = "linux")]
fn cpu_ticks(pid: Pid) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let fields: Vec<_> = after_name.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn a_poll_loop_by_hand_with_an_idle_client_uses_no_time() {
    idle_host_uses_no_time("host_loop");
}

#[test]
#[cfg(target_os = "linux")]
fn a_poll_loop_with_one_descriptor_serves_echoes_and_uses_no_time_while_it_is_idle() {
    // With `select` alone there is no such descriptor.
    if std::env::var("FAHRENHEIT_POLLER").is_ok_and(|name| name == "select") {
        return;
    }
    idle_host_uses_no_time("host_one_fd");
    let mut host = Running::new("host_one_fd", &["127.0.0.1:0"]);
    let port = host.port();
    let mut clients: Vec<_> = (0..20).map(|_| connect(port)).collect();
    for round in 0..50_u8 {
        for client in &mut clients {
            client.get_mut().write_all(&[round]).unwrap();
        }
        for client in &mut clients {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [round]);
        }
    }
    drop(host.child.stdin.take());
    assert_eq!(host.end().code(), Some(0));
}

#[cfg(target_os = "linux")]
fn idle_host_uses_no_time(name: &str) {
    let mut host = Running::new(name, &["127.0.0.1:0"]);
    let mut client = connect(host.port());
    client.get_mut().write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    let before = cpu_ticks(host.pid());
    thread::sleep(Duration::from_secs(1));
    let n_ticks = cpu_ticks(host.pid()) - before;
    assert!(n_ticks <= 10, "{n_ticks} ticks in an idle second");
}

#[test]
fn the_node_like_loop_says_the_same_in_every_run() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/node.in");
    let golden = include_str!("../golden/node.out");
    // At the same time, so that the machine is sometimes slow for one of them.
    let runs: Vec<_> = (0..8).map(|_| Running::new("node", &[path])).collect();
    for mut run in runs {
        let mut stdout = run.stdout.take().unwrap();
        let said = in_time("the end of node", move || {
            let mut said = String::new();
            stdout.read_to_string(&mut said).unwrap();
            said
        });
        assert_eq!(said, golden);
        assert_eq!(run.end().code(), Some(0));
    }
}

#[test]
fn node_and_the_servers_here_end_with_the_usage_and_2_or_a_sentence_and_1() {
    for (name, args, code, begin) in [
        ("node", &["a", "b"][..], 2, "usage: node [FILE]\n"),
        ("node", &["/nowhere"], 1, "node: /nowhere: "),
        (
            "host_loop",
            &["nonsense"],
            2,
            "usage: host_loop [ADDRESS:PORT]\n",
        ),
        ("prefork", &["a", "b"], 2, "usage: prefork [ADDRESS:PORT]\n"),
    ] {
        let mut run = Running::new(name, args);
        let mut stderr = run.child.stderr.take().unwrap();
        let text = in_time("stderr", move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        assert_eq!(run.end().code(), Some(code), "{text}");
        assert!(
            text.starts_with(begin) && text.lines().count() == 1,
            "{text}"
        );
    }
}
