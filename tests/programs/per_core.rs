//! The example `per_core`: a server on all cores, by one loop for each on one port.
//!
//! Only Linux spreads connections over sockets that share a port.
#![cfg(all(target_os = "linux", feature = "signal"))]

use crate::util::example;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Stdio};
use std::thread::available_parallelism;
use std::time::Duration;

/// The example, which is killed if a test ends before it does.
struct Server {
    child: Child,
    addr: String,
    /// Kept open: the example may write to it.
    _stdout: BufReader<ChildStdout>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start() -> Server {
        let mut command = example("per_core");
        command.arg("127.0.0.1:0").stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let addr = line.split_whitespace().last().unwrap().to_owned();
        Server {
            child,
            addr,
            _stdout: stdout,
        }
    }

    /// Connects and returns the connection with the name of the thread that serves it.
    fn connect(&self) -> (TcpStream, String) {
        let stream = TcpStream::connect(&self.addr).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut name = Vec::new();
        let mut byte = [0];
        while byte != *b"\n" {
            (&stream).read_exact(&mut byte).unwrap();
            name.push(byte[0]);
        }
        (stream, String::from_utf8(name).unwrap())
    }
}

/// With two threads, all of 64 connections reach the same one once in 2^63 runs.
#[test]
fn each_thread_serves_some_of_the_connections_and_all_are_echoed() {
    let server = Server::start();
    let mut names = BTreeSet::new();
    let n_threads = available_parallelism().unwrap().get();
    for _ in 0..32 * n_threads {
        let (mut stream, name) = server.connect();
        names.insert(name);
        stream.write_all(b"word").unwrap();
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"word");
    }
    let expected: BTreeSet<_> = (1..=n_threads).map(|n| format!("thread {n}\n")).collect();
    assert_eq!(names, expected);
}

#[test]
fn a_signal_ends_every_thread_and_what_was_sent_before_it_is_echoed() {
    let mut server = Server::start();
    let mut clients: Vec<_> = (0..16).map(|_| server.connect().0).collect();
    let pid = Pid::from_raw(server.child.id().try_into().unwrap());
    // So that the loops find the words and the signal in the same turn.
    kill(pid, Signal::SIGSTOP).unwrap();
    for client in &mut clients {
        client.write_all(b"word").unwrap();
    }
    kill(pid, Signal::SIGTERM).unwrap();
    kill(pid, Signal::SIGCONT).unwrap();
    for client in &mut clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "word");
    }
    assert!(server.child.wait().unwrap().success());
}
