//! 200 MiB by QUIC from one task to another, over loopback.

mod runtime;

use quinn::rustls::RootCertStore;
use quinn::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use quinn::{ClientConfig, Endpoint, EndpointConfig, ServerConfig};
use runtime::FahrenheitRuntime;
use std::error::Error;
use std::net::UdpSocket;
use std::sync::Arc;

const LEN: usize = 200 << 20;

fn endpoint(server: Option<ServerConfig>) -> std::io::Result<Endpoint> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let runtime = Arc::new(FahrenheitRuntime);
    Endpoint::new(EndpointConfig::default(), server, socket, runtime)
}

async fn send(server: Endpoint) -> Result<(), Box<dyn Error>> {
    let incoming = server.accept().await.ok_or("the endpoint is closed")?;
    let mut stream = incoming.await?.open_uni().await?;
    let piece: Vec<u8> = (0..1_u32 << 20).map(|n| (n / 3) as u8).collect();
    for _ in 0..LEN / piece.len() {
        stream.write_all(&piece).await?;
    }
    stream.finish()?;
    stream.stopped().await?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let certificate = CertificateDer::from(made.cert);
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::with_single_cert(vec![certificate.clone()], key.into())?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let client_config = ClientConfig::with_root_certificates(Arc::new(roots))?;
    fahrenheit::block_on(async {
        let server = endpoint(Some(config))?;
        let address = server.local_addr()?;
        let sender = fahrenheit::spawn(send(server));
        let client = endpoint(None)?;
        let connection = client.connect_with(client_config, address, "localhost")?.await?;
        let mut stream = connection.accept_uni().await?;
        let mut n_received = 0;
        let mut are_right = true;
        while let Some(chunk) = stream.read_chunk(usize::MAX, true).await? {
            let start = chunk.offset;
            let right = |(n, byte): (u64, &u8)| *byte == (((start + n) % (1 << 20)) / 3) as u8;
            are_right &= (0..).zip(chunk.bytes.iter()).all(right);
            n_received += chunk.bytes.len();
        }
        println!("{n_received} bytes, {}", if are_right { "right" } else { "wrong" });
        sender.await??;
        Ok(())
    })
}
