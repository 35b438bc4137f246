//! A server on axum, with routes, state, JSON and middleware: `cargo run -p with-axum`.

use axum::extract::{Path, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use fahrenheit::{AsyncTcpListener, Local, time::sleep};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tower_http::set_header::SetResponseHeaderLayer;

/// axum demands `Send` of handlers. A future of ours meets that in a `Local`.
async fn slow(Path(ms): Path<u64>, State(n): State<Arc<AtomicU64>>) -> Json<[u64; 2]> {
    Local::new(sleep(Duration::from_millis(ms))).await;
    Json([ms, n.fetch_add(1, Ordering::Relaxed)])
}

/// A middleware: adds how long the answer took.
async fn timed(request: Request, next: Next) -> Response {
    let start = std::time::Instant::now();
    let mut response = next.run(request).await;
    let took = start.elapsed().as_millis().to_string();
    response.headers_mut().insert("x-took", took.parse().expect("digits"));
    response
}

fn main() -> io::Result<()> {
    let server = axum::http::HeaderValue::from_static("fahrenheit");
    let app = Router::new()
        .route("/", get(async || "Hello, world!\n"))
        .route("/slow/{ms}", get(slow))
        .layer(from_fn(timed))
        .layer(SetResponseHeaderLayer::overriding(axum::http::header::SERVER, server))
        .with_state(Arc::new(AtomicU64::new(0)));
    let listener = AsyncTcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    fahrenheit::run(fahrenheit::hyper::serve(listener, TowerToHyperService::new(app)))
}
