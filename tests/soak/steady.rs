//! 300 connections at a time, none of which goes well for long.

use crate::kit::{Chance, mix, n_open, rss_kib};
use fahrenheit::prelude::*;
use fahrenheit::time::{sleep, timeout};
use fahrenheit::{AsyncTcpListener, AsyncTcpStream};
use futures_channel::oneshot;
use futures_util::future::{Either, join, join_all, select};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const N_SLOTS: u64 = 300;
const N_PHASES: u32 = 8;
/// The first phases bring memory to what it needs.
const N_WARM_UP: u32 = 2;
/// How often connections are looked at, and how often in a row one may not have moved a byte,
/// however slow the machine is.
const LOOK: Duration = Duration::from_secs(20);
const N_LOOKS: u32 = 5;
/// How long the server has to notice that all have gone.
const LIMIT: Duration = Duration::from_secs(100);
const MOST_GROWTH_KIB: i64 = 1_024;

/// What the server has seen.
#[derive(Default)]
struct Served {
    n_open: AtomicUsize,
    /// Not atomic: not every processor has atomics of 64 bits.
    n_bytes: Mutex<u64>,
    n_broken: AtomicUsize,
}

/// What the clients have seen.
#[derive(Default)]
struct Tally {
    n_whole: Cell<u64>,
    n_cut: Cell<u64>,
    n_cancelled: Cell<u64>,
    n_bytes: Cell<u64>,
    n_lost: Cell<u64>,
    n_stuck: Cell<u64>,
    n_failed: Cell<u64>,
}

fn add(cell: &Cell<u64>, n: u64) {
    cell.set(cell.get() + n);
}

pub(crate) fn run() -> bool {
    let seconds = std::env::var("DURATION").map_or(120, |text| text.parse().unwrap());
    let seed = std::env::var("SEED").map_or(1, |text| text.parse().unwrap());
    println!("steady: {seconds} s, seed {seed}, {N_SLOTS} connections at a time");
    let served = Arc::new(Served::default());
    let (stop, stopped) = oneshot::channel();
    let (tell, told) = std::sync::mpsc::channel();
    let server = std::thread::spawn({
        let served = Arc::clone(&served);
        move || fahrenheit::run(serve(seed, served, tell, stopped))
    });
    let addr = told.recv().unwrap();
    let tally = Rc::new(Tally::default());
    let phase = Duration::from_secs(seconds) / N_PHASES;
    let mut samples = Vec::new();
    for number in 0..N_PHASES {
        let chance = Chance(mix(seed ^ u64::from(number) << 32));
        fahrenheit::run(clients(addr, phase, chance, &tally));
        let start = Instant::now();
        while served.n_open.load(Ordering::SeqCst) > 0 && start.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(5));
        }
        let sample = (n_open("self"), rss_kib("self"));
        println!(
            "steady: phase {number}: {} whole, {} cut, {} operations cancelled, {} MB; \
             {} descriptors, {} KiB",
            tally.n_whole.get(),
            tally.n_cut.get(),
            tally.n_cancelled.get(),
            tally.n_bytes.get() / 1_000_000,
            sample.0,
            sample.1
        );
        samples.push(sample);
    }
    let _ = stop.send(());
    server.join().unwrap();
    judge(&tally, &served, &samples[N_WARM_UP as usize - 1..])
}

fn judge(tally: &Tally, served: &Served, samples: &[(usize, i64)]) -> bool {
    let (first, last) = (samples[0], samples[samples.len() - 1]);
    let growth = last.1 - first.1;
    let bad = tally.n_lost.get() + tally.n_stuck.get() + tally.n_failed.get();
    println!(
        "steady: {} bytes lost of {} that came back ({} served), {} connections stuck, \
         {} failed ({} broken at the server); descriptors {} -> {}; memory {growth:+} KiB",
        tally.n_lost.get(),
        tally.n_bytes.get(),
        served.n_bytes.lock().unwrap(),
        tally.n_stuck.get(),
        tally.n_failed.get(),
        served.n_broken.load(Ordering::SeqCst),
        first.0,
        last.0,
    );
    let left = served.n_open.load(Ordering::SeqCst);
    let enough = tally.n_whole.get() > 100 && tally.n_cut.get() > 100;
    bad == 0 && left == 0 && enough && first.0 == last.0 && growth < MOST_GROWTH_KIB
}

