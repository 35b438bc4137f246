//! What waiting must not do: lose what is there, spin on what cannot be had, or leave anything
//! behind. Each test is a fault that was seen once.
#![cfg(all(target_os = "linux", feature = "udp", feature = "unix"))]

use crate::util::{Cost, alone, go};
use fahrenheit::prelude::*;
use fahrenheit::time::{sleep, timeout};
use fahrenheit::{AsyncFd, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, AsyncUnixStream};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{MsgFlags, send, setsockopt, sockopt};
use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

/// Counts its wakes.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A connection that is old enough to be in the kernel's queue, and its peer.
async fn old_connection() -> (AsyncTcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_nodelay(true).unwrap();
    let mut ours = AsyncTcpStream::from_std(listener.accept().unwrap().0).unwrap();
    let mut byte = [0];
    for _ in 0..20 {
        let writes = async {
            sleep(Duration::from_millis(1)).await;
            peer.write_all(b"x").unwrap();
        };
        let (read, ()) = futures_util::join!(ours.read_exact(&mut byte), writes);
        read.unwrap();
        ours.write_all(&byte).await.unwrap();
        peer.read_exact(&mut byte).unwrap();
    }
    (ours, peer)
}

fn send_urgent(peer: &TcpStream) {
    assert_eq!(send(peer.as_raw_fd(), b"!", MsgFlags::MSG_OOB), Ok(1));
}

/// Reads twice, at most 1 KiB at a time.
async fn read_twice(stream: &mut AsyncTcpStream) -> Vec<u8> {
    let (mut bytes, mut all) = ([0; 1024], Vec::new());
    for _ in 0..2 {
        let n = timeout(SOON, stream.read(&mut bytes)).await;
        let n = n.expect("there is something to read").unwrap();
        all.extend(&bytes[..n]);
    }
    all
}

#[test]
fn urgent_data_does_not_hide_what_follows() {
    go(async {
        let (mut ours, mut peer) = old_connection().await;
        peer.write_all(b"AAAA").unwrap();
        send_urgent(&peer);
        peer.write_all(b"BBBB").unwrap();
        sleep(Duration::from_millis(50)).await;
        assert_eq!(read_twice(&mut ours).await, b"AAAABBBB");
    });
}

#[test]
fn urgent_data_that_comes_while_a_task_waits_does_not_hide_what_follows() {
    go(async {
        let (mut ours, mut peer) = old_connection().await;
        let reads = fahrenheit::spawn(async move {
            let first = read_twice(&mut ours).await;
            (first, read_twice(&mut ours).await)
        });
        peer.write_all(b"AAAA").unwrap();
        sleep(Duration::from_millis(20)).await;
        peer.write_all(b"BBBB").unwrap();
        sleep(Duration::from_millis(20)).await;
        peer.write_all(b"CCCC").unwrap();
        send_urgent(&peer);
        peer.write_all(b"DDDD").unwrap();
        let (first, second) = reads.await.unwrap();
        assert_eq!(
            (&first[..], &second[..]),
            (&b"AAAABBBB"[..], &b"CCCCDDDD"[..])
        );
    });
}

