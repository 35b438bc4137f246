//! An HTTP/1 server and client by async-h1: `with-async-h1`, or `with-async-h1 HOST:PORT TEXT` to
//! post a text there.
//!
//! async-h1 answers "Expect: 100-continue", which curl sends before a megabyte or more, on another
//! thread. A `Local` panics there, so such requests end their connection.

use async_dup::{Arc, Mutex};
use fahrenheit::{AsyncTcpListener, AsyncTcpStream, Local, spawn};
use http_types::{Method, Request, Response, Result};

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    match &arguments[1..] {
        [address, text] => fahrenheit::run(post(address, text)),
        _ => fahrenheit::run(serve()),
    }
}

/// async-h1 demands a stream that is `Clone`, `Send` and `Sync`. async-dup, which it uses itself, has
/// the first for any stream, and a `Local` is the rest.
fn shared(stream: AsyncTcpStream) -> Arc<Mutex<Local<AsyncTcpStream>>> {
    Arc::new(Mutex::new(Local::new(stream)))
}

async fn serve() -> Result<()> {
    let listener = AsyncTcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let connection = async_h1::accept(shared(stream), |mut request: Request| async move {
            let body = request.body_string().await?;
            Ok(Response::from(format!("{} {body}\n", request.method())))
        });
        spawn(connection).detach();
    }
}

async fn post(address: &str, text: &str) -> Result<()> {
    let stream = AsyncTcpStream::connect(address).await?;
    let mut request = Request::new(Method::Post, format!("http://{address}/").as_str());
    request.set_body(text);
    let mut response = async_h1::connect(shared(stream), request).await?;
    print!("{}: {}", response.status(), response.body_string().await?);
    Ok(())
}
