//! Unix sockets: paths, abstract names, full queues, and who is at the other end.

use crate::util::go;
use fahrenheit::prelude::*;
use fahrenheit::time::{sleep, timeout};
use fahrenheit::{AsyncUnixDatagram, AsyncUnixListener, AsyncUnixStream};
use std::fs;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A new folder; removed with all that is in it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static SERIAL: AtomicUsize = AtomicUsize::new(0);
        loop {
            let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            // Short, for the paths of sockets must be short.
            let name = format!("fht-{}-{serial}", std::process::id());
            let path = Path::new("/tmp").join(name);
            match fs::create_dir(&path) {
                // A process that was killed has left it behind, or one of another namespace has
                // the number of this process.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => {
                    made.unwrap();
                    return Folder(path);
                }
            }
        }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(&self.0).unwrap().next().is_none()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Sends back what it gets until the end.
async fn echo(stream: AsyncUnixStream) -> io::Result<u64> {
    futures_util::io::copy(&stream, &mut &stream).await
}

/// Has `stream` echo `n_rounds` words, and checks each.
async fn talk(mut stream: &AsyncUnixStream, n_rounds: u32) {
    for round in 0..n_rounds {
        let word = round.wrapping_mul(2_654_435_761).to_be_bytes();
        stream.write_all(&word).await.unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(back, word, "round {round}");
    }
}

#[test]
fn clients_are_served_over_a_path() {
    go(async {
        let folder = Folder::new();
        let path = folder.at("socket");
        let listener = AsyncUnixListener::bind(&path).unwrap();
        assert_eq!(
            listener.local_addr().unwrap().as_pathname(),
            Some(path.as_path())
        );
        let server = fahrenheit::spawn(async move {
            let echoes = listener.incoming().take(20).map(|stream| async {
                let stream = stream.unwrap();
                assert!(stream.peer_addr().unwrap().is_unnamed());
                echo(stream).await.unwrap()
            });
            echoes.buffer_unordered(20).collect::<Vec<_>>().await
        });
        let clients = (0..20).map(|_| async {
            let mut stream = AsyncUnixStream::connect(&path).await.unwrap();
            assert_eq!(
                stream.peer_addr().unwrap().as_pathname(),
                Some(path.as_path())
            );
            talk(&stream, 100).await;
            stream.close().await.unwrap();
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        });
        futures_util::future::join_all(clients).await;
        assert_eq!(server.await.unwrap(), [400; 20]);
    });
}

#[test]
fn both_directions_move_16_mib_at_once() {
    const N: usize = 16 << 20;
    go(async {
        let (a, b) = AsyncUnixStream::pair().unwrap();
        let sent: Vec<u8> = (0..N).map(|n| (n % 251) as u8).collect();
        let write = async |mut stream: &AsyncUnixStream| {
            stream.write_all(&sent).await.unwrap();
            stream.close().await.unwrap();
        };
        let read = async |mut stream: &AsyncUnixStream| {
            let (mut bytes, mut n_read) = (vec![0; 1 << 17], 0);
            while n_read < N {
                let n = stream.read(&mut bytes).await.unwrap();
                assert!(n > 0 && bytes[..n] == sent[n_read..n_read + n], "{n_read}");
                n_read += n;
            }
            assert_eq!(stream.read(&mut bytes).await.unwrap(), 0);
        };
        futures_util::join!(write(&a), write(&b), read(&a), read(&b));
    });
}

#[test]
fn closing_ends_the_request_and_the_reply_still_comes() {
    go(async {
        let (mut client, mut server) = AsyncUnixStream::pair().unwrap();
        client.write_all(b"request").await.unwrap();
        client.close().await.unwrap();
        client.close().await.unwrap();
        let error = client.write(b"more").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        let mut request = String::new();
        server.read_to_string(&mut request).await.unwrap();
        server.write_all(b"reply").await.unwrap();
        drop(server);
        let mut reply = String::new();
        client.read_to_string(&mut reply).await.unwrap();
        assert_eq!((&*request, &*reply), ("request", "reply"));
        client.close().await.unwrap();
    });
}