async fn serve(
    seed: u64,
    served: Arc<Served>,
    tell: std::sync::mpsc::Sender<SocketAddr>,
    stopped: oneshot::Receiver<()>,
) {
    let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
    tell.send(listener.local_addr().unwrap()).unwrap();
    let accepting = async {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let served = Arc::clone(&served);
            served.n_open.fetch_add(1, Ordering::SeqCst);
            drop(fahrenheit::spawn(async move {
                match echo(stream, Chance(mix(seed ^ number))).await {
                    Ok(n) => *served.n_bytes.lock().unwrap() += n,
                    Err(_) => drop(served.n_broken.fetch_add(1, Ordering::SeqCst)),
                }
                served.n_open.fetch_sub(1, Ordering::SeqCst);
            }));
        }
    };
    select(Box::pin(accepting), stopped).await;
}

/// Sends back what comes; now and then it gives an operation up and begins it again.
async fn echo(stream: AsyncTcpStream, mut chance: Chance) -> io::Result<u64> {
    let mut bytes = [0; 4096];
    let mut n_bytes = 0;
    loop {
        let len = chance.within(1..bytes.len() as u64) as usize;
        let n = stubborn(&mut chance, None, async || {
            (&stream).read(&mut bytes[..len]).await
        });
        let n = n.await?;
        if n == 0 {
            (&stream).close().await?;
            return Ok(n_bytes);
        }
        write_all(&stream, &bytes[..n], &mut chance, None).await?;
        n_bytes += n as u64;
    }
}

/// Makes `operation` until it has had the time that it needs.
async fn stubborn<R>(
    chance: &mut Chance,
    tally: Option<&Tally>,
    mut operation: impl AsyncFnMut() -> io::Result<R>,
) -> io::Result<R> {
    while chance.one_in(6) {
        let limit = chance.micros(0..60);
        match timeout(limit, operation()).await {
            Ok(outcome) => return outcome,
            Err(_) => {
                if let Some(tally) = tally {
                    add(&tally.n_cancelled, 1);
                }
            }
        }
    }
    operation().await
}

async fn write_all(
    stream: &AsyncTcpStream,
    bytes: &[u8],
    chance: &mut Chance,
    tally: Option<&Tally>,
) -> io::Result<()> {
    let mut n_written = 0;
    while n_written < bytes.len() {
        let write = async || {
            let mut stream = stream;
            stream.write(&bytes[n_written..]).await
        };
        n_written += stubborn(chance, tally, write).await?;
    }
    Ok(())
}

/// All slots, each with one connection after the other, for so long.
async fn clients(addr: SocketAddr, phase: Duration, mut chance: Chance, tally: &Rc<Tally>) {
    let end = Instant::now() + phase;
    let slots = (0..N_SLOTS).map(|_| {
        let mut chance = Chance(chance.next());
        let tally = Rc::clone(tally);
        fahrenheit::spawn(async move {
            while Instant::now() < end {
                sleep(chance.micros(0..20_000)).await;
                let n_moved = Cell::new(0);
                let whole = Box::pin(connection(addr, &mut chance, &tally, &n_moved));
                match select(whole, Box::pin(until_stuck(&n_moved))).await {
                    Either::Left((Ok(()), _)) => {}
                    Either::Left((Err(error), _)) => {
                        println!("steady: a connection failed: {error}");
                        add(&tally.n_failed, 1);
                    }
                    Either::Right(((), _)) => {
                        println!(
                            "steady: a connection is stuck after {} bytes",
                            n_moved.get()
                        );
                        add(&tally.n_stuck, 1);
                    }
                }
            }
        })
    });
    for slot in join_all(slots.collect::<Vec<_>>()).await {
        slot.unwrap();
    }
}

