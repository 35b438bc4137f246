//! The other side of the examples: clients of servers, servers of clients. Blocking calls of std,
//! on threads, each with a time limit.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::ChildStdout;
use std::thread;
use std::time::Duration;

const N_CLIENTS: usize = 10;
const N_ROUNDS: u32 = 12;
const LIMIT: Duration = Duration::from_secs(40);

/// The address that an example says it listens on. Its process is ended in time by `timeout`.
pub(crate) fn address(stdout: &mut BufReader<ChildStdout>) -> Option<SocketAddr> {
    let mut line = String::new();
    stdout.read_line(&mut line).ok()?;
    let (_, addr) = line.split_once("listening on ")?;
    addr.split(';').next()?.trim().parse().ok()
}

/// Has many clients talk to `server` at once; returns how many were cut off.
///
/// # Panics
/// If a word comes back wrong, or something else than being cut off happens.
pub(crate) fn talk(server: SocketAddr, http: bool) -> usize {
    let one = move |number| {
        let talked = match http {
            true => ask(server),
            false => echo(server, number),
        };
        match talked.as_ref().map_err(io::Error::kind) {
            Ok(()) => 0,
            Err(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => 1,
            Err(io::ErrorKind::BrokenPipe) => 1,
            Err(_) => panic!("a client: {talked:?}"),
        }
    };
    let clients: Vec<_> = (0..N_CLIENTS)
        .map(|number| thread::spawn(move || one(number)))
        .collect();
    clients.into_iter().map(|c| c.join().unwrap()).sum()
}

fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn echo(server: SocketAddr, number: usize) -> io::Result<()> {
    let mut stream = connect(server)?;
    for round in 0..N_ROUNDS {
        let word = (number as u32 * 1_000 + round).to_be_bytes();
        stream.write_all(&word)?;
        let mut back = [0; 4];
        stream.read_exact(&mut back)?;
        assert_eq!(back, word, "client {number}, round {round}");
    }
    stream.shutdown(Shutdown::Write)?;
    assert_eq!(stream.read(&mut [0])?, 0, "more than was sent");
    Ok(())
}

/// Asks for a page, again and again on one connection.
fn ask(server: SocketAddr) -> io::Result<()> {
    let mut stream = connect(server)?;
    for _ in 0..N_ROUNDS {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")?;
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\nHello.\n") {
            stream.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
    Ok(())
}

/// A server of this process that sends everything back, or answers any request with a page. It ends
/// with the process.
pub(crate) fn upstream(http: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || match http {
                true => answer(stream),
                false => io::copy(&mut &stream, &mut &stream).map(drop),
            });
        }
    });
    addr
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while lines
        .next()
        .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
    {}
    stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nA page.\n")
}
