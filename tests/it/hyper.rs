//! Feature `hyper`: servers for HTTP/1 and HTTP/2, and the types that hyper is given.

use fahrenheit::hyper::{serve, serve_connection, serve_until};
use fahrenheit::time::{sleep, timeout};
use fahrenheit::{AsyncTcpListener, AsyncTcpStream, AsyncUnixStream, prelude::*, run, spawn};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// A body that is not `Send`: one piece of bytes.
struct Once(Rc<RefCell<Option<Bytes>>>);

impl Once {
    fn new(bytes: impl Into<Bytes>) -> Once {
        Once(Rc::new(RefCell::new(Some(bytes.into()))))
    }
}

impl Body for Once {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        // Without it, hyper would write the answer in chunks.
        SizeHint::with_exact(
            self.0
                .borrow()
                .as_ref()
                .map_or(0, |bytes| bytes.len() as u64),
        )
    }
}

async fn all_of(mut body: Incoming) -> hyper::Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        all.extend_from_slice(frame?.data_ref().unwrap());
    }
    Ok(all)
}

/// Answers with what it was sent, and with the number of requests so far. Not `Send`.
async fn echo(request: Request<Incoming>, n: Rc<Cell<u32>>) -> hyper::Result<Response<Once>> {
    n.set(n.get() + 1);
    assert_ne!(
        request.uri().path(),
        "/panic",
        "this panic belongs to the test"
    );
    let is_slow = request.uri().path() == "/slow";
    let answer = format!(
        "{}: {}\n",
        n.get(),
        all_of(request.into_body()).await?.len()
    );
    if is_slow {
        sleep(Duration::from_millis(100)).await;
    }
    Ok(Response::new(Once::new(answer)))
}

/// Starts a server of [`echo`] that ends once `shutdown` is ready.
fn start(
    shutdown: impl Future<Output = ()> + 'static,
) -> (SocketAddr, fahrenheit::task::JoinHandle<io::Result<()>>) {
    let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let n = Rc::new(Cell::new(0));
    let service = service_fn(move |request| echo(request, Rc::clone(&n)));
    (address, spawn(serve_until(listener, service, shutdown)))
}

/// Reads from `stream` until `end` has come, or until the end.
async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let (mut text, mut bytes) = (String::new(), [0; 1_000]);
    while !text.ends_with(end) {
        match timeout(LIMIT, stream.read(&mut bytes))
            .await
            .unwrap()
            .unwrap()
        {
            0 => break,
            n => text.push_str(std::str::from_utf8(&bytes[..n]).unwrap()),
        }
    }
    text
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n";

