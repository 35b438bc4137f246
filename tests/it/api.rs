//! Functions of the public interface that the tests of larger claims do not need: each is called,
//! and its result matters.

use crate::util::{record, within};
use fahrenheit::prelude::*;
use fahrenheit::task::{self, JoinError, JoinSet};
use fahrenheit::time::{interval, sleep, timeout};
use fahrenheit::{
    AsyncTcpListener, AsyncUdpSocket, Builder, CreateError, fs, run, spawn, spawn_blocking,
};
use futures_util::poll;
use futures_util::stream::FusedStream;
use std::error::Error;
use std::future::{pending, poll_fn};
use std::io::{self, ErrorKind, SeekFrom};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::task::Poll;
use std::time::Duration;

/// The message of a panic of `f`.
fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).map(drop).unwrap_err();
    crate::util::text(&*payload).to_owned()
}

#[test]
fn udp_is_polled_by_hand_for_sending_receiving_and_peeking() {
    within(20, || {
        run(async {
            let localhost = SocketAddr::from(([127, 0, 0, 1], 0));
            let (a, b) = (
                AsyncUdpSocket::bind(localhost).unwrap(),
                AsyncUdpSocket::bind(localhost).unwrap(),
            );
            let (from, to) = (a.local_addr().unwrap(), b.local_addr().unwrap());
            let mut bytes = [0; 8];
            let polled = poll_fn(|cx| Poll::Ready(b.poll_recv_from(cx, &mut bytes))).await;
            assert!(polled.is_pending());
            let sent = poll_fn(|cx| a.poll_send_to(cx, b"to", to)).await;
            assert_eq!(sent.unwrap(), 2);
            let peeked = poll_fn(|cx| b.poll_peek_from(cx, &mut bytes)).await;
            assert_eq!((peeked.unwrap(), &bytes[..2]), ((2, from), &b"to"[..]));
            bytes.fill(0);
            let received = poll_fn(|cx| b.poll_recv_from(cx, &mut bytes)).await;
            assert_eq!((received.unwrap(), &bytes[..2]), ((2, from), &b"to"[..]));
            let error = poll_fn(|cx| a.poll_send(cx, b"to whom?")).await;
            assert!(error.is_err(), "it has no peer");
            a.connect(to).await.unwrap();
            let sent = poll_fn(|cx| a.poll_send(cx, b"peer")).await;
            assert_eq!(sent.unwrap(), 4);
            let n = poll_fn(|cx| b.poll_recv(cx, &mut bytes)).await;
            assert_eq!((n.unwrap(), &bytes[..4]), (4, &b"peer"[..]));
        });
    });
}

#[test]
fn hosts_may_be_strings_that_are_owned_and_a_list_without_addresses_is_an_error() {
    within(20, || {
        run(async {
            let socket = AsyncUdpSocket::bind("localhost:0").unwrap();
            assert!(socket.local_addr().unwrap().ip().is_loopback());
            let host = (String::from("127.0.0.1"), 80);
            let mut addrs = fahrenheit::net::lookup_host(host).await.unwrap();
            assert_eq!(addrs.next(), Some(SocketAddr::from(([127, 0, 0, 1], 80))));
            let none = Vec::<SocketAddr>::new();
            let error = fahrenheit::net::lookup_host(none).await.map(drop);
            assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
        });
    });
}

#[test]
fn a_tcp_socket_keeps_its_linger_and_lends_its_descriptor() {
    let socket = fahrenheit::net::TcpSocket::new_v4().unwrap();
    assert_eq!(socket.linger().unwrap(), None);
    socket.set_linger(Some(Duration::from_secs(7))).unwrap();
    assert_eq!(socket.linger().unwrap(), Some(Duration::from_secs(7)));
    assert_eq!(socket.as_fd().as_raw_fd(), socket.as_raw_fd());
}

#[test]
fn incoming_connections_never_end() {
    let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
    assert!(!listener.incoming().is_terminated());
    assert_eq!(interval(Duration::MAX).size_hint(), (usize::MAX, None));
}

#[test]
fn pipes_of_a_child_lend_their_descriptors_and_go_back_to_std() {
    within(20, || {
        run(async {
            let mut child = Command::new("cat")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let stdin = child.stdin.take().unwrap();
            let stdout = child.stdout.take().unwrap();
            let number = stdout.as_raw_fd();
            let mut stdin = fahrenheit::process::AsyncChildStdin::from_std(stdin).unwrap();
            let stdout = fahrenheit::process::AsyncChildStdout::from_std(stdout).unwrap();
            assert_eq!(stdout.as_raw_fd(), number);
            assert_eq!(stdout.as_fd().as_raw_fd(), number);
            stdin.write_all(b"through").await.unwrap();
            // They block again, as those of std do.
            let (stdin, mut stdout) = (stdin.into_std().unwrap(), stdout.into_std().unwrap());
            drop(stdin);
            let mut text = String::new();
            io::Read::read_to_string(&mut stdout, &mut text).unwrap();
            assert_eq!(text, "through");
            child.wait().unwrap();
            let mut child = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
            let stdin = child.stdin.take().unwrap();
            let mut stdin = fahrenheit::process::AsyncChildStdin::from_std(stdin).unwrap();
            stdin.close().await.unwrap();
            assert_eq!(stdin.into_std().unwrap_err().kind(), ErrorKind::BrokenPipe);
            child.wait().unwrap();
        });
    });
}