/// A socket that has one error in its error queue, for which nothing in the crate asks.
async fn with_icmp_error(socket: &AsyncUdpSocket) {
    setsockopt(socket, sockopt::Ipv4RecvErr, &true).unwrap();
    let refusing = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    socket.send_to(b"lost", refusing).await.unwrap();
    let error = socket.recv_from(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

/// A socket that has a time of sending in its error queue.
async fn with_timestamp(socket: &AsyncUdpSocket) {
    use nix::sys::socket::TimestampingFlag as Flag;
    let flags = Flag::SOF_TIMESTAMPING_TX_SOFTWARE | Flag::SOF_TIMESTAMPING_SOFTWARE;
    setsockopt(socket, sockopt::Timestamping, &flags).unwrap();
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = sink.local_addr().unwrap();
    socket.send_to(b"sent", addr).await.unwrap();
}

async fn costs_nothing_beside_an_error_queue(prepare: impl AsyncFn(&AsyncUdpSocket)) {
    for is_old in [false, true] {
        let socket = AsyncUdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..(if is_old { 12 } else { 0 }) {
            let sends = async {
                sleep(Duration::from_millis(1)).await;
                peer.send_to(b"x", addr).unwrap();
            };
            let mut byte = [0];
            let (received, ()) = futures_util::join!(socket.recv(&mut byte), sends);
            received.unwrap();
        }
        prepare(&socket).await;
        let cost = Cost::begin();
        let limit = Duration::from_secs(1);
        let mut bytes = [0; 16];
        let received = timeout(limit, socket.recv_from(&mut bytes)).await;
        assert!(received.is_err(), "nothing was sent");
        cost.check("1 s beside an error queue", Duration::from_millis(20));
        // What comes then is received.
        let receives = timeout(SOON, socket.recv_from(&mut bytes));
        let sends = async {
            sleep(Duration::from_millis(100)).await;
            peer.send_to(b"later", addr).unwrap();
        };
        let (received, ()) = futures_util::join!(receives, sends);
        assert_eq!(received.unwrap().unwrap().0, 5);
    }
}

#[test]
fn an_error_queue_that_no_one_reads_does_not_spin_the_loop() {
    go(costs_nothing_beside_an_error_queue(with_icmp_error));
}

#[test]
fn timestamps_that_no_one_reads_do_not_spin_the_loop() {
    go(costs_nothing_beside_an_error_queue(with_timestamp));
}

/// Waits for `socket` as callers do that make their own calls, for a second, beside an error in its
/// error queue. Returns how often it was reported as readable.
async fn n_vain_reports(readable: impl AsyncFn(&AsyncFd<UdpSocket>)) -> usize {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    setsockopt(&socket, sockopt::Ipv4RecvErr, &true).unwrap();
    let addr = socket.local_addr().unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let refusing = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr();
    let socket = AsyncFd::new(socket).unwrap();
    // Some that are not in vain come first.
    for _ in 0..20 {
        peer.send_to(b"x", addr).unwrap();
        readable(&socket).await;
        socket.get_ref().recv(&mut [0]).unwrap();
    }
    socket
        .get_ref()
        .send_to(b"lost", refusing.unwrap())
        .unwrap();
    readable(&socket).await;
    let error = socket.get_ref().recv(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let mut n_reports = 0;
    let waits = async {
        loop {
            readable(&socket).await;
            n_reports += 1;
            let error = socket.get_ref().recv(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        }
    };
    let _ = timeout(Duration::from_secs(1), waits).await;
    // What comes then is reported, and the next one without a pause.
    for _ in 0..20 {
        peer.send_to(b"later", addr).unwrap();
        timeout(SOON, async {
            while socket.get_ref().recv(&mut [0; 8]).is_err() {
                readable(&socket).await;
            }
        })
        .await
        .unwrap();
    }
    n_reports
}

#[test]
fn waiting_for_a_socket_beside_its_error_queue_slows_down() {
    go(async {
        let n_awaited = n_vain_reports(async |fd| fd.readable().await.unwrap()).await;
        let polled = async |fd: &AsyncFd<UdpSocket>| {
            poll_fn(|cx| fd.poll_readable(cx)).await.unwrap();
        };
        let n_polled = n_vain_reports(polled).await;
        println!("{n_awaited} and {n_polled} reports in vain in 1 s");
        // Pauses of 1, 2, 4 … 32 ms leave room for 36, and some come before the first.
        assert!(
            n_awaited <= 100 && n_polled <= 100,
            "{n_awaited} {n_polled}"
        );
    });
}

#[test]
fn accepting_from_a_socket_that_cannot_listen_is_an_error() {
    go(async {
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::from(OwnedFd::from(datagrams));
        let listener = AsyncTcpListener::from_std(listener).unwrap();
        // It is readable, so that the call is made.
        let addr = listener.local_addr().unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.send_to(b"x", addr).unwrap();
        let accepted = timeout(Duration::from_secs(5), listener.accept()).await;
        let error = accepted.expect("it is not tried for ever").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::EOPNOTSUPP));
    });
}

/// Spawns `n` tasks that wait by `wait`, and checks that they cost nothing.
async fn waiting_costs_nothing<F>(what: &str, n: usize, wait: impl Fn() -> F)
where
    F: Future<Output = ()> + 'static,
{
    let tasks: Vec<_> = (0..n).map(|_| fahrenheit::spawn(wait())).collect();
    // Registering may wake some once.
    sleep(Duration::from_millis(100)).await;
    let cost = Cost::begin();
    sleep(Duration::from_millis(500)).await;
    cost.check(
        &format!("500 ms with {n} tasks in {what}"),
        Duration::from_millis(5),
    );
    for task in tasks {
        task.abort();
    }
}

#[test]
fn any_number_of_tasks_that_wait_for_one_socket_cost_nothing() {
    go(async {
        let listener = Rc::new(AsyncTcpListener::bind("127.0.0.1:0").unwrap());
        let socket = Rc::new(AsyncUdpSocket::bind("127.0.0.1:0").unwrap());
        let (near, _far) = UnixStream::pair().unwrap();
        let stream = Rc::new(AsyncUnixStream::from_std(near).unwrap());
        for n in [64, 65, 1_000] {
            waiting_costs_nothing("accept", n, || {
                let listener = Rc::clone(&listener);
                async move { drop(listener.accept().await) }
            })
            .await;
            waiting_costs_nothing("recv", n, || {
                let socket = Rc::clone(&socket);
                async move { drop(socket.recv(&mut [0]).await) }
            })
            .await;
            waiting_costs_nothing("readable", n, || {
                let socket = Rc::clone(&socket);
                async move { drop(socket.readable().await) }
            })
            .await;
            waiting_costs_nothing("read", n, || {
                let stream = Rc::clone(&stream);
                async move { drop((&*stream).read(&mut [0]).await) }
            })
            .await;
        }
    });
}

/// Polls `future` once with a waker of its own, drops it, and checks that nothing holds the waker.
fn leaves_no_waker_behind(what: &str, future: impl Future) {
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    {
        let mut future = pin!(future);
        for _ in 0..2 {
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending(), "{what} waits");
        }
        assert_eq!(
            Arc::strong_count(&count),
            3,
            "{what}: one entry, polled twice"
        );
    }
    assert_eq!(
        Arc::strong_count(&count),
        2,
        "{what} is gone, and its waker stays"
    );
    assert_eq!(count.0.load(Ordering::SeqCst), 0, "{what} was woken");
}

#[test]
fn a_future_that_is_dropped_while_it_waits_leaves_no_waker_behind() {
    go(async {
        let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
        let socket = AsyncUdpSocket::bind("127.0.0.1:0").unwrap();
        let (stream, _peer) = old_connection().await;
        leaves_no_waker_behind("accept", listener.accept());
        leaves_no_waker_behind("recv", socket.recv(&mut [0]));
        leaves_no_waker_behind("peek_from", socket.peek_from(&mut [0]));
        leaves_no_waker_behind("readable", socket.readable());
        leaves_no_waker_behind("readable of an old connection", stream.readable());
        leaves_no_waker_behind("peek of an old connection", stream.peek(&mut [0]));
        leaves_no_waker_behind("exceptional", stream.exceptional());
    });
}

/// A waker that knows how many of its kind are alive.
struct Alive(Arc<AtomicUsize>);

impl Wake for Alive {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn a_future_that_is_polled_with_ever_new_wakers_does_not_fill_memory() {
    go(async {
        let socket = AsyncUdpSocket::bind("127.0.0.1:0").unwrap();
        let n_alive = Arc::new(AtomicUsize::new(0));
        let mut most = 0;
        let poll = || {
            n_alive.fetch_add(1, Ordering::SeqCst);
            let waker = Waker::from(Arc::new(Alive(Arc::clone(&n_alive))));
            let polled = socket.poll_recv(&mut Context::from_waker(&waker), &mut [0]);
            assert!(polled.is_pending());
        };
        // In one poll of this task, and in turns of their own.
        for _ in 0..100_000 {
            poll();
            most = most.max(n_alive.load(Ordering::SeqCst));
        }
        for _ in 0..10_000 {
            poll();
            fahrenheit::yield_now().await;
            most = most.max(n_alive.load(Ordering::SeqCst));
        }
        assert!(most <= 2_048, "{most} wakers at once");
    });
}

#[test]
fn a_live_waiter_is_still_woken_among_ever_new_wakers() {
    go(async {
        let socket = Rc::new(AsyncUdpSocket::bind("127.0.0.1:0").unwrap());
        let receives = fahrenheit::spawn({
            let socket = Rc::clone(&socket);
            async move {
                let mut bytes = [0; 8];
                std::future::poll_fn(|cx| socket.poll_recv(cx, &mut bytes)).await
            }
        });
        fahrenheit::yield_now().await;
        for _ in 0..1_000 {
            let waker = Waker::from(Arc::new(Count::default()));
            let polled = socket.poll_recv(&mut Context::from_waker(&waker), &mut [0]);
            assert!(polled.is_pending());
        }
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.send_to(b"hello", socket.local_addr().unwrap())
            .unwrap();
        assert_eq!(timeout(SOON, receives).await.unwrap().unwrap().unwrap(), 5);
    });
}

#[test]
fn readiness_is_noticed_by_a_task_that_also_waits_for_data() {
    go(async {
        let (mut ours, mut peer) = old_connection().await;
        peer.write_all(b"x").unwrap();
        let mut byte = [0];
        ours.read_exact(&mut byte).await.unwrap();
        // With the waker of one task: a read that is parked, and plain readiness.
        let stream = &ours;
        let waits = async {
            let mut shared = stream;
            let mut bytes = [0; 8];
            let reads = shared.read(&mut bytes);
            let (n, readable) = futures_util::join!(reads, stream.readable());
            readable.unwrap();
            n.unwrap()
        };
        let sends = async {
            sleep(Duration::from_millis(20)).await;
            peer.write_all(b"y").unwrap();
        };
        let (n, ()) = futures_util::join!(timeout(SOON, waits), sends);
        assert_eq!(n.unwrap(), 1);
    });
}

#[test]
fn a_reader_that_another_task_is_faster_than_is_not_slowed_down() {
    go(async {
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let fd = Rc::new(AsyncFd::new(near).unwrap());
        // It waits for readiness, and reads by calls of its own.
        let takes = fahrenheit::spawn({
            let fd = Rc::clone(&fd);
            async move {
                for _ in 0..10 {
                    fd.readable().await.unwrap();
                    let mut near = fd.get_ref();
                    near.read_exact(&mut [0]).unwrap();
                }
            }
        });
        fahrenheit::yield_now().await;
        let reads = fahrenheit::spawn({
            let fd = Rc::clone(&fd);
            async move { fd.read_with(|mut io| io.read(&mut [0])).await.unwrap() }
        });
        for _ in 0..10 {
            sleep(Duration::from_millis(1)).await;
            far.write_all(b"x").unwrap();
        }
        takes.await.unwrap();
        assert!(!reads.is_finished());
        // Left out of the sets for a while, it would not be listed.
        let listed = fahrenheit::interest().read.contains(&fd.as_raw_fd());
        let is_parked =
            !cfg!(fahrenheit_no_queue) && std::env::var_os("FAHRENHEIT_POLLER").is_none();
        assert!(listed || is_parked);
        far.write_all(b"y").unwrap();
        assert_eq!(timeout(SOON, reads).await.unwrap().unwrap(), 1);
    });
}

/// Opens descriptors until there are no more, after lowering the limit.
fn exhaust() -> Vec<std::fs::File> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 96.min(hard), hard).unwrap();
    std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect()
}

