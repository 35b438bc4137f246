//! The example `graceful`, told to end in the middle of its work.
#![cfg(feature = "signal")]

use crate::util::Server;
use nix::sys::signal::Signal;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Reads one answer, and returns whether the server closes the connection after it.
fn read_answer(stream: &mut TcpStream) -> bool {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nHello.\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => answer.extend(byte),
            other => panic!(
                "a request is lost: {other:?} after {:?}",
                String::from_utf8_lossy(&answer)
            ),
        }
    }
    let text = String::from_utf8(answer).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    text.contains("Connection: close")
}

#[test]
fn every_request_is_answered_if_sigterm_comes_in_the_middle_of_them() {
    let server = Server::start("graceful");
    // On each of these, one request follows the other until the server says that it ends.
    let clients: Vec<_> = (0..20)
        .map(|n| {
            let mut stream = server.connect();
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(n * 25));
                let mut n_answers = 0;
                loop {
                    stream.write_all(REQUEST).unwrap();
                    n_answers += 1;
                    if read_answer(&mut stream) {
                        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "nothing follows");
                        return n_answers;
                    }
                }
            })
        })
        .collect();
    // Answers take half a second, so some clients have theirs, and some wait for it.
    thread::sleep(Duration::from_millis(900));
    server.signal(Signal::SIGTERM);
    let n_answers: usize = clients.into_iter().map(|c| c.join().unwrap()).sum();
    assert!(n_answers >= 20);
    let text = server.ends_well();
    assert!(text.contains("SIGTERM: finishing"), "{text}");
    assert!(text.contains("all requests are answered"), "{text}");
}

#[test]
fn connections_that_wait_to_be_accepted_at_sigterm_are_served() {
    let server = Server::start("graceful");
    server.signal(Signal::SIGSTOP);
    // The kernel accepts them; the program cannot have.
    let mut clients: Vec<_> = (0..200).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.write_all(REQUEST).unwrap();
    }
    let port = server.port;
    server.signal(Signal::SIGTERM);
    server.signal(Signal::SIGCONT);
    for client in &mut clients {
        assert!(read_answer(client), "the answer says that it is the last");
    }
    server.ends_well();
    let refused = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}
