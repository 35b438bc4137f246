//! TCP connections and listeners.

use crate::util::{connected_pair, echo, go, talk};
use fahrenheit::prelude::*;
use fahrenheit::time::{sleep, timeout};
use fahrenheit::{AsyncTcpListener, AsyncTcpStream};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{MsgFlags, send};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::time::Duration;

/// The period of the test data: a prime, so that no lost block of a round size goes unseen.
pub(crate) const PERIOD: usize = 251;
const CHUNK: usize = 128 * 1024;

pub(crate) fn pattern() -> Vec<u8> {
    (0..PERIOD + CHUNK).map(|n| (n % PERIOD) as u8).collect()
}

/// Writes this number of bytes of test data, then closes.
async fn produce(mut stream: &AsyncTcpStream, n_bytes: usize) {
    let pattern = pattern();
    let mut written = 0;
    while written < n_bytes {
        let most = CHUNK.min(n_bytes - written);
        let from = written % PERIOD;
        written += stream.write(&pattern[from..from + most]).await.unwrap();
    }
    stream.close().await.unwrap();
}

/// Reads test data to the end, and returns how many bytes came.
async fn consume(mut stream: &AsyncTcpStream) -> usize {
    let pattern = pattern();
    let mut bytes = vec![0; CHUNK];
    let mut n_read = 0;
    loop {
        let n = stream.read(&mut bytes).await.unwrap();
        if n == 0 {
            return n_read;
        }
        let from = n_read % PERIOD;
        assert!(
            bytes[..n] == pattern[from..from + n],
            "wrong near byte {n_read}"
        );
        n_read += n;
    }
}

#[test]
fn both_directions_move_64_mib_at_once() {
    const N: usize = 64 << 20;
    go(async {
        let (a, b) = connected_pair().await;
        let (.., at_a, at_b) =
            futures_util::join!(produce(&a, N), produce(&b, N), consume(&a), consume(&b));
        assert_eq!((at_a, at_b), (N, N));
    });
}

#[test]
fn two_tasks_that_read_one_socket_both_progress() {
    go(async {
        let (a, mut b) = connected_pair().await;
        let a = Rc::new(a);
        let readers = [(); 2].map(|()| {
            let a = Rc::clone(&a);
            fahrenheit::spawn(async move {
                let mut byte = [0];
                (&*a).read_exact(&mut byte).await.unwrap();
                byte[0]
            })
        });
        sleep(Duration::from_millis(5)).await;
        b.write_all(b"12").await.unwrap();
        let mut bytes = Vec::new();
        for reader in readers {
            bytes.push(reader.await.unwrap());
        }
        bytes.sort_unstable();
        assert_eq!(bytes, b"12");
    });
}