#[test]
fn a_peer_that_goes_is_an_end_or_an_error_of_one_connection() {
    go(async {
        let (mut a, b) = AsyncUnixStream::pair().unwrap();
        let wait = fahrenheit::spawn(async move {
            let n = a.read(&mut [0]).await.unwrap();
            (n, a)
        });
        sleep(Duration::from_millis(5)).await;
        drop(b);
        let (n, mut a) = wait.await.unwrap();
        assert_eq!(n, 0);
        for _ in 0..3 {
            let error = a.write(b"x").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        }
        let (a, b) = AsyncUnixStream::pair().unwrap();
        let full = fahrenheit::spawn(async move { (&a).write_all(&vec![0; 8 << 20]).await });
        sleep(Duration::from_millis(5)).await;
        assert!(!full.is_finished(), "the writer waits for room");
        drop(b);
        let error = full.await.unwrap().unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
            ),
            "{error}"
        );
    });
}

#[test]
fn no_byte_is_lost_to_a_read_that_was_cancelled() {
    go(async {
        let (mut a, mut b) = AsyncUnixStream::pair().unwrap();
        drop(fahrenheit::spawn(async move {
            for n in 0..2_000_u32 {
                a.write_all(&n.to_ne_bytes()).await.unwrap();
                fahrenheit::yield_now().await;
            }
        }));
        let mut received: Vec<u8> = Vec::new();
        loop {
            let mut bytes = [0; 7];
            match timeout(Duration::from_micros(1), b.read(&mut bytes)).await {
                Ok(Ok(0)) => break,
                Ok(n) => received.extend(&bytes[..n.unwrap()]),
                Err(_) => {}
            }
        }
        let sent: Vec<u8> = (0..2_000_u32).flat_map(u32::to_ne_bytes).collect();
        assert!(received == sent, "{} bytes", received.len());
    });
}

#[test]
fn bad_paths_are_refused_before_anything_is_made() {
    go(async {
        let folder = Folder::new();
        let nul = folder.at("a\0b");
        let long = |len: usize| folder.at(&"p".repeat(len - folder.at("").as_os_str().len()));
        let paths = ["".into(), "\0abstract".into(), nul, long(108), long(4_096)];
        let (stream, datagram) = (UnixStream::pair(), AsyncUnixDatagram::unbound().unwrap());
        for path in &paths {
            let errors = [
                AsyncUnixListener::bind(path).map(drop).unwrap_err(),
                AsyncUnixDatagram::bind(path).map(drop).unwrap_err(),
                AsyncUnixStream::connect(path).await.map(drop).unwrap_err(),
                datagram.connect(path).unwrap_err(),
                datagram.send_to(b"x", path).await.map(drop).unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path:?}: {error}");
                assert!(error.to_string().contains("path of a socket"), "{error}");
            }
        }
        let unnamed = stream.unwrap().0.local_addr().unwrap();
        let errors = [
            AsyncUnixListener::bind_addr(&unnamed)
                .map(drop)
                .unwrap_err(),
            AsyncUnixDatagram::bind_addr(&unnamed)
                .map(drop)
                .unwrap_err(),
            AsyncUnixStream::connect_addr(&unnamed)
                .await
                .map(drop)
                .unwrap_err(),
            datagram.connect_addr(&unnamed).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
        assert!(folder.is_empty());
    });
}

#[test]
fn the_longest_path_is_bound_and_connected_to() {
    go(async {
        let folder = Folder::new();
        let start = folder.at("").as_os_str().len();
        let most = if cfg!(target_os = "linux") { 107 } else { 103 };
        for len in [start + 1, 102, 103, most] {
            let path = folder.at(&"p".repeat(len - start));
            let listener = AsyncUnixListener::bind(&path).unwrap();
            let stream = AsyncUnixStream::connect(&path).await.unwrap();
            listener.accept().await.unwrap();
            let peer = stream.peer_addr().unwrap();
            assert_eq!(peer.as_pathname(), Some(path.as_path()));
            fs::remove_file(path).unwrap();
        }
    });
}

