//! Which system calls are made, and how many: strace watches a process of its own.
#![cfg(all(target_os = "linux", feature = "udp"))]

use crate::util::{connected_pair, go, is_alone, passed, strace, traced, wait};
use fahrenheit::prelude::*;
use fahrenheit::{AsyncFd, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The calls that wait: the first two are `select`.
const WAITS: [&str; 5] = [
    "select",
    "pselect6",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
];

fn is_select() -> bool {
    cfg!(fahrenheit_no_queue)
        || std::env::var_os("FAHRENHEIT_POLLER").is_some_and(|name| name == "select")
}

/// Removes the calls by which the stand-in for kqueue looks whether a descriptor is still the one
/// that was registered: it does so for each event, where a BSD makes no call. Returns their number,
/// which is 0 without the stand-in, as the crate does not ask sockets for this.
fn remove_looks(counts: &mut BTreeMap<String, i64>) -> i64 {
    let names = ["fstat", "fstat64", "newfstatat"];
    names.iter().filter_map(|name| counts.remove(*name)).sum()
}

/// How often each call was made. What only 32-bit x86 has, `recv` and `send`, is counted as what
/// all others have instead.
fn count(log: &str) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for line in log.lines() {
        // "PID name(arguments) = result", or "PID <... name resumed>": counted at its start.
        let call = line
            .split_once(' ')
            .map_or("", |(_, call)| call.trim_start());
        if let Some((name, _)) = call.split_once('(') {
            if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                let name = match name {
                    "recv" => "recvfrom",
                    "send" => "sendto",
                    name => name,
                };
                *counts.entry(name.to_owned()).or_insert(0) += 1;
            }
        }
    }
    counts
}

/// How many connections a traced server serves; one unless this says otherwise.
const CONNECTIONS: &str = "FAHRENHEIT_TEST_CONNECTIONS";

/// The heart of `examples/echo.rs`; prints its port first.
fn serve() {
    let n = std::env::var(CONNECTIONS).map_or(1, |text| text.parse().unwrap());
    fahrenheit::run(async {
        let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
        println!("port {}", listener.local_addr().unwrap().port());
        let echo = async |stream: std::io::Result<AsyncTcpStream>| {
            let stream = stream.unwrap();
            futures_util::io::copy(&stream, &mut &stream).await.unwrap();
        };
        listener
            .incoming()
            .take(n)
            .for_each_concurrent(None, echo)
            .await;
    });
    passed();
}

/// Has a traced server echo `n_rounds` words, one after the other, on each of `n_clients`
/// connections, one after the other.
fn calls_of(name: &str, n_clients: u32, n_rounds: u32) -> Option<BTreeMap<String, i64>> {
    let (mut command, log) = strace(name, &[])?;
    command.env(CONNECTIONS, n_clients.to_string());
    let mut server = command.spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap());
    let mut line = String::new();
    let port: u16 = loop {
        line.clear();
        assert_ne!(
            lines.read_line(&mut line).unwrap(),
            0,
            "the server did not start"
        );
        // The harness does not end its line before the test prints.
        if let Some((_, port)) = line.trim_end().split_once("port ") {
            break port.parse().unwrap();
        }
    };
    for _ in 0..n_clients {
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.set_read_timeout(Some(crate::util::LIMIT)).unwrap();
        client.set_nodelay(true).unwrap();
        for round in 0..n_rounds {
            let word = round.to_be_bytes();
            client.write_all(&word).unwrap();
            let mut back = [0; 4];
            client.read_exact(&mut back).unwrap();
            assert_eq!(back, word);
        }
    }
    server.stdout = Some(lines.into_inner());
    let (status, text) = wait(server);
    assert!(status.success(), "{status}\n{text}");
    Some(count(&log.read()))
}

/// How much more often each call was made `after` than `before`.
fn difference(
    mut after: BTreeMap<String, i64>,
    before: &BTreeMap<String, i64>,
) -> BTreeMap<String, i64> {
    for (call, n) in before {
        *after.entry(call.clone()).or_insert(0) -= n;
    }
    after
}

#[test]
fn a_round_trip_is_one_wait_one_read_one_write_and_nothing_else() {
    let name = test_name!();
    if is_alone(name) {
        return serve();
    }
    // The difference of two runs is free of all that starting and stopping cost.
    let (few, many) = (1_000, 2_000);
    let Some(before) = calls_of(name, 1, few) else {
        return;
    };
    let after = calls_of(name, 1, many).unwrap();
    let n_reads = after["recvfrom"] - i64::from(many);
    let mut more = difference(after, &before);
    let n_rounds = i64::from(many - few);
    let n_looks = remove_looks(&mut more);
    // The stand-in for kqueue waits by one call, fetches the event by another, and looks at it by a
    // third. A BSD does all of that in one.
    let stand_in = i64::from(cfg!(fahrenheit_kqueue) && !is_select());
    // Whether the first connection and the first word are there already differs from run to run.
    let slack = 3;
    let waits = WAITS.map(|call| more.remove(call).unwrap_or(0));
    let n_waits: i64 = waits.iter().sum();
    for (what, n, each) in [
        ("waits", n_waits, 1 + stand_in),
        ("looks", n_looks, stand_in),
        ("reads", more.remove("recvfrom").unwrap_or(0), 1),
        ("writes", more.remove("sendto").unwrap_or(0), 1),
    ] {
        assert!(
            (n - each * n_rounds).abs() <= slack,
            "{n} {what} for {n_rounds} round trips"
        );
    }
    // The connection is old, and so all waits are in the queue, if there is one.
    let selects = waits[0] + waits[1];
    let wanted = if is_select() { n_waits } else { 0 };
    assert!((selects - wanted).abs() <= slack, "{selects} selects");
    more.retain(|_, n| n.abs() > 5);
    assert!(more.is_empty(), "other calls: {more:?}");
    // And in all: what one connection costs beyond its round trips.
    assert!(n_reads.abs() <= slack, "{n_reads} reads too many");
}

