//! Programs whose calls are made to fail. Each repeats an operation that failed, after saying so on
//! stderr with the errno, and checks that nothing else has suffered.

use fahrenheit::prelude::*;
use fahrenheit::process::AsyncCommand;
use fahrenheit::signal::{Signal, Signals};
use fahrenheit::time::{interval, sleep};
use fahrenheit::{AsyncFd, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, Builder, Event};
use fahrenheit::{AsyncUnixListener, AsyncUnixStream};
use futures_channel::mpsc;
use futures_util::future::join_all;
use nix::fcntl::OFlag;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const N_CLIENTS: usize = 20;
const N_ROUNDS: u32 = 30;
const N_PINGS: u32 = 2_000;

/// What a program prints when all its checks have passed.
pub(crate) const WHOLE: &str = "nothing else has suffered";

pub(crate) fn run(name: &str) {
    match name {
        "exchange" => without_leak(|| go(exchange(false))),
        "vectored" => without_leak(|| go(exchange(true))),
        "sleeps" => without_leak(|| go(sleeps())),
        "pipe" => without_leak(|| fahrenheit::run(pipes())),
        "pingpong" => without_leak(pingpong),
        "connect" => without_leak(|| go(connects())),
        "two_addresses" => without_leak(|| go(two_addresses())),
        "listen" => without_leak(|| go(listens())),
        "event" => without_leak(event),
        "signals" => fahrenheit::run(signals()),
        "create" => (0..4).for_each(|_| without_leak(create)),
        "register" => register(),
        // On the first thread, so that its threads are the first to be made.
        "blocking" => go(blocking()),
        "children" => go(children()),
        "unix" => without_leak(|| go(unix())),
        "datagrams" => without_leak(|| go(datagrams())),
        other => panic!("there is no program {other}"),
    }
    println!("{WHOLE}");
}

/// Runs `body` on a thread of its own, and so with a loop of its own; nothing of it stays open.
fn without_leak(body: impl FnOnce() + Send + 'static) {
    let n_open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = n_open();
    std::thread::spawn(body).join().unwrap();
    assert_eq!(n_open(), before, "descriptors are left");
}

/// Says that an operation has failed.
fn complain(what: &str, error: &dyn std::fmt::Display) {
    thread_local!(static N: Cell<u32> = const { Cell::new(0) });
    eprintln!("{what}: {error}");
    N.set(N.get() + 1);
    assert!(N.get() < 300, "it fails for ever");
}

/// Makes `operation` until it succeeds.
async fn persist<R>(what: &str, mut operation: impl AsyncFnMut() -> io::Result<R>) -> R {
    loop {
        match operation().await {
            Ok(value) => return value,
            Err(error) => complain(what, &error),
        }
    }
}

/// Runs `main`, and beside it one who has nothing to do with it and must not notice anything.
fn go(main: impl Future<Output = ()>) {
    fahrenheit::run(async {
        // No row makes the calls of this one fail in a program that has it.
        let bystander = fahrenheit::spawn(async {
            let (mut read, mut write) = pipe();
            for n in 0..50 {
                write.write_all(&[n]).await.unwrap();
                fahrenheit::yield_now().await;
                let mut byte = [0];
                read.read_exact(&mut byte).await.unwrap();
                assert_eq!(byte, [n]);
            }
        });
        main.await;
        bystander.await.unwrap();
    });
}

fn pipe() -> (AsyncFd<File>, AsyncFd<File>) {
    let (read, write) = nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).unwrap();
    let [read, write] = [read, write].map(|end| AsyncFd::new(File::from(end)).unwrap());
    (read, write)
}

/// Reads until `bytes` is full. What comes in a piece after an error is not lost.
async fn read_all(stream: &AsyncTcpStream, bytes: &mut [u8], vectored: bool) {
    let mut n_read = 0;
    while n_read < bytes.len() {
        let (first, rest) = bytes[n_read..].split_at_mut(1);
        let n = persist("read", async || {
            let mut stream = stream;
            if vectored {
                let mut slices = [IoSliceMut::new(first), IoSliceMut::new(rest)];
                stream.read_vectored(&mut slices).await
            } else {
                stream.read(first).await
            }
        });
        let n = n.await;
        assert_ne!(n, 0, "the end, within a word");
        n_read += n;
    }
}

