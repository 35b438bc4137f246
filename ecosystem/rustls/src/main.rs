//! HTTPS by futures-rustls, and hyper over it: `with-rustls CERTIFICATE KEY`.
//!
//! With a third argument, `HOST:PORT`, also connects there and prints what that server answers.

use fahrenheit::{AsyncTcpListener, AsyncTcpStream, prelude::*};
use futures_rustls::rustls::pki_types::pem::PemObject;
use futures_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use futures_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use futures_rustls::{TlsAcceptor, TlsConnector};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use std::error::Error;
use std::sync::Arc;

async fn hello(_: Request<Incoming>) -> Result<Response<String>, std::convert::Infallible> {
    Ok(Response::new("Hello, world!\n".to_owned()))
}

async fn serve(listener: AsyncTcpListener, acceptor: TlsAcceptor) -> Result<(), Box<dyn Error>> {
    loop {
        let (stream, _peer) = listener.accept().await?;
        let handshake = acceptor.accept(stream);
        fahrenheit::spawn(async move {
            let served = async {
                fahrenheit::hyper::serve_connection(handshake.await?, service_fn(hello)).await
            };
            if let Err(error) = served.await {
                eprintln!("a connection has failed: {error}");
            }
        })
        .detach();
    }
}

/// Sends a request of HTTP/1.0, and returns the answer.
async fn fetch(address: &str, root: CertificateDer<'static>) -> Result<String, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(root)?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = AsyncTcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost")?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    stream.flush().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().collect();
    let certificate = CertificateDer::from_pem_file(&arguments[1])?;
    if let Some(address) = arguments.get(3) {
        print!("{}", fahrenheit::run(fetch(address, certificate))?);
        return Ok(());
    }
    let key = PrivateKeyDer::from_pem_file(&arguments[2])?;
    let mut config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = AsyncTcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    fahrenheit::run(serve(listener, TlsAcceptor::from(Arc::new(config))))
}