#[test]
fn a_short_connection_is_its_own_five_calls_and_at_most_four_waits() {
    let name = test_name!();
    if is_alone(name) {
        return serve();
    }
    let (few, many) = (100, 200);
    let Some(before) = calls_of(name, few, 1) else {
        return;
    };
    let mut after = difference(calls_of(name, many, 1).unwrap(), &before);
    let n_connections = i64::from(many - few);
    let n_waits: i64 = WAITS.iter().filter_map(|call| after.remove(*call)).sum();
    assert!(n_waits <= 4 * n_connections + 5, "{n_waits} waits");
    // Only the listener is old, and has one event for each connection.
    let n_looks = remove_looks(&mut after);
    let stand_in = cfg!(fahrenheit_kqueue) && !is_select();
    let wanted = if stand_in { n_connections } else { 0 };
    assert!((n_looks - wanted).abs() <= 5, "{n_looks} looks");
    // Where flags are set afterwards it is `accept`, and calls for the flags. And without
    // optimisation std looks whether what it closes is open.
    let plain = cfg!(fahrenheit_plain_flags);
    let accept = if plain { "accept" } else { "accept4" };
    for (call, each) in [(accept, 1), ("recvfrom", 2), ("sendto", 1), ("close", 1)] {
        let n = after.remove(call).unwrap_or(0);
        assert!((n - each * n_connections).abs() <= 5, "{n} times {call}");
    }
    let looks = plain || cfg!(debug_assertions);
    after.retain(|call, n| n.abs() > 5 && !(looks && call.starts_with("fcntl")));
    assert!(after.is_empty(), "other calls: {after:?}");
}

#[test]
fn a_wake_on_the_loops_own_thread_makes_no_call() {
    let name = test_name!();
    let log = traced(name, &[], || {
        fahrenheit::block_on(async {
            fahrenheit::yield_now().await;
            let _ = nix::unistd::getppid();
            for _ in 0..10_000 {
                fahrenheit::yield_now().await;
            }
            let _ = nix::unistd::getppid();
        });
    });
    let Some(log) = log else { return };
    let marks: Vec<_> = log.split("getppid(").collect();
    let [before, between, _] = marks[..] else {
        panic!("{} marks\n{log}", marks.len() - 1);
    };
    // A line begins with its thread. That of the test harness may be starting this one still.
    let thread = before.lines().last().unwrap();
    // The last line is the beginning of the second mark.
    let mut calls: Vec<_> = between.lines().skip(1).collect();
    calls.pop();
    calls.retain(|call| call.starts_with(thread) && !call.contains(" resumed>"));
    // Descriptors are looked at once in 200 polls.
    let is_wait = |call: &&str| WAITS.iter().any(|wait| call.contains(&format!("{wait}(")));
    assert!(calls.iter().all(is_wait), "{calls:#?}");
    assert!((1..=60).contains(&calls.len()), "{} calls", calls.len());
}

#[test]
fn vectored_reads_and_writes_are_one_call_each() {
    let name = test_name!();
    let calls = "trace=readv,recvmsg,?recv,recvfrom,writev,sendmsg,?send,sendto";
    let log = traced(name, &["-e", calls], || {
        go(async {
            let (mut a, mut b) = connected_pair().await;
            let slices = [IoSlice::new(b"one "), IoSlice::new(b"two")];
            assert_eq!(a.write_vectored(&slices).await.unwrap(), 7);
            let (mut first, mut rest) = ([0; 2], [0; 8]);
            b.readable().await.unwrap();
            let mut slices = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut rest)];
            assert_eq!(b.read_vectored(&mut slices).await.unwrap(), 7);
        });
    });
    let Some(log) = log else { return };
    let counts = count(&log);
    assert_eq!(counts.get("sendmsg"), Some(&1), "{log}");
    assert_eq!(counts.get("recvmsg"), Some(&1), "{log}");
    assert_eq!(counts.values().sum::<i64>(), 2, "{log}");
}