/// Runs `wait` in two tasks at the limit of descriptors. One gives up, the earlier or the later;
/// descriptors become free without the crate; the other one must accept.
async fn the_other_accepts<F>(is_later: bool, wait: impl Fn(Rc<AsyncTcpListener>) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let listener = Rc::new(AsyncTcpListener::bind("127.0.0.1:0").unwrap());
    let addr = listener.local_addr().unwrap();
    let _clients: Vec<_> = (0..3).map(|_| TcpStream::connect(addr).unwrap()).collect();
    let mut files = exhaust();
    // The error is returned once.
    let error = listener.accept().await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::libc::EMFILE));
    let first = fahrenheit::spawn(wait(Rc::clone(&listener)));
    fahrenheit::yield_now().await;
    let second = fahrenheit::spawn(wait(Rc::clone(&listener)));
    sleep(Duration::from_millis(100)).await;
    assert!(!first.is_finished() && !second.is_finished());
    let (leaves, stays) = if is_later {
        (second, first)
    } else {
        (first, second)
    };
    leaves.abort();
    sleep(Duration::from_millis(20)).await;
    files.truncate(files.len() - 50);
    let start = Instant::now();
    timeout(SOON, stays).await.expect("it accepts").unwrap();
    println!(
        "accepted {:?} after descriptors became free",
        start.elapsed()
    );
}

