//! A server for HTTP/1 and HTTP/2 on hyper: `cargo run -p with-hyper --bin hyper-server`.
//!
//! It answers until SIGTERM, and then ends in order.

use fahrenheit::signal::{Signal, Signals};
use fahrenheit::{AsyncTcpListener, prelude::*};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use std::convert::Infallible;
use std::io;

async fn hello(_: Request<Incoming>) -> Result<Response<String>, Infallible> {
    Ok(Response::new("Hello, world!\n".to_owned()))
}

fn main() -> io::Result<()> {
    let listener = AsyncTcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    let mut terminate = Signals::new([Signal::TERM])?;
    fahrenheit::run(fahrenheit::hyper::serve_until(listener, service_fn(hello), async move {
        terminate.next().await;
    }))
}
