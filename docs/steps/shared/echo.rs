//! The server of steps 3 to 5, which differ only in what runs it.

use super::reactor::{readable, writable};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;

/// Returns a non-blocking listener on the address that the first argument of the program names.
pub fn listen() -> io::Result<Rc<TcpListener>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7878".into());
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    println!("listening on {}", listener.local_addr()?);
    Ok(Rc::new(listener))
}

/// Waits for the next client.
pub async fn accept(listener: &Rc<TcpListener>) -> io::Result<Rc<TcpStream>> {
    let (stream, _peer) = readable(listener, || listener.accept()).await?;
    stream.set_nonblocking(true)?;
    Ok(Rc::new(stream))
}

/// Sends back what comes, until the client has finished.
pub async fn echo(stream: Rc<TcpStream>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let n = readable(&stream, || (&*stream).read(&mut buffer)).await?;
        if n == 0 {
            return Ok(());
        }
        let mut written = 0;
        while written < n {
            written += writable(&stream, || (&*stream).write(&buffer[written..n])).await?;
        }
    }
}