/// As many as with tokio: each datagram is waited for by one call that finds none, and received by
/// another.
#[test]
fn two_thousand_datagrams_in_turn_take_at_most_two_receives_each() {
    let name = test_name!();
    const N: i64 = 1_000;
    let log = traced(name, &["-e", "trace=?recv,recvfrom"], || {
        go(async {
            let bind = || AsyncUdpSocket::bind("127.0.0.1:0").unwrap();
            let (a, b) = (bind(), bind());
            a.connect(b.local_addr().unwrap()).await.unwrap();
            b.connect(a.local_addr().unwrap()).await.unwrap();
            let there = async {
                for _ in 0..N {
                    a.send(b"there").await.unwrap();
                    assert_eq!(a.recv(&mut [0; 16]).await.unwrap(), 4);
                }
            };
            let back = async {
                for _ in 0..N {
                    assert_eq!(b.recv(&mut [0; 16]).await.unwrap(), 5);
                    b.send(b"back").await.unwrap();
                }
            };
            futures_util::join!(there, back);
        });
    });
    let Some(log) = log else { return };
    let n_receives = count(&log)["recvfrom"];
    // If the machine pauses the process, a guess that nothing has come looks wrong, and calls are
    // made twice for a while. 100 calls more are far fewer than a third call for each datagram.
    assert!(n_receives <= 4 * N + 100, "{n_receives} receives");
}

#[test]
fn every_write_to_a_socket_forbids_the_signal() {
    let name = test_name!();
    let log = traced(name, &["-e", "trace=?send,sendto,sendmsg,writev"], || {
        go(async {
            let (mut a, _b) = connected_pair().await;
            a.write_all(b"plain").await.unwrap();
            let slices = [IoSlice::new(b"vect"), IoSlice::new(b"ored")];
            assert_eq!(a.write_vectored(&slices).await.unwrap(), 8);
        });
    });
    let Some(log) = log else { return };
    assert_eq!(log.lines().count(), 2, "{log}");
    assert!(
        log.lines().all(|line| line.contains("MSG_NOSIGNAL")),
        "{log}"
    );
}

/// Linux takes any length that is long enough, but illumos takes no other.
#[test]
fn addresses_are_passed_with_exactly_the_length_of_their_family() {
    let name = test_name!();
    let log = traced(name, &["-e", "trace=bind,connect"], || {
        go(async {
            for addr in ["127.0.0.1:0", "[::1]:0"] {
                // A machine may have no IPv6.
                if let Ok(listener) = AsyncTcpListener::bind(addr) {
                    let addr = listener.local_addr().unwrap();
                    AsyncTcpStream::connect(addr).await.unwrap();
                }
            }
        });
    });
    let Some(log) = log else { return };
    let calls: Vec<_> = log
        .lines()
        .filter(|line| line.contains("AF_INET"))
        .collect();
    assert!(calls.len() >= 2, "{log}");
    for call in calls {
        let len = if call.contains("AF_INET6") { 28 } else { 16 };
        assert!(call.contains(&format!("}}, {len}) = ")), "{call}");
    }
}

#[test]
fn no_descriptor_is_closed_twice() {
    let name = test_name!();
    let log = traced(name, &["-e", "trace=close"], || {
        let session = || {
            go(async {
                crate::util::exchange(10, 3).await.unwrap();
                let (a, b) = connected_pair().await;
                let (read, write) = a.into_split();
                drop(read.reunite(write).unwrap().into_std());
                drop(AsyncFd::new(b.into_std()).unwrap().into_inner());
                let refusing = crate::util::Refusing::new();
                AsyncTcpStream::connect(refusing.addr).await.unwrap_err();
                fahrenheit::spawn_blocking(|| {}).await.unwrap();
            });
        };
        std::thread::spawn(session).join().unwrap();
        session();
    });
    let Some(log) = log else { return };
    assert!(count(&log)["close"] > 40, "{log}");
    assert!(!log.contains("EBADF"), "{log}");
}

/// Where that can be had.
#[cfg(not(fahrenheit_plain_flags))]
#[test]
fn every_descriptor_is_made_close_on_exec_at_once() {
    let name = test_name!();
    let calls = "trace=socket,accept,accept4,?pipe,pipe2,eventfd2,?epoll_create,epoll_create1";
    let log = traced(name, &["-e", calls], || {
        go(crate::util::exchange(5, 3)).unwrap();
    });
    let Some(log) = log else { return };
    let made: Vec<_> = log.lines().filter(|line| line.contains(") = ")).collect();
    assert!(made.len() >= 12, "{log}");
    let leaky: Vec<_> = made
        .iter()
        .filter(|line| !line.contains("CLOEXEC"))
        .collect();
    assert!(leaky.is_empty(), "{leaky:?}");
}

#[test]
fn waiting_for_a_timer_is_one_wait() {
    let name = test_name!();
    let calls = "trace=?select,pselect6,?epoll_wait,?epoll_pwait,?epoll_pwait2";
    let log = traced(name, &["-e", calls], || {
        go(fahrenheit::time::sleep(Duration::from_millis(300)));
    });
    let Some(log) = log else { return };
    let n_waits = count(&log).values().sum::<i64>();
    assert!((1..=2).contains(&n_waits), "{log}");
}
