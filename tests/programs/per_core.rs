//! The example `per_core`: a server on all cores, by one loop for each on one port.
//!
//! Only Linux spreads connections over sockets that share a port.
#![cfg(all(target_os = "linux", feature = "signal"))]

use crate::util::Server;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::available_parallelism;

/// Connects and returns the connection with the name of the thread that serves it.
fn greeted(server: &Server) -> (TcpStream, String) {
    let stream = server.connect();
    let mut name = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        (&stream).read_exact(&mut byte).unwrap();
        name.push(byte[0]);
    }
    (stream, String::from_utf8(name).unwrap())
}

/// With two threads, all of 64 connections reach the same one once in 2^63 runs.
#[test]
fn each_thread_serves_some_of_the_connections_and_all_are_echoed() {
    let server = Server::start("per_core");
    let mut names = BTreeSet::new();
    let n_threads = available_parallelism().unwrap().get();
    for _ in 0..32 * n_threads {
        let (mut stream, name) = greeted(&server);
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
    let server = Server::start("per_core");
    let mut clients: Vec<_> = (0..16).map(|_| greeted(&server).0).collect();
    // So that the loops find the words and the signal in the same turn.
    server.signal(Signal::SIGSTOP);
    for client in &mut clients {
        client.write_all(b"word").unwrap();
    }
    server.signal(Signal::SIGTERM);
    server.signal(Signal::SIGCONT);
    for client in &mut clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "word");
    }
    server.ends_well();
}
