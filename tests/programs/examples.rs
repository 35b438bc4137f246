//! The examples as programs: exit codes, sentences, and what they are for.
#![cfg(all(feature = "fs", feature = "process", feature = "udp", feature = "unix"))]
#![allow(dead_code, reason = "an example is included below as a module")]

use crate::util::{Killed, LIMIT, connect_to, end_of, example, in_time, line_of, port_in};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{ChildStdout, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

#[path = "../../examples/http_hand_written.rs"]
mod http_hand_written;

/// Runs an example that ends by itself.
fn ended(name: &str, args: &[&str]) -> Output {
    let mut command = example(name);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Killed(command.args(args).spawn().unwrap());
    let mut stdout = child.0.stdout.take().unwrap();
    let mut stderr = child.0.stderr.take().unwrap();
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    let errors = thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| bytes)
    });
    Output {
        status: end_of(&mut child.0),
        stdout: reader.join().unwrap().unwrap(),
        stderr: errors.join().unwrap().unwrap(),
    }
}

/// The exit code of an example, and what it said on stderr.
fn failure(name: &str, args: &[&str]) -> (i32, String) {
    let output = ended(name, args);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.stdout, b"", "{name} {args:?}");
    for inside in ["panicked", "Os {", "Error {", "Custom {", "Err("] {
        assert!(!text.contains(inside), "{name} {args:?}: {text}");
    }
    let code = output.status.code();
    (
        code.unwrap_or_else(|| panic!("{name} {args:?}: a signal: {text}")),
        text,
    )
}

/// A server, and its port. Its stdout is kept: closing it is the matter of another test.
fn server(name: &str, args: &[&str]) -> (Killed, u16, BufReader<ChildStdout>) {
    started(example(name).args(args))
}

fn started(command: &mut Command) -> (Killed, u16, BufReader<ChildStdout>) {
    let mut child = Killed(command.stdout(Stdio::piped()).spawn().unwrap());
    let (line, stdout) = line_of(BufReader::new(child.0.stdout.take().unwrap()));
    (child, port_in(&line), stdout)
}

/// An address that refuses connections: bound, so that nobody else takes it, and not listening.
fn refusing() -> (OwnedFd, String) {
    let (family, kind) = (AddressFamily::Inet, SockType::Stream);
    let fd = socket::socket(family, kind, SockFlag::empty(), None).unwrap();
    socket::bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let addr: SockaddrIn = socket::getsockname(fd.as_raw_fd()).unwrap();
    (fd, addr.to_string())
}

/// Sends `text` and the end, and returns what comes back until the end.
fn round_trip(port: u16, text: &str) -> String {
    let mut stream = connect_to(port);
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = String::new();
    stream.read_to_string(&mut back).unwrap();
    back
}

/// Answers one request after another with `answer`, until the test ends. Returns the port.
fn web_server(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while !lines.next().unwrap().unwrap().is_empty() {}
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    port
}

const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\na real page\n";

const SERVERS: [&str; 5] = ["echo", "echo_spawn", "chat", "http_server", "metrics"];

#[test]
fn wrong_arguments_end_with_the_usage_and_2() {
    for name in SERVERS {
        for args in [
            &["nonsense"][..],
            &["--help"],
            &["127.0.0.1:x"],
            &["127.0.0.1:0", "more"],
        ] {
            let usage = format!("usage: {name} [ADDRESS:PORT]\n");
            assert_eq!(failure(name, args), (2, usage), "{args:?}");
        }
    }
    for (name, args) in [
        ("proxy", &[][..]),
        ("proxy", &["127.0.0.1:0"]),
        ("proxy", &["nonsense", "127.0.0.1:1"]),
        ("http_get", &[]),
        ("http_get", &["https://localhost/"]),
        ("http_get", &["a b"]),
        ("http_hand_written", &[]),
        ("http_hand_written", &["localhost", "/"]),
        ("talk", &["nonsense"]),
    ] {
        let (code, text) = failure(name, args);
        assert_eq!(code, 2, "{name} {args:?}: {text}");
        let usage = format!("usage: {name} ");
        assert!(
            text.starts_with(&usage) && text.lines().count() == 1,
            "{text}"
        );
    }
}

#[test]
fn a_port_in_use_ends_with_one_sentence_and_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for name in SERVERS {
        let (code, text) = failure(name, &[&addr]);
        assert_eq!(code, 1, "{text}");
        let begin = format!("{name}: cannot listen on {addr}: ");
        assert!(
            text.starts_with(&begin) && text.lines().count() == 1,
            "{text}"
        );
    }
    let (code, text) = failure("proxy", &[&addr, "127.0.0.1:1"]);
    assert_eq!((code, text.lines().count()), (1, 1), "{text}");
}