async fn write_all(stream: &AsyncTcpStream, bytes: &[u8], vectored: bool) {
    let mut n_written = 0;
    while n_written < bytes.len() {
        let n = persist("write", async || {
            let mut stream = stream;
            let (first, rest) = bytes[n_written..].split_at(1);
            if vectored {
                let slices = [IoSlice::new(first), IoSlice::new(rest)];
                stream.write_vectored(&slices).await
            } else {
                stream.write(&bytes[n_written..]).await
            }
        });
        n_written += n.await;
    }
}

fn word(client: usize, round: u32) -> [u8; 4] {
    (client as u32 * 1_000 + round)
        .wrapping_mul(2_654_435_761)
        .to_be_bytes()
}

/// Clients and a server on one loop: every word comes back, whatever fails in between, and then the
/// end, once one side has closed.
async fn exchange(vectored: bool) {
    let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = fahrenheit::spawn(async move {
        let mut echoes = Vec::new();
        while echoes.len() < N_CLIENTS {
            let (stream, _) = persist("accept", async || listener.accept().await).await;
            echoes.push(fahrenheit::spawn(async move {
                for _ in 0..N_ROUNDS {
                    let mut bytes = [0; 4];
                    read_all(&stream, &mut bytes, vectored).await;
                    write_all(&stream, &bytes, vectored).await;
                }
                end(stream).await;
            }));
        }
        for echo in join_all(echoes).await {
            echo.unwrap();
        }
    });
    let client = |number| async move {
        let stream = AsyncTcpStream::connect(addr).await.unwrap();
        for round in 0..N_ROUNDS {
            let mut back = [0; 4];
            write_all(&stream, &word(number, round), vectored).await;
            read_all(&stream, &mut back, vectored).await;
            assert_eq!(back, word(number, round));
        }
        end(stream).await;
    };
    join_all((0..N_CLIENTS).map(client)).await;
    server.await.unwrap();
}

/// Closes, and waits until the other side has closed, too.
async fn end(mut stream: AsyncTcpStream) {
    stream.close().await.unwrap();
    let n = persist("read the end", async || (&stream).read(&mut [0]).await).await;
    assert_eq!(n, 0, "more than was sent");
}

/// Timers beside a connection that lives long and says little.
async fn sleeps() {
    let (mut read, mut write) = pipe();
    let quiet = fahrenheit::spawn(async move {
        let mut byte = [0];
        while read.read(&mut byte).await.unwrap() > 0 {}
    });
    let start = Instant::now();
    let mut ticks = interval(Duration::from_millis(3));
    for n in 0..60 {
        ticks.tick().await;
        assert!(start.elapsed() >= n * Duration::from_millis(3), "early");
        if n % 5 == 0 {
            write.write_all(b"x").await.unwrap();
        }
        let begin = Instant::now();
        sleep(Duration::from_micros(1_500)).await;
        assert!(begin.elapsed() >= Duration::from_micros(1_500), "early");
    }
    drop(write);
    quiet.await.unwrap();
}

/// Bytes through pipes, which are read by `read`.
async fn pipes() {
    let one = |number: usize| async move {
        let (read, write) = pipe();
        let writer = fahrenheit::spawn(async move {
            let mut write = write;
            for round in 0..150 {
                write.write_all(&word(number, round)).await.unwrap();
                fahrenheit::yield_now().await;
            }
        });
        let mut read = read;
        for round in 0..150 {
            let mut back = [0; 4];
            for byte in &mut back {
                let byte = std::slice::from_mut(byte);
                let n = persist("read", async || read.read(byte).await).await;
                assert_eq!(n, 1);
            }
            assert_eq!(back, word(number, round));
        }
        writer.await.unwrap();
        assert_eq!(persist("end", async || read.read(&mut [0]).await).await, 0);
    };
    join_all((0..4).map(one)).await;
}

