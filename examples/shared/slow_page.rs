//! A web server of one page that takes its time, and a client to ask it.

use fahrenheit::{AsyncTcpListener, AsyncTcpStream, Event, prelude::*, spawn};
use std::io;
use std::net::SocketAddr;

const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// Starts the server, which answers one request when `now` is signalled. Returns its address.
pub(crate) fn serve(page: &'static [u8], now: Event) -> io::Result<SocketAddr> {
    let listener = AsyncTcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    drop(spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        stream.read_exact(&mut [0; REQUEST.len()]).await?;
        now.wait().await?;
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").await?;
        stream.write_all(page).await?;
        stream.close().await
    }));
    Ok(addr)
}

/// The page, without its head.
pub(crate) async fn get(addr: SocketAddr) -> io::Result<Vec<u8>> {
    let (mut stream, mut answer) = (AsyncTcpStream::connect(addr).await?, Vec::new());
    stream.write_all(REQUEST).await?;
    fahrenheit::io::read_to_end(&mut stream, &mut answer).await?;
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let head = head.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(answer.split_off(head + 4))
}