#[test]
fn a_refused_connection_ends_with_one_sentence_and_1() {
    let (_socket, addr) = refusing();
    let (code, text) = failure("http_get", &[&addr]);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.starts_with(&format!("http_get: http://{addr}/: ")),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
    let (code, text) = failure("http_hand_written", &[&addr, "/"]);
    assert_eq!(code, 1, "{text}");
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with(&format!("http_hand_written: {addr}: ")),
        "{text}"
    );
}

#[test]
fn an_unknown_name_ends_with_one_sentence_and_1() {
    for (name, args) in [
        ("http_get", &["http://name.invalid/"][..]),
        ("http_hand_written", &["name.invalid:80", "/"]),
        ("proxy", &["127.0.0.1:0", "name.invalid:80"]),
    ] {
        let (code, text) = failure(name, args);
        assert_eq!(code, 1, "{text}");
        let last = text.lines().last().unwrap();
        assert!(
            last.starts_with(name) && last.contains("name.invalid"),
            "{text}"
        );
    }
}

#[test]
fn the_echo_servers_send_everything_back() {
    let long = "all work and no play\n".repeat(100_000);
    for name in ["echo", "echo_spawn"] {
        let (_child, port, _stdout) = server(name, &["127.0.0.1:0"]);
        assert_eq!(round_trip(port, "hello\n"), "hello\n", "{name}");
        // Written by a thread of its own: an echo may come back before all is sent.
        let mut stream = connect_to(port);
        let mut writer = stream.try_clone().unwrap();
        let text = long.clone();
        let writer = thread::spawn(move || {
            writer.write_all(text.as_bytes()).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = String::new();
        stream.read_to_string(&mut back).unwrap();
        writer.join().unwrap();
        assert!(
            back == long,
            "{name}: {} of {} bytes",
            back.len(),
            long.len()
        );
    }
}

#[test]
fn a_closed_stdout_does_not_end_a_server() {
    // The first line is written to a connection that nobody reads any more.
    for name in SERVERS {
        let (read, write) = UnixStream::pair().unwrap();
        drop(read);
        let spawned = example(name)
            .arg("127.0.0.1:0")
            .stdout(OwnedFd::from(write))
            .stderr(Stdio::piped())
            .spawn();
        let mut child = Killed(spawned.unwrap());
        thread::sleep(Duration::from_millis(300));
        let _ = child.0.kill();
        let status = child.0.wait().unwrap();
        let mut text = String::new();
        let stderr = child.0.stderr.as_mut().unwrap();
        stderr.read_to_string(&mut text).unwrap();
        assert_eq!((status.code(), text.as_str()), (None, ""), "{name}");
    }
}

#[test]
fn running_out_of_descriptors_does_not_end_a_server() {
    for name in ["echo", "echo_spawn"] {
        let path = example(name).get_program().to_owned();
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n 16; exec \"$0\" 127.0.0.1:0"]);
        let (_child, port, _stdout) = started(shell.arg(path).stderr(Stdio::piped()));
        let crowd: Vec<_> = (0..24).map(|_| connect_to(port)).collect();
        // The last of them is served once the first are gone.
        let mut crowd = crowd.into_iter();
        let mut last = crowd.next_back().unwrap();
        last.write_all(b"hello").unwrap();
        drop(crowd);
        let mut bytes = [0; 5];
        last.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello", "{name}");
    }
}

#[test]
fn http_get_prints_a_page_by_address_and_by_name() {
    let port = web_server(PAGE);
    for host in ["127.0.0.1", "http://localhost"] {
        let output = ended("http_get", &[&format!("{host}:{port}/")]);
        assert_eq!(output.stdout, b"a real page\n", "{host}: {output:?}");
        assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
    }
}

#[test]
fn http_get_fetches_at_once_and_prints_in_order() {
    // The first page is sent only when the second has been asked for.
    let (first, second) = (
        TcpListener::bind("127.0.0.1:0").unwrap(),
        TcpListener::bind("127.0.0.1:0").unwrap(),
    );
    let urls = [&first, &second].map(|l| l.local_addr().unwrap().to_string());
    thread::spawn(move || {
        let (mut one, _) = first.accept().unwrap();
        let (mut two, _) = second.accept().unwrap();
        two.write_all(b"HTTP/1.0 200 OK\r\n\r\ntwo\n").unwrap();
        two.shutdown(Shutdown::Write).unwrap();
        one.write_all(b"HTTP/1.0 200 OK\r\n\r\none\n").unwrap();
        one.shutdown(Shutdown::Write).unwrap();
        // Reads what was asked, lest closing resets the connections.
        let _ = one.read_to_end(&mut Vec::new());
        let _ = two.read_to_end(&mut Vec::new());
    });
    let output = ended("http_get", &[&urls[0], &urls[1]]);
    assert_eq!(output.stdout, b"one\ntwo\n", "{output:?}");
}