/// Each word wakes the other thread.
fn pingpong() {
    let (ping, pings) = std::sync::mpsc::channel();
    let (pong, mut pongs) = mpsc::unbounded();
    let partner = std::thread::spawn(move || {
        for n in pings {
            pong.unbounded_send(n).unwrap();
        }
    });
    fahrenheit::run(async {
        // A descriptor that is tenured, so that the loop waits in the queue where there is one.
        let (mut read, _write) = pipe();
        let idle = fahrenheit::spawn(async move { read.read(&mut [0]).await });
        for n in 0..N_PINGS {
            ping.send(n).unwrap();
            assert_eq!(pongs.next().await, Some(n));
        }
        idle.abort();
    });
    drop(ping);
    partner.join().unwrap();
}

/// Connections to a server of the same loop, one after the other.
async fn connects() {
    let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = fahrenheit::spawn(serve(listener));
    for number in 0..30 {
        let stream = persist("connect", async || AsyncTcpStream::connect(addr).await).await;
        converse(stream, number).await;
    }
    server.abort();
}

/// The first address always fails; connecting does not.
async fn two_addresses() {
    let listeners = [(); 2].map(|()| AsyncTcpListener::bind("127.0.0.1:0").unwrap());
    let addrs: Vec<SocketAddr> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
    let servers = listeners.map(|listener| fahrenheit::spawn(serve(listener)));
    for number in 0..30 {
        let addrs = &addrs[..];
        let stream = AsyncTcpStream::connect(addrs).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addrs[1]);
        converse(stream, number).await;
    }
    servers.iter().for_each(|server| server.abort());
}

async fn serve(listener: AsyncTcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        drop(fahrenheit::spawn(async move {
            let n = futures_util::io::copy(&stream, &mut &stream).await.unwrap();
            // Or none, if the other side has taken the connection for a failure.
            assert!(n == 12 || n == 0);
        }));
    }
}

async fn converse(stream: AsyncTcpStream, number: usize) {
    for round in 0..3 {
        let mut back = [0; 4];
        write_all(&stream, &word(number, round), false).await;
        read_all(&stream, &mut back, false).await;
        assert_eq!(back, word(number, round));
    }
    end(stream).await;
}