#[test]
fn a_pipe_and_a_file_lend_their_descriptors() {
    let (reader, writer) = fahrenheit::io::pipe().unwrap();
    assert_ne!(reader.as_raw_fd(), writer.as_raw_fd());
    assert_eq!(reader.as_raw_fd(), reader.as_fd().as_raw_fd());
    let file = std::fs::File::open("/dev/null").unwrap();
    let number = file.as_raw_fd();
    let file = fs::File::from(file);
    assert_eq!(
        (file.as_raw_fd(), file.as_fd().as_raw_fd()),
        (number, number)
    );
}

#[test]
fn a_seek_beyond_all_numbers_is_invalid_input_and_the_file_stays_where_it_is() {
    within(20, || {
        run(async {
            let mut file = fs::File::open("Cargo.toml").await.unwrap();
            let mut bytes = [0; 4];
            // The second read reads ahead, so that the position of the system is further on.
            file.read_exact(&mut bytes).await.unwrap();
            file.read_exact(&mut bytes).await.unwrap();
            let error = file.seek(SeekFrom::Current(i64::MIN)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(file.stream_position().await.unwrap(), 8);
        });
    });
}

#[test]
fn a_change_of_length_takes_effect_although_its_future_and_the_file_are_dropped() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("length-{}", std::process::id()));
    within(20, || {
        // One thread at a time, so that what is asked for later comes later.
        let run = Builder::new().blocking_threads(2).run(async {
            for _ in 0..20 {
                std::fs::write(&path, "0123456789").unwrap();
                let mut file = fs::File::options().write(true).open(&path).await.unwrap();
                let mut change = Box::pin(file.set_len(3));
                let _ = poll!(&mut change);
                drop(change);
                drop(file);
                assert_eq!(fs::metadata(&path).await.unwrap().len(), 3);
            }
        });
        run.unwrap();
        std::fs::remove_file(&path).unwrap();
    });
}

#[test]
fn a_folder_that_cannot_be_read_on_because_there_are_no_threads_is_an_error() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("folder-{}", std::process::id()));
    within(20, || {
        std::fs::create_dir(&folder).unwrap();
        // More than are fetched at a time.
        for n in 0..200 {
            std::fs::write(folder.join(n.to_string()), "").unwrap();
        }
        let mut entries = run(fs::read_dir(&folder)).unwrap();
        let no_threads = Builder::new().blocking_threads(0);
        let outcome = no_threads.run(async {
            loop {
                if let Err(error) = entries.next().await.expect("there is more") {
                    break error;
                }
            }
        });
        assert_eq!(outcome.unwrap().kind(), ErrorKind::Unsupported);
        std::fs::remove_dir_all(&folder).unwrap();
    });
}

/// A descriptor whose `flush` is not done before it was asked twice.
struct Unflushed(std::os::unix::net::UnixStream, std::cell::Cell<bool>);

impl AsFd for Unflushed {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl io::Read for &Unflushed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(bytes)
    }
}

