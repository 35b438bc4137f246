//! Asks a name server for IPv4 addresses, over UDP: datagrams get lost, so it asks three times.
//!
//! Terminal 1: `dnsmasq -d -p 5300 --address=/a.test/192.0.2.1` (or have any other name server)
//! Terminal 2: `cargo run --example dns_query 127.0.0.1:5300 a.test`

mod shared;

use fahrenheit::{AsyncUdpSocket, time::timeout};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

fn main() {
    let args = shared::args();
    let Some((server, question)) = (match &args[..] {
        [server, name] => server.parse().ok().zip(question(name)),
        _ => None,
    }) else {
        shared::fail(2, "usage: dns_query ADDRESS:PORT NAME")
    };
    match fahrenheit::run(ask(server, &question)) {
        Ok(found) => shared::print(found.as_bytes()),
        Err(error) => shared::fail(1, &format!("dns_query: {error}")),
    }
}

/// One address a line, or the last of three errors: one error does not end a socket.
async fn ask(server: SocketAddr, question: &[u8]) -> Result<String> {
    let any = ["[::]:0", "0.0.0.0:0"][usize::from(server.is_ipv4())];
    let socket = AsyncUdpSocket::bind(any)?;
    // From now on, the system drops what others send.
    socket.connect(server).await?;
    let mut last = Error::other("no reply to this question");
    for _ in 0..3 {
        let mut bytes = [0; 512];
        let exchange = async {
            socket.send(question).await?;
            socket.recv(&mut bytes).await
        };
        match timeout(Duration::from_secs(1), exchange).await {
            Ok(Ok(n)) if bytes[..2] == question[..2] => match (bytes[3] & 15, &bytes[..n]) {
                (3, _) => return Err(Error::new(ErrorKind::NotFound, "there is no such name")),
                (0, reply) => return answers(reply, question.len()).ok_or(last),
                (code, _) => last = Error::other(format!("the server reports error {code}")),
            },
            Ok(outcome) => last = outcome.err().unwrap_or(last),
            Err(elapsed) => last = elapsed.into(),
        }
    }
    Err(last)
}

/// A number that others cannot guess, "recurse", one question: `name`, type A, Internet.
fn question(name: &str) -> Option<Vec<u8>> {
    let number = RandomState::new().build_hasher().finish() as u16;
    let mut bytes = [&number.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        let len = u8::try_from(label.len()).ok()?;
        bytes.push(Some(len).filter(|len| (1..64).contains(len))?);
        bytes.extend(label.as_bytes());
    }
    Some([&bytes, &[0, 0, 1, 0, 1][..]].concat()).filter(|bytes| bytes.len() < 272)
}

/// The addresses behind the question in `reply`; `None` if it ends too early.
fn answers(reply: &[u8], n_question: usize) -> Option<String> {
    let (mut rest, mut found) = (reply.get(n_question..)?, String::new());
    // Each begins with a name, which is nearly always a reference of two bytes.
    while let [0xc0..=0xff, _, kind @ .., _, _, _, _, _, _] = rest.get(..12).unwrap_or(&[]) {
        let end = 12 + usize::from(u16::from_be_bytes([rest[10], rest[11]]));
        if let ([0, 1, 0, 1], Ok(ip)) = (kind, <[u8; 4]>::try_from(rest.get(12..end)?)) {
            found += &format!("{}\n", Ipv4Addr::from(ip));
        }
        rest = &rest[end..];
    }
    Some(found)
}