/// Listening on ports, all of which stay open, and each of which can be connected to.
async fn listens() {
    let mut listeners = Vec::new();
    for _ in 0..12 {
        let make = async || AsyncTcpListener::bind("127.0.0.1:0");
        listeners.push(persist("listen", make).await);
    }
    for listener in &listeners {
        let addr = listener.local_addr().unwrap();
        let client = persist("connect", async || AsyncTcpStream::connect(addr).await).await;
        let (_stream, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    }
}

/// A loop, at the second attempt if the first fails. That leaves nothing behind.
fn create() {
    let polled = Cell::new(0);
    let main = async || polled.set(polled.get() + 1);
    if let Err(error) = Builder::new().run(main()) {
        assert_eq!(polled.get(), 0);
        complain("run", &error);
        Builder::new().run(main()).unwrap();
    }
    assert_eq!(polled.get(), 1);
    fahrenheit::run(sleep(Duration::from_millis(1)));
}

/// Registers descriptors until it has many; one that is refused comes back and may be tried again.
fn register() {
    fahrenheit::run(async {
        let mut ends = Vec::new();
        for _ in 0..60 {
            let (end, other) = UnixStream::pair().unwrap();
            end.set_nonblocking(true).unwrap();
            let end = AsyncFd::try_new(end).or_else(|(end, error)| {
                complain("register", &error);
                AsyncFd::try_new(end)
            });
            ends.push((end.unwrap(), other));
        }
        for (end, other) in &mut ends {
            io::Write::write_all(other, b"x").unwrap();
            end.read_exact(&mut [0]).await.unwrap();
        }
        // A debug build asks by `fcntl` before it closes anything.
        std::mem::forget(ends);
    });
}

/// Jobs, all of which end; those that cannot be started say so.
async fn blocking() {
    // None ends before all are submitted, so each asks for a thread.
    let gate = Arc::new(Mutex::new(()));
    let shut = gate.lock().unwrap();
    let jobs = (0..6).map(|n| {
        let gate = Arc::clone(&gate);
        fahrenheit::spawn_blocking(move || {
            drop(gate.lock());
            2 * n
        })
    });
    let jobs: Vec<_> = jobs.collect();
    drop(shut);
    for (n, job) in (0..).zip(jobs) {
        match job.await {
            Ok(twice) => assert_eq!(twice, 2 * n),
            Err(error) => complain("job", &error),
        }
    }
    assert_eq!(fahrenheit::spawn_blocking(|| 7).await.unwrap(), 7);
}

/// Children that end by themselves, and whose status is told.
async fn children() {
    for _ in 0..3 {
        let mut child = AsyncCommand::new("true").spawn().unwrap();
        match child.wait().await {
            Ok(status) => assert!(status.success()),
            Err(error) => complain("wait", &error),
        }
    }
}

/// Connections to a path, one after the other.
async fn unix() {
    let dir = std::env::temp_dir().join(format!("fahrenheit-faults-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let path = dir.join("socket");
    let listener = AsyncUnixListener::bind(&path).unwrap();
    let server = fahrenheit::spawn(async move {
        for _ in 0..30 {
            let (stream, _) = persist("accept", async || listener.accept().await).await;
            drop(fahrenheit::spawn(async move {
                let mut word = [0];
                let read = async || (&stream).read(&mut word).await;
                if persist("read", read).await == 1 {
                    let n = persist("write", async || (&stream).write(&word).await).await;
                    assert_eq!(n, 1);
                }
            }));
        }
    });
    for n in 0..30 {
        let connect = async || AsyncUnixStream::connect(&path).await;
        let stream = persist("connect", connect).await;
        assert_eq!(
            persist("write", async || (&stream).write(&[n]).await).await,
            1
        );
        let mut back = [0];
        assert_eq!(
            persist("read", async || (&stream).read(&mut back).await).await,
            1
        );
        assert_eq!(back, [n]);
    }
    server.await.unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

/// Datagrams there and back. Nothing is lost on loopback, one at a time.
async fn datagrams() {
    let (ours, theirs) = (udp(), udp());
    ours.connect(theirs.local_addr().unwrap()).await.unwrap();
    for round in 0..60 {
        let sent = word(1, round);
        let n = persist("send", async || ours.send(&sent).await).await;
        assert_eq!(n, 4);
        let mut bytes = [0; 8];
        let (n, from) = persist("receive", async || theirs.recv_from(&mut bytes).await).await;
        assert_eq!(bytes[..n], sent);
        let n = persist("send", async || theirs.send_to(&sent, from).await).await;
        assert_eq!(n, 4);
        let n = persist("receive", async || ours.recv(&mut bytes).await).await;
        assert_eq!(bytes[..n], sent);
    }
}

fn udp() -> AsyncUdpSocket {
    AsyncUdpSocket::bind("127.0.0.1:0").unwrap()
}

/// A thread that signals an event each time that it is asked to.
fn event() {
    let (ask, asked) = std::sync::mpsc::channel();
    fahrenheit::run(async {
        let event = persist("event", async || Event::new()).await;
        let notifier = event.notifier();
        let thread =
            std::thread::spawn(move || asked.iter().for_each(|()| notifier.notify().unwrap()));
        for _ in 0..300 {
            ask.send(()).unwrap();
            persist("wait", async || event.wait().await).await;
        }
        drop(ask);
        thread.join().unwrap();
    });
}

/// Signals of this process to itself.
async fn signals() {
    let mut signals = persist("signals", async || Signals::new([Signal::USR1])).await;
    for _ in 0..150 {
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGUSR1).unwrap();
        assert_eq!(signals.next().await, Some(Signal::USR1));
    }
}
