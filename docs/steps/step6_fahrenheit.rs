//! Step 6: the server on `fahrenheit`, which has all of these parts.
//!
//! `cargo run --bin step6_fahrenheit 127.0.0.1:7878`

use fahrenheit::{AsyncTcpListener, prelude::*, spawn, spawn_blocking, time};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7878".into());
    let listener = AsyncTcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let n_clients = Arc::new(AtomicUsize::new(0));
    spawn(report(Arc::clone(&n_clients))).detach();
    fahrenheit::run(async {
        loop {
            let (stream, _peer) = listener.accept().await?;
            n_clients.fetch_add(1, Ordering::Relaxed);
            // An error ends this connection and no other.
            spawn(async move { futures_util::io::copy(&stream, &mut &stream).await.ok() }).detach();
        }
    })
}

async fn report(n_clients: Arc<AtomicUsize>) {
    let mut seconds = time::interval(Duration::from_secs(1));
    while seconds.next().await.is_some() {
        let n_clients = Arc::clone(&n_clients);
        let n = spawn_blocking(move || n_clients.load(Ordering::Relaxed)).await;
        eprintln!("{} clients so far", n.expect("the job does not panic"));
    }
}