#[test]
fn http_get_takes_no_part_of_a_page_for_the_page() {
    for (answer, sentence) in [
        ("HTTP/1.1 404 Not Found\r\n\r\n", "404 Not Found"),
        ("HTTP/1.1 200 OK\r\nContent-", "within its head"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
            "within its body",
        ),
    ] {
        let addr = format!("127.0.0.1:{}", web_server(answer));
        let (code, text) = failure("http_get", &[&addr]);
        assert_eq!((code, text.lines().count()), (1, 1), "{text}");
        assert!(text.contains(sentence), "{text}");
    }
}

#[test]
fn the_hand_written_future_does_nothing_before_its_first_poll() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let get = http_hand_written::HttpGet::new(&addr, "/");
    listener.set_nonblocking(true).unwrap();
    let early = listener.accept().map(|_| ()).unwrap_err();
    assert_eq!(early.kind(), io::ErrorKind::WouldBlock);
    listener.set_nonblocking(false).unwrap();
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // Not UTF-8, and in two pieces.
        stream.write_all(b"one \xff ").unwrap();
        stream.write_all(b"two").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut request = String::new();
        stream.read_to_string(&mut request).unwrap();
        request
    });
    assert_eq!(fahrenheit::run(get).unwrap(), "one \u{fffd} two");
    let request = in_time("the request", move || peer.join().unwrap());
    assert_eq!(request, format!("GET / HTTP/1.0\r\nHost: {addr}\r\n\r\n"));
}

#[test]
fn the_hand_written_future_is_polled_again_and_ends_with_the_answer() {
    let addr = format!("127.0.0.1:{}", web_server(PAGE));
    let output = ended("http_hand_written", &[&addr, "/"]);
    assert_eq!(output.stdout, PAGE.as_bytes(), "{output:?}");
    let steps = String::from_utf8(output.stderr).unwrap();
    assert!(
        steps.starts_with("made: nothing has happened yet\npoll\n"),
        "{steps}"
    );
    assert!(steps.matches("poll\n").count() > 1, "{steps}");
    assert!(steps.ends_with("\n0 bytes\n"), "{steps}");
}

#[test]
fn talk_sends_its_input_and_prints_what_the_server_answers_after_the_end() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap().to_string();
    let peer = thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut question = String::new();
        stream.read_to_string(&mut question).unwrap();
        stream.write_all(b"answer").unwrap();
        question
    });
    let mut command = example("talk");
    command
        .arg(&addr)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = Killed(command.spawn().unwrap());
    child
        .0
        .stdin
        .take()
        .unwrap()
        .write_all(b"question")
        .unwrap();
    let mut stdout = child.0.stdout.take().unwrap();
    let answer = in_time("the answer", move || {
        let mut answer = String::new();
        stdout.read_to_string(&mut answer).map(|_| answer)
    });
    assert_eq!(answer.unwrap(), "answer");
    assert_eq!(peer.join().unwrap(), "question");
    assert!(child.0.wait().unwrap().success());
}

#[test]
fn the_proxy_passes_on_both_ways_and_the_end_of_each() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = target.local_addr().unwrap().to_string();
    let (_child, port, _stdout) = server("proxy", &["127.0.0.1:0", &addr]);
    let peer = thread::spawn(move || {
        let (mut stream, _) = target.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // Answers only after the end of the question: the other direction is still open then.
        let mut question = String::new();
        stream.read_to_string(&mut question).unwrap();
        stream
            .write_all(question.to_uppercase().as_bytes())
            .unwrap();
    });
    assert_eq!(round_trip(port, "hello"), "HELLO");
    peer.join().unwrap();
}

#[test]
fn a_proxy_whose_target_refuses_closes_the_connection_and_goes_on() {
    let (_socket, addr) = refusing();
    let mut command = example("proxy");
    command.args(["127.0.0.1:0", &addr]).stderr(Stdio::null());
    let (mut child, port, _stdout) = started(&mut command);
    for _ in 0..2 {
        let mut bytes = Vec::new();
        assert_eq!(connect_to(port).read_to_end(&mut bytes).unwrap(), 0);
    }
    assert!(child.0.try_wait().unwrap().is_none());
}

