//! A WebSocket server by async-tungstenite that sends back what it gets.

use async_tungstenite::accept_async;
use fahrenheit::{AsyncTcpListener, AsyncTcpStream, prelude::*};
use std::error::Error;

async fn echo(stream: AsyncTcpStream) -> Result<(), Box<dyn Error>> {
    let mut socket = accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn serve(listener: AsyncTcpListener) -> Result<(), Box<dyn Error>> {
    loop {
        let (stream, _peer) = listener.accept().await?;
        fahrenheit::spawn(async move {
            if let Err(error) = echo(stream).await {
                eprintln!("a connection has failed: {error}");
            }
        })
        .detach();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let listener = AsyncTcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    fahrenheit::run(serve(listener))
}