/// Ready when a connection no longer moves.
async fn until_stuck(n_moved: &Cell<u64>) {
    let (mut before, mut n_looks) = (0, 0);
    while n_looks < N_LOOKS {
        sleep(LOOK).await;
        n_looks = if n_moved.get() == before {
            n_looks + 1
        } else {
            0
        };
        before = n_moved.get();
    }
}

/// What becomes of a connection.
enum Fate {
    Whole,
    Reset,
    Vanish,
}

async fn connection(
    addr: SocketAddr,
    chance: &mut Chance,
    tally: &Tally,
    n_moved: &Cell<u64>,
) -> io::Result<()> {
    if chance.one_in(10) {
        // A connection that is given up while it is made.
        let _ = timeout(chance.micros(0..60), AsyncTcpStream::connect(addr)).await;
    }
    let stream = AsyncTcpStream::connect(addr).await?;
    let (seed, len) = (chance.next(), chance.within(1..60_000));
    let (fate, cut) = match chance.within(0..6) {
        0 => (Fate::Reset, chance.within(0..len)),
        1 => (Fate::Vanish, chance.within(0..len)),
        _ => (Fate::Whole, len),
    };
    let mut theirs = Chance(chance.next());
    let whole = matches!(fate, Fate::Whole);
    let writing = async {
        send(&stream, seed, cut, chance, tally, n_moved).await?;
        if whole {
            // One direction ends; what is on its way still comes back.
            (&stream).close().await?;
        }
        io::Result::Ok(())
    };
    let slow = theirs.one_in(5);
    let reading = receive(
        &stream,
        seed,
        (cut, whole, slow),
        &mut theirs,
        tally,
        n_moved,
    );
    let (sent, received) = join(writing, reading).await;
    sent?;
    let n_received = received?;
    add(&tally.n_bytes, n_received);
    match fate {
        Fate::Whole => {
            add(&tally.n_whole, 1);
            add(&tally.n_lost, len - n_received);
        }
        Fate::Reset => {
            stream.set_linger(Some(Duration::ZERO))?;
            add(&tally.n_cut, 1);
        }
        Fate::Vanish => add(&tally.n_cut, 1),
    }
    Ok(())
}

/// The byte at a place of a connection's text.
fn byte(seed: u64, place: u64) -> u8 {
    (mix(seed ^ (place >> 3)) >> (8 * (place & 7))) as u8
}

async fn send(
    stream: &AsyncTcpStream,
    seed: u64,
    len: u64,
    chance: &mut Chance,
    tally: &Tally,
    n_moved: &Cell<u64>,
) -> io::Result<()> {
    let mut place = 0;
    while place < len {
        let n = chance.within(1..9_000).min(len - place);
        let piece: Vec<u8> = (place..place + n).map(|place| byte(seed, place)).collect();
        write_all(stream, &piece, chance, Some(tally)).await?;
        place += n;
        add(n_moved, n);
    }
    Ok(())
}

/// Reads to the end, if the connection is to stay `whole`; else only a part, so that the rest meets
/// nobody.
async fn receive(
    stream: &AsyncTcpStream,
    seed: u64,
    (len, whole, slow): (u64, bool, bool),
    chance: &mut Chance,
    tally: &Tally,
    n_moved: &Cell<u64>,
) -> io::Result<u64> {
    let mut bytes = [0; 5_000];
    let enough = if whole { u64::MAX } else { len / 2 };
    let mut place = 0;
    while place < enough {
        let len = chance.within(1..bytes.len() as u64) as usize;
        let read = async || {
            let mut stream = stream;
            stream.read(&mut bytes[..len]).await
        };
        let n = stubborn(chance, Some(tally), read).await?;
        if n == 0 {
            break;
        }
        for (place, found) in (place..).zip(&bytes[..n]) {
            add(&tally.n_lost, u64::from(*found != byte(seed, place)));
        }
        place += n as u64;
        add(n_moved, n as u64);
        if slow {
            sleep(chance.micros(0..3_000)).await;
        }
    }
    Ok(place)
}