#[test]
fn a_path_stays_behind_and_is_in_use_until_it_is_removed() {
    go(async {
        let folder = Folder::new();
        let path = folder.at("stale");
        let kind = |outcome: io::Result<AsyncUnixStream>| outcome.map(drop).unwrap_err().kind();
        assert_eq!(
            kind(AsyncUnixStream::connect(&path).await),
            ErrorKind::NotFound
        );
        let listener = AsyncUnixListener::bind(&path).unwrap();
        assert!(fs::metadata(&path).unwrap().file_type().is_socket());
        let in_use = || AsyncUnixListener::bind(&path).map(drop).unwrap_err().kind();
        assert_eq!(in_use(), ErrorKind::AddrInUse);
        drop(listener);
        assert_eq!(in_use(), ErrorKind::AddrInUse);
        let refused = kind(AsyncUnixStream::connect(&path).await);
        assert_eq!(refused, ErrorKind::ConnectionRefused);
        fs::remove_file(&path).unwrap();
        let listener = AsyncUnixListener::bind(&path).unwrap();
        AsyncUnixStream::connect(&path).await.unwrap();
        listener.accept().await.unwrap();
    });
}

#[cfg(target_os = "linux")]
pub(crate) fn abstract_name(what: &str) -> std::os::unix::net::SocketAddr {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    let name = format!("fahrenheit test\0 {what} {}", std::process::id());
    SocketAddr::from_abstract_name(name).unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn an_abstract_name_is_bound_connected_to_and_free_again() {
    use std::os::linux::net::SocketAddrExt;
    go(async {
        let addr = abstract_name("stream");
        for _ in 0..2 {
            let listener = AsyncUnixListener::bind_addr(&addr).unwrap();
            let local = listener.local_addr().unwrap();
            assert_eq!(local.as_abstract_name(), addr.as_abstract_name());
            let error = AsyncUnixListener::bind_addr(&addr).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            let client = AsyncUnixStream::connect_addr(&addr).await.unwrap();
            let peer = client.peer_addr().unwrap();
            assert_eq!(peer.as_abstract_name(), addr.as_abstract_name());
            drop(fahrenheit::spawn(echo(listener.accept().await.unwrap().0)));
            talk(&client, 10).await;
        }
        let error = AsyncUnixStream::connect_addr(&addr).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn accept_tells_the_name_of_a_peer_that_has_one() {
    use nix::sys::socket::*;
    use std::os::fd::AsRawFd;
    go(async {
        let folder = Folder::new();
        let (server, client) = (folder.at("server"), folder.at("client"));
        let listener = AsyncUnixListener::bind(&server).unwrap();
        let (family, kind) = (AddressFamily::Unix, SockType::Stream);
        let socket = socket(family, kind, SockFlag::empty(), None).unwrap();
        let fd = socket.as_raw_fd();
        bind(fd, &UnixAddr::new(&client).unwrap()).unwrap();
        connect(fd, &UnixAddr::new(&server).unwrap()).unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        assert_eq!(peer.as_pathname(), Some(client.as_path()));
        let peer = stream.peer_addr().unwrap();
        assert_eq!(peer.as_pathname(), Some(client.as_path()));
    });
}

#[test]
fn both_ends_know_who_is_at_the_other() {
    go(async {
        let folder = Folder::new();
        let listener = AsyncUnixListener::bind(folder.at("socket")).unwrap();
        let client = AsyncUnixStream::connect(folder.at("socket")).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let (a, _b) = AsyncUnixStream::pair().unwrap();
        for end in [&client, &server, &a] {
            let peer = end.peer_cred().unwrap();
            assert_eq!(peer.uid(), nix::unistd::geteuid().as_raw());
            assert_eq!(peer.gid(), nix::unistd::getegid().as_raw());
            if cfg!(any(target_os = "linux", target_os = "macos")) {
                assert_eq!(peer.pid(), Some(std::process::id()));
            }
        }
    });
}

/// The group of the peer differs from its user, so that one cannot be taken for the other.
#[test]
#[cfg(target_os = "linux")]
fn the_group_of_a_peer_is_told_beside_its_user() {
    let name = test_name!();
    use nix::unistd::{Gid, Uid, getegid, geteuid};
    if !Uid::effective().is_root() && geteuid().as_raw() == getegid().as_raw() {
        return crate::util::skip(name, "only root can change its group");
    }
    crate::util::alone(name, || {
        if Uid::effective().is_root() {
            nix::unistd::setegid(Gid::from_raw(4_711)).unwrap();
        }
        go(async {
            let (a, _b) = AsyncUnixStream::pair().unwrap();
            let peer = a.peer_cred().unwrap();
            let own = (geteuid().as_raw(), getegid().as_raw());
            assert_ne!(own.0, own.1);
            assert_eq!((peer.uid(), peer.gid()), own);
        });
    });
}

/// Only Linux says "later"; the others refuse.
#[cfg(target_os = "linux")]
fn with_queue_of_one(path: &Path) -> AsyncUnixListener {
    use nix::sys::socket::{Backlog, listen};
    let listener = AsyncUnixListener::bind(path).unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    listener
}

#[cfg(target_os = "linux")]
#[test]
fn twenty_clients_of_a_queue_of_one_connect_once_accepting_begins() {
    go(async {
        let folder = Folder::new();
        let path = folder.at("socket");
        let listener = with_queue_of_one(&path);
        let clients: Vec<_> = (0..20)
            .map(|_| {
                let path = path.clone();
                fahrenheit::spawn(async move {
                    let stream = AsyncUnixStream::connect(path).await.unwrap();
                    talk(&stream, 3).await;
                })
            })
            .collect();
        let cost = crate::util::Cost::begin();
        sleep(Duration::from_millis(300)).await;
        cost.check("300 ms of 20 refused clients", Duration::from_millis(150));
        assert!(!clients.iter().any(|client| client.is_finished()));
        for _ in 0..20 {
            drop(fahrenheit::spawn(echo(listener.accept().await.unwrap().0)));
        }
        for client in clients {
            client.await.unwrap();
        }
    });
}

/// Documented: a full queue is tried again after 1 ms, doubling to 50 ms.
#[cfg(target_os = "linux")]
#[test]
fn a_full_queue_is_tried_again_at_least_every_50_ms() {
    go(async {
        let folder = Folder::new();
        let mut best = Duration::MAX;
        for n in 0..10 {
            let path = folder.at(&format!("socket {n}"));
            let listener = with_queue_of_one(&path);
            let clients: Vec<_> = (0..3)
                .map(|_| fahrenheit::spawn(AsyncUnixStream::connect(path.clone())))
                .collect();
            // If the delay went on doubling, the next attempt would be 170 ms later.
            sleep(Duration::from_millis(340)).await;
            assert!(!clients.iter().all(|client| client.is_finished()));
            let start = std::time::Instant::now();
            for _ in 0..3 {
                listener.accept().await.unwrap();
            }
            best = best.min(start.elapsed());
            if best < Duration::from_millis(110) {
                return;
            }
        }
        panic!("it takes {best:?}");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn waiting_for_room_in_a_queue_ends_with_the_callers_limit_or_with_the_listener() {
    go(async {
        let folder = Folder::new();
        let path = folder.at("socket");
        let listener = with_queue_of_one(&path);
        let mut queued = Vec::new();
        let limit = Duration::from_millis(100);
        while let Ok(stream) = timeout(limit, AsyncUnixStream::connect(&path)).await {
            queued.push(stream.unwrap());
            assert!(queued.len() < 10, "the queue never fills");
        }
        assert!(!queued.is_empty());
        let mut connect = std::pin::pin!(AsyncUnixStream::connect(&path));
        assert!(timeout(limit, &mut connect).await.is_err());
        drop(listener);
        let error = connect.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn signals_cut_no_connect_read_or_write_short() {
    let name = test_name!();
    let options = [
        "-e",
        "trace=connect,?recv,recvfrom,?send,sendto,sendmsg,recvmsg",
        "-e",
        "inject=connect:error=EINTR:when=1..2",
        "-e",
        "inject=?recv,recvfrom,?send,sendto,sendmsg,recvmsg:error=EINTR:when=1+3",
    ];
    let log = crate::util::traced(name, &options, || {
        go(async {
            let folder = Folder::new();
            let listener = AsyncUnixListener::bind(folder.at("socket")).unwrap();
            let client = AsyncUnixStream::connect(folder.at("socket")).await.unwrap();
            let (server, _) = listener.accept().await.unwrap();
            for _ in 0..4 {
                assert_eq!(client.send_fds(b"x", &[]).await.unwrap(), 1);
                let fds = [std::os::fd::AsFd::as_fd(&client)];
                assert_eq!(client.send_fds(b"y", &fds).await.unwrap(), 1);
                let mut bytes = [0; 2];
                while bytes[1] != b'y' {
                    let got = server.recv_fds(&mut bytes[1..], 1).await.unwrap();
                    assert_eq!(got.n_bytes, 1);
                }
            }
            drop(fahrenheit::spawn(echo(server)));
            talk(&client, 200).await;
        });
    });
    if let Some(log) = log {
        let n_cut = log.matches("EINTR").count();
        assert!(n_cut > 100, "{n_cut} calls were cut short");
    }
}

#[test]
fn halves_work_in_two_tasks_and_go_together_again() {
    go(async {
        let (a, b) = AsyncUnixStream::pair().unwrap();
        let echo = fahrenheit::spawn(echo(b));
        let (mut read, mut write) = a.into_split();
        let writer = fahrenheit::spawn(async move {
            write.write_all(b"to and fro").await.unwrap();
            write
        });
        let mut bytes = [0; 10];
        read.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"to and fro");
        let (c, _d) = AsyncUnixStream::pair().unwrap();
        let (_, other) = c.into_split();
        let refused = read.reunite(other).unwrap_err();
        let stream = refused.0.reunite(writer.await.unwrap()).unwrap();
        talk(&stream, 3).await;
        // Dropping the writing half ends what the peer reads.
        let (mut read, write) = stream.into_split();
        assert!(write.as_ref().peer_cred().is_ok());
        drop(write);
        assert_eq!(read.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(echo.await.unwrap().unwrap(), 22);
    });
}

#[test]
fn sockets_move_to_std_and_back() {
    go(async {
        let folder = Folder::new();
        let path = folder.at("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let listener = AsyncUnixListener::try_from(listener).unwrap();
        let listener = AsyncUnixListener::from_std(listener.into_std()).unwrap();
        assert!(format!("{listener:?}").contains("socket"));
        let client = AsyncUnixStream::try_from(UnixStream::connect(&path).unwrap()).unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let server = AsyncUnixStream::from_std(server.into_std()).unwrap();
        client.writable().await.unwrap();
        (&client).write_all(b"x").await.unwrap();
        server.readable().await.unwrap();
        assert_eq!((&server).read(&mut [0; 2]).await.unwrap(), 1);
        assert!(server.take_error().unwrap().is_none());
        client.shutdown(Shutdown::Both).unwrap();
        assert_eq!((&server).read(&mut [0; 2]).await.unwrap(), 0);
        let error = listener.into_std().accept().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    });
}