#[test]
fn a_shutdown_ends_every_read_that_waits() {
    go(async {
        let (a, _b) = connected_pair().await;
        let a = Rc::new(a);
        let readers = [(); 2].map(|()| {
            let a = Rc::clone(&a);
            fahrenheit::spawn(async move { (&*a).read(&mut [0]).await.unwrap() })
        });
        sleep(Duration::from_millis(5)).await;
        a.shutdown(Shutdown::Both).unwrap();
        for reader in readers {
            assert_eq!(reader.await.unwrap(), 0);
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn an_urgent_byte_neither_spins_the_loop_nor_hides_the_data() {
    go(async {
        let (mut a, mut b) = connected_pair().await;
        send(b.as_raw_fd(), b"!", MsgFlags::MSG_OOB).unwrap();
        let cost = crate::util::Cost::begin();
        let waited = timeout(Duration::from_millis(500), a.read(&mut [0; 8])).await;
        assert!(waited.is_err(), "an urgent byte is not data");
        cost.check("500 ms beside an urgent byte", Duration::from_millis(20));
        b.write_all(b"data").await.unwrap();
        let mut bytes = [0; 4];
        a.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"data");
    });
}

#[test]
fn urgent_data_is_an_exceptional_condition() {
    go(async {
        let (a, b) = connected_pair().await;
        let urgent = fahrenheit::spawn(async move { a.exceptional().await });
        sleep(Duration::from_millis(20)).await;
        assert!(!urgent.is_finished());
        send(b.as_raw_fd(), b"!", MsgFlags::MSG_OOB).unwrap();
        urgent.await.unwrap().unwrap();
    });
}

#[test]
fn a_write_that_waits_has_buffered_nothing() {
    go(async {
        let (a, b) = connected_pair().await;
        let pattern = pattern();
        let mut n_taken = 0;
        loop {
            let from = n_taken % PERIOD;
            let mut a = &a;
            let write = a.write(&pattern[from..from + 4_096]);
            match timeout(Duration::from_millis(300), write).await {
                Ok(n) => n_taken += n.unwrap(),
                Err(_) => break,
            }
        }
        // What the write was told to be taken is all there is, and nothing of the one that waited.
        a.shutdown(Shutdown::Write).unwrap();
        assert_eq!(consume(&b).await, n_taken);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_stopped_reader_costs_nothing_and_then_gets_all() {
    const N: usize = 24 << 20;
    go(async {
        let (a, b) = connected_pair().await;
        let writer = fahrenheit::spawn(async move { produce(&a, N).await });
        sleep(Duration::from_millis(100)).await;
        let cost = crate::util::Cost::begin();
        sleep(Duration::from_millis(500)).await;
        cost.check("500 ms beside a stopped reader", Duration::from_millis(20));
        assert!(!writer.is_finished());
        assert_eq!(consume(&b).await, N);
        writer.await.unwrap();
    });
}

#[cfg(all(target_pointer_width = "64", feature = "unix"))]
#[test]
fn a_huge_slice_is_taken_in_parts() {
    const N: usize = 3 << 30;
    if Vec::<u8>::new().try_reserve_exact(N).is_err() {
        let name = test_name!();
        return crate::util::skip(name, "this machine gives no 3 GiB of address space");
    }
    // Asked for as zeros, the pages are never touched: reading them maps one and the same.
    let huge = vec![0_u8; N];
    go(async {
        let (mut a, b) = connected_pair().await;
        let drain = fahrenheit::spawn(async move {
            let mut bytes = vec![1; CHUNK];
            let mut n_read = 0;
            loop {
                match (&b).read(&mut bytes).await.unwrap() {
                    0 => return n_read,
                    n => n_read += n,
                }
            }
        });
        let mut n_taken = 0;
        for _ in 0..3 {
            let n = a.write(&huge[n_taken..]).await.unwrap();
            assert!(n > 0 && n <= 1 << 30, "{n}");
            n_taken += n;
        }
        assert_eq!(a.write(&[]).await.unwrap(), 0);
        a.close().await.unwrap();
        assert_eq!(drain.await.unwrap(), n_taken);
    });
}

#[test]
fn five_thousand_slices_are_taken_in_parts() {
    go(async {
        let (a, b) = connected_pair().await;
        let pattern = pattern();
        // More slices than any system takes at once, and short enough for all of them to fit.
        let slices: Vec<_> = (0..5_000)
            .map(|n| IoSlice::new(&pattern[n * 10 % PERIOD..][..10]))
            .collect();
        let write = async {
            let mut n_written = 0;
            while n_written < 50_000 {
                // A call may take any part of what it is offered: NetBSD ends in the middle of a
                // slice.
                let rest = &slices[n_written / 10..];
                let n = match n_written % 10 {
                    0 => (&a).write_vectored(rest).await.unwrap(),
                    n_torn => (&a).write(&rest[0][n_torn..]).await.unwrap(),
                };
                assert!(n > 0);
                n_written += n;
            }
            (&a).close().await.unwrap();
        };
        let ((), n_read) = futures_util::join!(write, consume(&b));
        assert_eq!(n_read, 50_000);
    });
}

#[test]
fn slices_of_five_gib_in_all_are_taken_in_parts() {
    go(async {
        let (mut a, _b) = connected_pair().await;
        let block = vec![0; 1 << 20];
        let slices = vec![IoSlice::new(&block); 5_000];
        let n = a.write_vectored(&slices).await.unwrap();
        assert!(n > 0 && n <= 1 << 30, "{n}");
        let nothing = a.write_vectored(&[]).await.unwrap();
        assert_eq!(nothing, 0);
    });
}

/// What callers such as `write_all_vectored` take for a failure to write.
#[cfg(all(target_pointer_width = "64", feature = "unix"))]
#[test]
fn a_huge_slice_behind_an_empty_one_is_written_and_not_taken_for_the_end() {
    const N: usize = (1 << 30) + 4096;
    if Vec::<u8>::new().try_reserve_exact(N).is_err() {
        let name = test_name!();
        return crate::util::skip(name, "this machine gives no 1 GiB of address space");
    }
    let huge = vec![0_u8; N];
    go(async {
        let (mut a, _b) = connected_pair().await;
        let (mut c, _d) = fahrenheit::AsyncUnixStream::pair().unwrap();
        let (_reader, mut writer) = fahrenheit::io::pipe().unwrap();
        let slices = [IoSlice::new(&[]), IoSlice::new(&[]), IoSlice::new(&huge)];
        for n in [
            a.write_vectored(&slices).await.unwrap(),
            c.write_vectored(&slices).await.unwrap(),
            writer.write_vectored(&slices).await.unwrap(),
        ] {
            assert!(n > 0 && n <= 1 << 30, "{n}");
        }
    });
}

/// macOS refuses slices of more than `INT_MAX` bytes in all, so a read is offered fewer.
#[cfg(target_pointer_width = "64")]
#[test]
fn slices_of_three_gib_in_all_are_read_into_in_parts() {
    const N: usize = 1 << 30;
    if Vec::<u8>::new().try_reserve_exact(3 * N).is_err() {
        let name = test_name!();
        return crate::util::skip(name, "this machine gives no 3 GiB of address space");
    }
    // Asked for as zeros, pages that nothing is read into cost nothing.
    let mut huge = [vec![0_u8; N], vec![0_u8; N], vec![0_u8; N]];
    go(async {
        let (mut a, mut b) = connected_pair().await;
        for _ in 0..10 {
            b.write_all(b"word").await.unwrap();
            let [first, second, third] = &mut huge;
            let mut slices = [
                IoSliceMut::new(&mut []),
                IoSliceMut::new(first),
                IoSliceMut::new(second),
                IoSliceMut::new(third),
            ];
            assert_eq!(a.read_vectored(&mut slices).await.unwrap(), 4);
            assert_eq!(&huge[0][..4], b"word");
        }
    });
}

/// There is always room for nothing, also where nothing else fits.
#[cfg(feature = "unix")]
#[test]
fn writing_nothing_to_a_full_stream_succeeds_at_once() {
    go(async {
        let (a, _b) = connected_pair().await;
        let (c, _d) = fahrenheit::AsyncUnixStream::pair().unwrap();
        let (_reader, writer) = fahrenheit::io::pipe().unwrap();
        let limit = Duration::from_millis(50);
        let bytes = vec![0; 1 << 20];
        while timeout(limit, (&a).write(&bytes)).await.is_ok() {}
        while timeout(limit, (&c).write(&bytes)).await.is_ok() {}
        while timeout(limit, (&writer).write(&bytes)).await.is_ok() {}
        let nothing = [IoSlice::new(&[]), IoSlice::new(&[])];
        for write in [
            timeout(limit, (&a).write(&[])).await,
            timeout(limit, (&c).write(&[])).await,
            timeout(limit, (&writer).write(&[])).await,
            timeout(limit, (&a).write_vectored(&nothing)).await,
            timeout(limit, (&c).write_vectored(&nothing)).await,
            timeout(limit, (&writer).write_vectored(&nothing)).await,
        ] {
            assert_eq!(write.expect("it does not wait").unwrap(), 0);
        }
    });
}

#[test]
fn peeking_takes_nothing_and_waits_like_a_read() {
    go(async {
        let (a, mut b) = connected_pair().await;
        let mut bytes = [0; 8];
        let waited = timeout(Duration::from_millis(20), a.peek(&mut bytes)).await;
        assert!(waited.is_err());
        b.write_all(b"peek").await.unwrap();
        for _ in 0..3 {
            assert_eq!(a.peek(&mut bytes).await.unwrap(), 4);
            assert_eq!(&bytes[..4], b"peek");
        }
        (&a).read_exact(&mut bytes[..4]).await.unwrap();
        let waited = timeout(Duration::from_millis(20), a.peek(&mut bytes)).await;
        assert!(waited.is_err(), "all was read");
        drop(b);
        assert_eq!(a.peek(&mut bytes).await.unwrap(), 0);
    });
}

#[test]
fn incoming_is_a_stream_of_connections() {
    let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    go(async {
        let clients = fahrenheit::spawn(async move {
            let mut clients = Vec::new();
            for _ in 0..5 {
                clients.push(AsyncTcpStream::connect(addr).await.unwrap());
            }
            clients
        });
        let peers: Vec<_> = listener
            .incoming()
            .take(5)
            .map(|stream: io::Result<AsyncTcpStream>| stream.unwrap().peer_addr().unwrap())
            .collect()
            .await;
        let clients = clients.await.unwrap();
        let addrs: Vec<_> = clients.iter().map(|c| c.local_addr().unwrap()).collect();
        assert_eq!(peers, addrs);
    });
}

#[test]
fn std_sockets_come_and_go_and_keep_their_other_flags() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let flags =
        |fd: &std::net::TcpStream| OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap());
    fcntl(&client, FcntlArg::F_SETFL(flags(&client) | OFlag::O_APPEND)).unwrap();
    let before = flags(&client);
    assert!(before.contains(OFlag::O_APPEND) && !before.contains(OFlag::O_NONBLOCK));
    let listener = AsyncTcpListener::try_from(listener).unwrap();
    let client = AsyncTcpStream::from_std(client).unwrap();
    go(async {
        let (server, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        let served = fahrenheit::spawn(echo(server));
        talk(&client, 3).await.unwrap();
        let client = client.into_std();
        assert_eq!(flags(&client), before | OFlag::O_NONBLOCK);
        drop(client);
        assert_eq!(served.await.unwrap().unwrap(), 12);
    });
    let listener = listener.into_std();
    assert_eq!(
        listener.accept().unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
}

#[test]
fn vectored_reads_and_writes_move_all_slices() {
    go(async {
        let (mut a, mut b) = connected_pair().await;
        let slices = [
            IoSlice::new(b"one "),
            IoSlice::new(b""),
            IoSlice::new(b"two"),
        ];
        assert_eq!(a.write_vectored(&slices).await.unwrap(), 7);
        b.readable().await.unwrap();
        let (mut first, mut rest) = ([0; 2], [0; 8]);
        let mut slices = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut rest)];
        assert_eq!(b.read_vectored(&mut slices).await.unwrap(), 7);
        assert_eq!((&first, &rest[..5]), (b"on", &b"e two"[..]));
    });
}

#[test]
fn halves_read_and_write_apart_and_reunite() {
    go(async {
        let (a, b) = connected_pair().await;
        let serve = fahrenheit::spawn(echo(b));
        let (mut read, mut write) = a.into_split();
        let reader = fahrenheit::spawn(async move {
            let mut bytes = [0; 6];
            read.read_exact(&mut bytes).await.unwrap();
            (read, bytes)
        });
        write.write_all(b"halves").await.unwrap();
        let (read, bytes) = reader.await.unwrap();
        assert_eq!(&bytes, b"halves");
        let whole = read.reunite(write).unwrap();
        talk(&whole, 1).await.unwrap();
        let (read, write) = whole.into_split();
        let (other_read, other_write) = connected_pair().await.0.into_split();
        let error = read.reunite(other_write).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("belong to different connections")
        );
        let (read, other_write) = (error.0, error.1);
        other_write.reunite(other_read).unwrap();
        // Dropping the writing half is the end for the peer, even while the other reads on.
        drop(write);
        assert_eq!(serve.await.unwrap().unwrap(), 10);
        // The half that is left has the whole connection, which has ended: the system may have no
        // name for it any more, but there is still a socket.
        assert!(read.as_ref().as_fd().try_clone_to_owned().is_ok());
    });
}

#[test]
fn options_are_what_they_were_set_to() {
    go(async {
        let (a, _b) = connected_pair().await;
        for on in [true, false] {
            a.set_nodelay(on).unwrap();
            assert_eq!(a.nodelay().unwrap(), on);
            a.set_keepalive(on).unwrap();
            assert_eq!(a.keepalive().unwrap(), on);
        }
        a.set_ttl(17).unwrap();
        assert_eq!(a.ttl().unwrap(), 17);
        assert_eq!(a.linger().unwrap(), None);
        a.set_linger(Some(Duration::from_millis(1_500))).unwrap();
        assert_eq!(
            a.linger().unwrap(),
            Some(Duration::from_secs(2)),
            "rounded up"
        );
        a.set_linger(None).unwrap();
        assert_eq!(a.linger().unwrap(), None);
    });
    let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_ttl(9).unwrap();
    assert_eq!(listener.ttl().unwrap(), 9);
}

#[test]
fn many_clients_are_served_at_once_on_one_loop() {
    go(crate::util::exchange(50, 40)).unwrap();
}
