//! A client of HTTP/1 and HTTP/2 on hyper: `hyper-client HOST:PORT PATH`.

use fahrenheit::AsyncTcpStream;
use fahrenheit::hyper::{Executor, Io};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::{Request, header};
use std::error::Error;

async fn get(http2: bool, host: &str, path: &str) -> Result<Bytes, Box<dyn Error>> {
    let io = Io::new(AsyncTcpStream::connect(host).await?);
    let request = |uri: String| {
        let request = Request::get(uri).header(header::HOST, host);
        request.body(Empty::<Bytes>::new())
    };
    let response = if http2 {
        let (mut sender, connection) = http2::handshake(Executor::new(), io).await?;
        fahrenheit::spawn(connection).detach();
        sender.send_request(request(format!("http://{host}{path}"))?).await?
    } else {
        let (mut sender, connection) = http1::handshake(io).await?;
        fahrenheit::spawn(connection).detach();
        sender.send_request(request(path.to_owned())?).await?
    };
    println!("{:?} {}", response.version(), response.status());
    Ok(response.into_body().collect().await?.to_bytes())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let host = arguments.next().ok_or("no host")?;
    let path = arguments.next().ok_or("no path")?;
    fahrenheit::block_on(async {
        for http2 in [false, true] {
            println!("{} bytes", get(http2, &host, &path).await?.len());
        }
        Ok(())
    })
}