#[test]
fn a_connection_of_http1_serves_many_requests_with_and_without_bodies() {
    run(async {
        let (address, server) = start(std::future::pending());
        let mut client = AsyncTcpStream::connect(address).await.unwrap();
        client.write_all(GET).await.unwrap();
        assert!(
            read_until(&mut client, "1: 0\n")
                .await
                .starts_with("HTTP/1.1 200 OK\r\n")
        );
        client
            .write_all(b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 300000\r\n\r\n")
            .await
            .unwrap();
        client.write_all(&vec![7; 300_000]).await.unwrap();
        assert!(
            read_until(&mut client, "2: 300000\n")
                .await
                .ends_with("2: 300000\n")
        );
        // Byte by byte, from a client whose first letter is that of HTTP/2, too.
        let mut slow = AsyncTcpStream::connect(address).await.unwrap();
        for byte in b"PRI /slow HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n" {
            slow.write_all(&[*byte]).await.unwrap();
            fahrenheit::task::yield_now().await;
        }
        assert!(read_until(&mut slow, "3: 0\n").await.ends_with("3: 0\n"));
        server.abort();
    });
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Reads frames of HTTP/2 until one of data has come, and returns its stream and its data.
async fn read_data(client: &mut AsyncTcpStream) -> (u32, Vec<u8>) {
    loop {
        let mut head = [0; 9];
        client.read_exact(&mut head).await.unwrap();
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; len as usize];
        client.read_exact(&mut payload).await.unwrap();
        if head[3] == 0 && len > 0 {
            return (u32::from_be_bytes(head[5..].try_into().unwrap()), payload);
        }
    }
}

#[test]
fn a_client_that_begins_with_the_preface_is_served_http2() {
    run(async {
        let (address, server) = start(std::future::pending());
        let mut client = AsyncTcpStream::connect(address).await.unwrap();
        client.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
        sleep(Duration::from_millis(20)).await;
        client.write_all(b"\r\nSM\r\n\r\n").await.unwrap();
        client.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        // `:method: GET`, `:scheme: http`, `:path: /` of the static table, and `:authority: t`.
        for stream in [1, 3] {
            let head = [0x82, 0x86, 0x84, 0x41, 1, b't'];
            client.write_all(&frame(1, 5, stream, &head)).await.unwrap();
        }
        let limit = timeout(LIMIT, async {
            let mut answers = [read_data(&mut client).await, read_data(&mut client).await];
            answers.sort();
            answers
        });
        let answers = limit.await.unwrap();
        assert_eq!(answers, [(1, b"1: 0\n".to_vec()), (3, b"2: 0\n".to_vec())]);
        server.abort();
    });
}

#[test]
fn shutting_down_ends_requests_that_have_begun_and_closes_idle_connections() {
    run(async {
        let (stop, stopped) = futures_channel::oneshot::channel::<()>();
        let (address, server) = start(async {
            let _ = stopped.await;
        });
        let connect = || AsyncTcpStream::connect(address);
        let [mut busy, mut idle, mut silent] =
            [connect().await, connect().await, connect().await].map(io::Result::unwrap);
        idle.write_all(GET).await.unwrap();
        read_until(&mut idle, "1: 0\n").await;
        busy.write_all(b"GET /slow HTTP/1.1\r\nhost: t\r\n\r\n")
            .await
            .unwrap();
        sleep(Duration::from_millis(20)).await;
        stop.send(()).unwrap();
        assert_eq!(read_until(&mut idle, "never").await, "");
        assert_eq!(read_until(&mut silent, "never").await, "");
        let refused = connect().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let answer = read_until(&mut busy, "never").await;
        assert!(answer.ends_with("2: 0\n"), "{answer}");
        timeout(LIMIT, server).await.unwrap().unwrap().unwrap();
    });
}

#[test]
fn dropping_a_server_closes_its_connections() {
    run(async {
        let (address, server) = start(std::future::pending());
        let mut client = AsyncTcpStream::connect(address).await.unwrap();
        client.write_all(GET).await.unwrap();
        read_until(&mut client, "1: 0\n").await;
        server.abort();
        assert_eq!(read_until(&mut client, "never").await, "");
    });
}

#[test]
fn a_panic_of_a_service_ends_its_connection_and_no_other() {
    run(async {
        let (address, server) = start(std::future::pending());
        let mut other = AsyncTcpStream::connect(address).await.unwrap();
        other.write_all(GET).await.unwrap();
        read_until(&mut other, "1: 0\n").await;
        let mut client = AsyncTcpStream::connect(address).await.unwrap();
        client
            .write_all(b"GET /panic HTTP/1.1\r\nhost: t\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(read_until(&mut client, "never").await, "");
        other.write_all(GET).await.unwrap();
        assert!(read_until(&mut other, "3: 0\n").await.ends_with("3: 0\n"));
        server.abort();
    });
}

#[test]
fn a_listener_that_accepts_no_more_ends_the_server() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = AsyncTcpListener::from_std(socket.try_clone().unwrap()).unwrap();
    let hello = |_| async { Ok::<_, Infallible>(Response::new(Once::new("x"))) };
    run(async {
        let server = spawn(serve(listener, service_fn(hello)));
        sleep(Duration::from_millis(10)).await;
        nix::sys::socket::shutdown(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            nix::sys::socket::Shutdown::Both,
        )
        .unwrap();
        let error = timeout(LIMIT, server).await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    });
}

#[test]
fn a_connection_can_be_upgraded() {
    run(async {
        let (mut client, server) = AsyncUnixStream::pair().unwrap();
        let upgrade = |request: Request<Incoming>| async move {
            spawn(async move {
                let upgraded = hyper::upgrade::on(request).await.unwrap();
                let mut io = pin!(upgraded);
                let bytes = b"another protocol";
                let n = poll_fn(|cx| hyper::rt::Write::poll_write(io.as_mut(), cx, bytes)).await;
                assert_eq!(n.unwrap(), bytes.len());
            })
            .detach();
            let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
            response.header(header::UPGRADE, "test").body(Once::new(""))
        };
        spawn(async move { serve_connection(server, service_fn(upgrade)).await.unwrap() }).detach();
        let request = b"GET / HTTP/1.1\r\nhost: t\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n";
        client.write_all(request).await.unwrap();
        let answer = read_until(&mut client, "another protocol").await;
        assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("another protocol"));
    });
}

#[test]
fn a_client_that_does_not_send_the_head_of_a_request_is_disconnected_after_30_seconds() {
    fahrenheit::Builder::new()
        .virtual_clock(true)
        .run(async {
            let (address, server) = start(std::future::pending());
            for begin in [b"".as_slice(), b"PRI * HTTP", b"GET / HTTP/1.1\r\nhost:"] {
                let start = fahrenheit::time::now();
                let mut client = AsyncTcpStream::connect(address).await.unwrap();
                client.write_all(begin).await.unwrap();
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).await.unwrap();
                let seconds = (fahrenheit::time::now() - start).as_secs();
                assert!((30..60).contains(&seconds), "{begin:?}: {seconds} s");
            }
            server.abort();
        })
        .unwrap();
}
