//! An HTTP client: prints pages in the order of the arguments, and fetches up to eight at once.
//!
//! Terminal 1: `python3 -m http.server 8000 --bind 127.0.0.1`
//! Terminal 2: `cargo run --example http_get http://localhost:8000/ 127.0.0.1:8000/Cargo.toml`
//!
//! Names are looked up off the loop; addresses need no thread.

mod shared;

use fahrenheit::{AsyncTcpStream, prelude::*, time::timeout};
use futures_util::stream;
use std::io;
use std::time::Duration;

fn main() {
    let urls = shared::args();
    let pages: Option<Vec<_>> = urls.iter().map(|url| parse(url)).collect();
    match pages.filter(|pages| !pages.is_empty()) {
        Some(pages) => fahrenheit::run(print(&pages)),
        None => shared::fail(2, "usage: http_get [http://]HOST[:PORT][/PATH] ..."),
    }
}

/// The host and the path of a URL.
fn parse(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let odd = |c: char| c.is_whitespace() || c.is_control();
    let bad = rest.contains("://") || rest.contains(odd) || host.starts_with([':', '-']);
    let path = if path.is_empty() { "/" } else { path };
    (!bad && !host.is_empty()).then_some((host, path))
}

async fn print(pages: &[(&str, &str)]) {
    let limit = Duration::from_secs(30);
    let fetch = async |&(host, path): &(_, _)| match timeout(limit, get(host, path)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => Err(format!("http_get: http://{host}{path}: {error}")),
        Err(elapsed) => Err(format!("http_get: http://{host}{path}: {elapsed}")),
    };
    let mut bodies = stream::iter(pages).map(fetch).buffered(8);
    while let Some(body) = bodies.next().await {
        shared::print(&body.unwrap_or_else(|message| shared::fail(1, &message)));
    }
}

/// The body of a page. Asks by HTTP/1.0, whose answers end with the connection.
async fn get(host: &str, path: &str) -> io::Result<Vec<u8>> {
    // A colon, unless it is inside of the brackets of an IPv6 address.
    let has_port = host.rfind(':') > host.rfind(']');
    let port = if has_port { "" } else { ":80" };
    let mut stream = AsyncTcpStream::connect(format!("{host}{port}")).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    fahrenheit::io::read_to_end(&mut stream, &mut answer).await?;

    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or_else(|| io::Error::other("the answer ended within its head"))?;
    let body = answer.split_off(end + 4);
    let head = String::from_utf8_lossy(&answer);
    let status = head.lines().next().unwrap_or_default();
    if !status.starts_with("HTTP/1.") || status.split(' ').nth(1) != Some("200") {
        return Err(io::Error::other(format!("the answer was: {status}")));
    }
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    match length.map(|(_, value)| value.trim().parse::<usize>()) {
        Some(Ok(length)) if length != body.len() => {
            Err(io::Error::other("the answer ended within its body"))
        }
        _ => Ok(body),
    }
}