#[test]
fn a_task_that_gives_up_accepting_takes_no_other_tasks_timer_with_it() {
    let name = test_name!();
    alone(name, || {
        for is_later in [false, true] {
            go(the_other_accepts(is_later, |listener| async move {
                listener.accept().await.unwrap();
            }));
        }
    });
}

#[test]
fn a_hand_written_future_that_gives_up_accepting_takes_no_timer_with_it() {
    let name = test_name!();
    alone(name, || {
        for is_later in [false, true] {
            go(the_other_accepts(is_later, |listener| {
                std::future::poll_fn(move |cx| listener.poll_accept(cx).map(|r| drop(r.unwrap())))
            }));
        }
    });
}

/// Each refused write makes room for a moment, and so an edge: edges come without end.
#[test]
fn writing_to_a_receiver_that_is_full_does_not_spin_the_loop() {
    use std::os::unix::net::UnixDatagram;
    let name = format!("fahrenheit-full-{}", std::process::id());
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_file(&path);
    let _receiver = UnixDatagram::bind(&path).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    let mut n_calls = 0;
    go(async {
        let sender = AsyncFd::new(sender).unwrap();
        let fill = async {
            loop {
                let write = |socket: &UnixDatagram| {
                    n_calls += 1;
                    socket.send_to(b"x", &path)
                };
                sender.write_with(write).await.unwrap();
            }
        };
        assert!(timeout(Duration::from_millis(500), fill).await.is_err());
    });
    // Those that succeed, and about one in 32 ms.
    assert!(n_calls > 2 && n_calls < 200, "{n_calls} calls");
    std::fs::remove_file(path).unwrap();
}