/// Reads lines until one is `last`; returns them all.
fn lines_until(reader: &mut impl BufRead, last: &str) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line| line != last) {
        let mut line = String::new();
        assert!(
            reader.read_line(&mut line).unwrap() > 0,
            "the end after {lines:?}"
        );
        lines.push(line.trim_end().to_owned());
    }
    lines
}

#[test]
fn the_chat_passes_each_line_on_to_all_clients() {
    let (_child, port, _stdout) = server("chat", &["127.0.0.1:0"]);
    let mut anna = connect_to(port);
    let mut hears = BufReader::new(anna.try_clone().unwrap());
    anna.write_all(b"anna\n").unwrap();
    assert_eq!(lines_until(&mut hears, "* anna is here").len(), 1);
    let bob = round_trip(port, "bob\nhello\x1b[2J\nlast");
    assert!(bob.contains("bob: hello[2J\nbob: last\n"), "{bob}");
    let lines = lines_until(&mut hears, "* bob has gone");
    let expected = [
        "* bob is here",
        "bob: hello[2J",
        "bob: last",
        "* bob has gone",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_chat_client_that_does_not_read_is_cut_off_and_delays_no_other() {
    let (_child, port, _stdout) = server("chat", &["127.0.0.1:0"]);
    let mut anna = connect_to(port);
    let mut hears = BufReader::new(anna.try_clone().unwrap());
    anna.write_all(b"anna\n").unwrap();
    lines_until(&mut hears, "* anna is here");
    let mut deaf = connect_to(port);
    deaf.write_all(b"deaf\n").unwrap();
    lines_until(&mut hears, "* deaf is here");
    // More than the system keeps for a connection whose other end does not read.
    let line = format!("{}\n", "x".repeat(900));
    for n in 0..20 {
        for _ in 0..1000 {
            anna.write_all(line.as_bytes()).unwrap();
            let mut back = String::new();
            assert!(hears.read_line(&mut back).unwrap() > 900);
        }
        anna.write_all(format!("{n}\n").as_bytes()).unwrap();
        lines_until(&mut hears, &format!("anna: {n}"));
    }
    // It gets what the system kept, and then the end or a reset, and not all.
    let mut kept = Vec::new();
    let _ = deaf.read_to_end(&mut kept);
    assert!(kept.len() < 20_000 * 900, "{} bytes", kept.len());
}

#[test]
fn the_http_server_keeps_connections_and_answers_pipelined_requests() {
    let (_child, port, _stdout) = server("http_server", &["127.0.0.1:0"]);
    let ok = |next: &str, text: &str| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain";
        format!("{head}\r\nConnection: {next}\r\nContent-Length: 7\r\n\r\n{text}")
    };
    let back = round_trip(
        port,
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nhost: a\r\n\r\n\
         GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n",
    );
    let hello = "Hello.\n";
    let expected = ok("keep-alive", hello) + &ok("keep-alive", "") + &ok("close", hello);
    assert_eq!(back, expected);
    for (request, status) in [
        ("GET / HTTP/1.0\r\n\r\n", "200 OK"),
        ("GET / HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("nonsense\r\n\r\n", "400 Bad Request"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            "405 Method",
        ),
    ] {
        let back = round_trip(port, request);
        assert!(
            back.starts_with(&format!("HTTP/1.1 {status}")),
            "{request}: {back}"
        );
        assert_eq!(back.matches("HTTP/1.1").count(), 1, "{request}: {back}");
    }
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(10_000));
    assert!(round_trip(port, &long).starts_with("HTTP/1.1 400 Bad Request"));
}

/// `src/a.rs` and `src/b.rs` of `src/{a,b}.rs`, as a shell reads it.
fn alternatives(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else {
        return vec![path.to_owned()];
    };
    let (names, after) = rest.split_once('}').unwrap();
    let expanded = names
        .split(',')
        .map(|name| format!("{before}{name}{after}"));
    expanded.collect()
}

#[test]
fn the_readme_maps_every_module_of_src_and_nothing_that_is_not_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let first_words = readme.lines().filter_map(|line| line.split(' ').next());
    let mapped: Vec<_> = first_words
        .filter(|word| word.starts_with("src/"))
        .flat_map(alternatives)
        .collect();
    for path in &mapped {
        assert!(root.join(path).is_file(), "{path} is not there");
    }
    for entry in std::fs::read_dir(root.join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let mapped = mapped.contains(&format!("src/{name}"));
        assert!(mapped || !name.ends_with(".rs"), "no line maps src/{name}");
    }
}
