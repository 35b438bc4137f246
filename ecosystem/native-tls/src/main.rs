//! HTTPS by async-native-tls, which is OpenSSL here, and hyper over it: `with-native-tls PKCS12`.
//!
//! With a second argument, `HOST:PORT`, connects there and prints what that server answers.

use async_native_tls::{Certificate, TlsConnector};
use fahrenheit::{AsyncTcpListener, AsyncTcpStream, prelude::*};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use std::error::Error;

async fn hello(_: Request<Incoming>) -> Result<Response<String>, std::convert::Infallible> {
    Ok(Response::new("Hello, world!\n".to_owned()))
}

async fn serve(listener: AsyncTcpListener, identity: Vec<u8>) -> Result<(), Box<dyn Error>> {
    loop {
        let (stream, _peer) = listener.accept().await?;
        let identity = identity.clone();
        fahrenheit::spawn(async move {
            let served = async {
                let stream = async_native_tls::accept(&identity[..], "test", stream).await?;
                fahrenheit::hyper::serve_connection(stream, service_fn(hello)).await?;
                Ok::<_, Box<dyn Error>>(())
            };
            if let Err(error) = served.await {
                eprintln!("a connection has failed: {error}");
            }
        })
        .detach();
    }
}

/// Sends a request of HTTP/1.0, and returns the answer.
async fn fetch(address: &str, root: Certificate) -> Result<String, Box<dyn Error>> {
    let stream = AsyncTcpStream::connect(address).await?;
    let connector = TlsConnector::new().add_root_certificate(root);
    let mut stream = connector.connect("localhost", stream).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().collect();
    let file = std::fs::read(&arguments[1])?;
    if let Some(address) = arguments.get(2) {
        print!("{}", fahrenheit::run(fetch(address, Certificate::from_pem(&file)?))?);
        return Ok(());
    }
    let listener = AsyncTcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    fahrenheit::run(serve(listener, file))
}
