//! What the command lines of the examples have in common. Nothing here is asynchronous.
#![allow(dead_code, reason = "no example needs everything")]

use fahrenheit::AsyncTcpListener;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::process::exit;

/// The arguments. `std::env::args` would panic at those that are not UTF-8.
pub(crate) fn args() -> Vec<String> {
    let args = std::env::args_os().skip(1);
    args.map(|arg| arg.to_string_lossy().into_owned()).collect()
}

/// Returns the numeric address with a port that is the only argument, or `default`.
pub(crate) fn address(name: &str, default: &str) -> SocketAddr {
    let mut args = args();
    args.extend(args.is_empty().then(|| default.to_owned()));
    let addr = args.pop().and_then(|addr| addr.parse().ok());
    addr.filter(|_| args.is_empty())
        .unwrap_or_else(|| fail(2, &format!("usage: {name} [ADDRESS:PORT]")))
}

/// Listens on the address that is the only argument, or on `default`.
pub(crate) fn listen(name: &str, default: &str) -> AsyncTcpListener {
    let mut args = args();
    args.extend(args.is_empty().then(|| default.to_owned()));
    match args[..] {
        [ref addr] => listen_on(name, addr),
        _ => None,
    }
    .unwrap_or_else(|| fail(2, &format!("usage: {name} [ADDRESS:PORT]")))
}

/// Listens on `addr` and says so; `None` if that is not a numeric address with a port.
pub(crate) fn listen_on(name: &str, addr: &str) -> Option<AsyncTcpListener> {
    let addr: SocketAddr = addr.parse().ok()?;
    let cannot = |error| fail(1, &format!("{name}: cannot listen on {addr}: {error}"));
    let listener = AsyncTcpListener::bind(addr).unwrap_or_else(cannot);
    let addr = listener.local_addr().unwrap_or(addr);
    let (ip, port) = (addr.ip(), addr.port());
    // `talk` is for machines without `nc`. A closed stdout is no reason not to serve, and
    // `println!` would panic.
    let _ = writeln!(
        io::stdout(),
        "{name}: listening on {addr}; try: nc {ip} {port}, or cargo run --example talk {addr}"
    );
    Some(listener)
}

/// Writes to stdout. A reader that has seen enough, as `head` has, ends the program in peace.
pub(crate) fn print(bytes: &[u8]) {
    let mut stdout = io::stdout();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit(0),
        Err(error) => fail(1, &format!("cannot write to stdout: {error}")),
    }
}

/// Writes a line to stdout, as [`print`] does.
pub(crate) fn say_on_stdout(text: &str) {
    print(format!("{text}\n").as_bytes());
}

/// As `eprintln!`, but a closed stderr is no reason to panic.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Ends the program with one line on stderr: 2 for wrong arguments, 1 for all that may go wrong.
pub(crate) fn fail(code: i32, text: &str) -> ! {
    say(text);
    exit(code)
}