impl io::Write for &Unflushed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.1.replace(true) {
            true => Ok(()),
            false => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

#[test]
fn flushing_waits_for_a_value_that_says_that_it_would_block() {
    within(20, || {
        run(async {
            let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
            let value = Unflushed(near, std::cell::Cell::new(false));
            let mut fd = fahrenheit::AsyncFd::new(value).unwrap();
            assert!(poll!(fd.flush()).is_pending());
            fd.get_ref().1.set(false);
            fd.flush().await.unwrap();
            assert!(fd.get_ref().1.get());
        });
    });
}

#[test]
fn an_error_of_a_task_has_a_source_if_it_could_not_start_and_a_payload_if_it_panicked() {
    within(20, || {
        run(async {
            let cancelled = spawn(pending::<()>());
            cancelled.abort();
            let error = cancelled.await.unwrap_err();
            assert!(error.source().is_none());
            assert!(panic_of(|| error.into_panic()).contains("a task that did not panic"));
        });
        let no_threads = Builder::new().blocking_threads(0);
        let error = no_threads.run(async { spawn_blocking(|| ()).await.unwrap_err() });
        let error: JoinError = error.unwrap();
        let source = error.source().expect("the reason is known").to_string();
        assert!(source.contains("blocking_threads"), "{source}");
        // Errors of tasks go through `?` of functions that return `io::Error`.
        assert!(io::Error::from(error).to_string().contains(&source));
    });
}

#[test]
fn a_set_of_tasks_that_was_aborted_or_has_panicked_panics_when_all_are_joined() {
    within(20, || {
        let _ = record(|| {
            let text = panic_of(|| {
                run(async {
                    let mut set = JoinSet::<()>::default();
                    set.spawn(async { panic!("the payload of a task") });
                    set.join_all().await
                })
            });
            assert_eq!(text, "the payload of a task");
            let text = panic_of(|| {
                run(async {
                    let mut set = JoinSet::<()>::new();
                    set.spawn(pending());
                    assert!(format!("{set:?}").contains("len: 1"));
                    set.abort_all();
                    set.join_all().await
                })
            });
            assert!(text.contains("was cancelled"), "{text}");
        });
    });
}

#[test]
fn values_say_in_their_debug_output_what_they_are() {
    within(20, || {
        run(async {
            let handle = spawn(async {});
            let text = format!("{:?}", handle.abort_handle());
            assert!(text.contains(&handle.id().to_string()), "{text}");
            handle.await.unwrap();
            // A read that does not end before the other side does.
            let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
            let near = std::os::fd::OwnedFd::from(near);
            let mut file = fs::File::from(std::fs::File::from(near));
            let mut bytes = [0; 1];
            let mut read = pin!(file.read(&mut bytes));
            assert!(poll!(&mut read).is_pending());
            let text = format!("{read:?}");
            assert!(text.contains("Pending") && text.contains("File"), "{text}");
            drop(far);
            assert_eq!(read.await.unwrap(), 0);
            let signals = fahrenheit::signal::Signals::new([fahrenheit::signal::Signal::WINCH]);
            assert!(format!("{:?}", signals.unwrap()).contains("Signals"));
            let limited = timeout(Duration::ZERO, 7_u8.to_string().into_bytes().len().pipe());
            assert!(format!("{:?}", limited.get_ref()).contains('1'));
        });
    });
}

#[test]
fn handles_to_other_threads_and_shutdowns_say_what_they_wait_for() {
    within(20, || {
        let handle = task::Handle::current();
        assert!(format!("{handle:?}").contains("Handle"));
        run(async {
            let mut job = handle.spawn(async { 7 });
            assert!(format!("{job:?}").contains("is_finished: false"));
            assert_eq!((&mut job).await.unwrap(), 7);
            assert!(format!("{job:?}").contains("is_finished: true"));
            let again = spawn(job).await.unwrap_err();
            assert!(again.is_panic() && again.to_string().contains("polled again"));
            let shutdown = task::Shutdown::new();
            let guard = shutdown.guard();
            let text = format!("{shutdown:?} {guard:?} {:?}", shutdown.requested());
            assert!(text.contains("n_in_progress: 1") && text.contains("ShutdownGuard"));
            assert!(text.contains("is_requested: false") && text.contains("Requested"));
        });
    });
}

/// To wrap a number into a future that shows it.
trait Pipe: Sized {
    fn pipe(self) -> std::future::Ready<Self> {
        std::future::ready(self)
    }
}

impl Pipe for usize {}

#[test]
fn each_reason_for_which_a_loop_cannot_be_created_has_its_kind_and_text() {
    for (error, kind, words) in [
        (CreateError::SystemLimit, ErrorKind::Other, "ENFILE"),
        (CreateError::NoMemory, ErrorKind::OutOfMemory, "ENOMEM"),
        (CreateError::Invalid, ErrorKind::InvalidInput, "EINVAL"),
        (
            CreateError::Other(1),
            ErrorKind::PermissionDenied,
            "os error 1",
        ),
        (
            CreateError::ThreadEnded,
            ErrorKind::Other,
            "this thread is ending",
        ),
    ] {
        assert!(error.to_string().contains(words), "{error}");
        let is_known = kind != ErrorKind::Other;
        let converted = io::Error::from(error);
        assert!(!is_known || converted.kind() == kind, "{converted:?}");
        assert!(converted.to_string().contains(words));
    }
}

#[test]
fn registering_while_the_thread_ends_is_an_error_that_says_so() {
    struct Late(std::sync::mpsc::Sender<String>);
    impl Drop for Late {
        fn drop(&mut self) {
            let file = std::os::unix::net::UnixStream::pair().unwrap().0;
            let error = fahrenheit::AsyncFd::new(file).map(drop).unwrap_err();
            let _ = self.0.send(error.to_string());
        }
    }
    thread_local! { static LATE: std::cell::OnceCell<Late> = const { std::cell::OnceCell::new() }; }
    within(20, || {
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // Made before the loop, so it is dropped after it.
            LATE.with(|late| late.set(Late(send)).ok().unwrap());
            run(sleep(Duration::from_millis(1)));
        });
        let text = receive.recv().unwrap();
        assert!(text.contains("this thread is ending"), "{text}");
    });
}
