//! More than a server can take, while 100 good clients want to be served. The servers are examples,
//! in processes of their own.

use crate::kit::{Chance, cpu, n_open, rss_kib};
use fahrenheit::AsyncTcpStream;
use fahrenheit::prelude::*;
use fahrenheit::time::{sleep, timeout};
use futures_util::future::join_all;
use futures_util::stream;
use std::cell::Cell;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const N_GOOD: u64 = 100;
/// How long a good client pauses between its words.
const PAUSE: Duration = Duration::from_millis(20);
/// In time: no answer takes longer, on a machine that does other things as well.
const LIMIT: Duration = Duration::from_secs(3);
/// How long the slow ones and the resets go on.
const ATTACK: Duration = Duration::from_secs(10);

/// Something that is bad for the server at an address; returns what it has done.
type Attack = fn(SocketAddr) -> String;

pub(crate) fn run() -> bool {
    let crowd = overload(
        "15,000 connections, 1,024 descriptors",
        "echo_spawn",
        Some(1_024),
        crowd,
    );
    let loris = overload(
        "1,000 clients that send a byte now and then",
        "http_server",
        None,
        loris,
    );
    let resets = overload("a flood of resets", "echo_spawn", None, resets);
    crowd && loris && resets
}

/// An example, and where it listens. It ends with this value.
struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Server {
    fn start(example: &str, limit: Option<u32>) -> Server {
        let this = std::env::current_exe().unwrap();
        let path = this
            .ancestors()
            .nth(2)
            .unwrap()
            .join("examples")
            .join(example);
        assert!(path.exists(), "{path:?} is missing: `ci/soak` builds it");
        let limit = limit.map_or(String::new(), |n| format!("ulimit -n {n}; "));
        let mut child = Command::new("sh")
            .args(["-c", &format!("{limit}exec \"$0\" 127.0.0.1:0")])
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // It tells of every connection that is reset.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let addr = line.split("listening on ").nth(1).unwrap();
        let addr = addr.split(';').next().unwrap().trim().parse().unwrap();
        Server { child, addr }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the good clients have seen.
#[derive(Debug, Default)]
struct Service {
    took: Vec<Duration>,
    n_failed: u64,
}

fn overload(name: &str, example: &str, limit: Option<u32>, attack: Attack) -> bool {
    let server = Server::start(example, limit);
    let (addr, pid) = (server.addr, server.child.id().to_string());
    let http = example == "http_server";
    // One round first: pipe and queue are there, and memory is what it needs.
    let before = talk(addr, http, &AtomicBool::new(true));
    let n_before = settled(&pid, 0);
    let rss_before = rss_kib(&pid);
    let over = Arc::new(AtomicBool::new(false));
    let good = std::thread::spawn({
        let over = Arc::clone(&over);
        move || talk(addr, http, &over)
    });
    // All of them are served before it begins.
    std::thread::sleep(Duration::from_millis(500));
    let attack = attack(addr);
    over.store(true, Ordering::SeqCst);
    let during = good.join().unwrap();
    let after = talk(addr, http, &AtomicBool::new(true));
    let n_after = settled(&pid, n_before);
    let worst = |service: &Service| service.took.iter().max().copied().unwrap_or(LIMIT);
    let mut took = during.took.clone();
    took.sort_unstable();
    let p99 = took.get(took.len() * 99 / 100).copied().unwrap_or(LIMIT);
    println!(
        "overload: {name}: {attack}; {N_GOOD} good clients: {} answers, {} failed, p99 {p99:.1?}, \
         worst {:.1?} (before {:.1?}, after {:.1?}); descriptors {n_before} -> {n_after}, memory \
         {:+} KiB, CPU {:.1?}",
        during.took.len(),
        before.n_failed + during.n_failed + after.n_failed,
        worst(&during),
        worst(&before),
        worst(&after),
        rss_kib(&pid) - rss_before,
        cpu(&pid),
    );
    let in_time = [&before, &during, &after]
        .iter()
        .all(|service| service.n_failed == 0 && worst(service) < LIMIT);
    in_time && n_after <= n_before && during.took.len() as u64 > 10 * N_GOOD
}

/// How many descriptors a process has once it has no more than `wanted`, or no longer changes.
fn settled(pid: &str, wanted: usize) -> usize {
    let mut last = n_open(pid);
    for _ in 0..40 {
        std::thread::sleep(Duration::from_millis(100));
        let now = n_open(pid);
        if now <= wanted || (wanted == 0 && now == last) {
            return now;
        }
        last = now;
    }
    last
}

/// The good clients: each has one connection, and a word after the other until it is over.
fn talk(addr: SocketAddr, http: bool, over: &AtomicBool) -> Service {
    let one = async |number: u64| {
        let mut service = Service::default();
        if let Err(error) = serve_one(addr, http, over, number, &mut service).await {
            println!("overload: a good client: {error}");
            service.n_failed = 1;
        }
        service
    };
    fahrenheit::run(async {
        let all = join_all((0..N_GOOD).map(one)).await;
        all.into_iter().fold(Service::default(), |mut sum, one| {
            sum.took.extend(one.took);
            sum.n_failed += one.n_failed;
            sum
        })
    })
}

async fn serve_one(
    addr: SocketAddr,
    http: bool,
    over: &AtomicBool,
    number: u64,
    service: &mut Service,
) -> io::Result<()> {
    let mut chance = Chance(number);
    let mut stream = AsyncTcpStream::connect_timeout(addr, LIMIT).await?;
    stream.set_nodelay(true)?;
    loop {
        let start = Instant::now();
        let word = chance.next().to_be_bytes();
        let answered = timeout(2 * LIMIT, answer(&mut stream, http, word)).await?;
        answered?;
        service.took.push(start.elapsed());
        if over.load(Ordering::SeqCst) {
            return stream.close().await;
        }
        sleep(PAUSE).await;
    }
}

async fn answer(stream: &mut AsyncTcpStream, http: bool, word: [u8; 8]) -> io::Result<()> {
    let mut bytes = [0; 512];
    if !http {
        stream.write_all(&word).await?;
        stream.read_exact(&mut bytes[..8]).await?;
        return match bytes[..8] == word {
            true => Ok(()),
            false => Err(io::Error::other("another word came back")),
        };
    }
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        .await?;
    let mut n_read = 0;
    while !bytes[..n_read].ends_with(b"\r\n\r\nHello.\n") {
        match stream.read(&mut bytes[n_read..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => n_read += n,
        }
    }
    Ok(())
}

/// Far more connections than there are descriptors, 4,000 at a time, each kept for a while.
fn crowd(addr: SocketAddr) -> String {
    const N: u32 = 15_000;
    let (n_connected, n_echoed) = (Cell::new(0), Cell::new(0));
    let offer = async |number: u32| {
        let connecting = AsyncTcpStream::connect_timeout(addr, Duration::from_millis(500));
        let Ok(mut stream) = connecting.await else {
            return;
        };
        n_connected.set(n_connected.get() + 1);
        let word = number.to_be_bytes();
        let mut back = [0; 4];
        let echo = async {
            stream.write_all(&word).await?;
            stream.read_exact(&mut back).await
        };
        // Whoever is not accepted stays, and waits in vain.
        if let Ok(Ok(())) = timeout(Duration::from_secs(1), echo).await {
            assert_eq!(back, word);
            n_echoed.set(n_echoed.get() + 1);
            sleep(Duration::from_secs(1)).await;
        }
    };
    let start = Instant::now();
    fahrenheit::run(stream::iter(0..N).for_each_concurrent(4_000, offer));
    format!(
        "{} connected, {} served, in {:.1?}",
        n_connected.get(),
        n_echoed.get(),
        start.elapsed()
    )
}

/// Clients that never finish a request.
fn loris(addr: SocketAddr) -> String {
    const N: usize = 1_000;
    let n_bytes = Cell::new(0);
    let one = async |_| {
        let mut stream = AsyncTcpStream::connect(addr).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nX: ").await?;
        let start = Instant::now();
        while start.elapsed() < ATTACK {
            stream.write_all(b"x").await?;
            n_bytes.set(n_bytes.get() + 1);
            sleep(Duration::from_millis(200)).await;
        }
        io::Result::Ok(())
    };
    let ends = fahrenheit::run(join_all((0..N).map(one)));
    let n_kept = ends.iter().filter(|end| end.is_ok()).count();
    format!(
        "{n_kept} kept their connection and sent {} bytes",
        n_bytes.get()
    )
}

/// Connections that are reset at once, or in the middle of something.
fn resets(addr: SocketAddr) -> String {
    let n_resets = Cell::new(0);
    let start = Instant::now();
    let one = async |seed| {
        let mut chance = Chance(seed);
        while start.elapsed() < ATTACK {
            let connecting = AsyncTcpStream::connect_timeout(addr, LIMIT);
            let Ok(mut stream) = connecting.await else {
                continue;
            };
            if chance.one_in(2) {
                let _ = stream.write(&[7; 5_000]).await;
            }
            if chance.one_in(4) {
                let _ = stream.read(&mut [0; 100]).now_or_never();
                fahrenheit::yield_now().await;
            }
            if stream.set_linger(Some(Duration::ZERO)).is_ok() {
                n_resets.set(n_resets.get() + 1);
            }
        }
    };
    fahrenheit::run(join_all((0..16).map(one)));
    format!("{} resets in {ATTACK:?}", n_resets.get())
}
