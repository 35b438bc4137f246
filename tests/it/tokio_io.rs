//! Feature `tokio-io`: reading and writing by the traits of tokio, on every kind of stream.

use crate::util::{again, is_alone};
use fahrenheit::process::AsyncCommand;
use fahrenheit::{AsyncFd, AsyncTcpListener, AsyncTcpStream, AsyncUnixStream, Local, fs, io, run};
use std::future::poll_fn;
use std::io::{IoSlice, Result};
use std::mem::MaybeUninit;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

async fn write_all(to: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let n = poll_fn(|cx| Pin::new(&mut *to).poll_write(cx, bytes)).await?;
        assert!(n > 0);
        bytes = &bytes[n..];
    }
    poll_fn(|cx| Pin::new(&mut *to).poll_flush(cx)).await
}

async fn shutdown(stream: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
    poll_fn(|cx| Pin::new(&mut *stream).poll_shutdown(cx)).await
}

/// Reads until the end, into memory that is not initialised. Checks that a read initialises only
/// what it fills, unless `clears`.
async fn read_all(from: &mut (impl AsyncRead + Unpin), clears: bool) -> Result<Vec<u8>> {
    let mut memory = vec![MaybeUninit::uninit(); 3_000];
    let mut all = Vec::new();
    loop {
        let mut buffer = ReadBuf::uninit(&mut memory);
        // Something that is in the buffer already stays there.
        buffer.put_slice(b"before");
        poll_fn(|cx| Pin::new(&mut *from).poll_read(cx, &mut buffer)).await?;
        if !clears {
            assert_eq!(buffer.initialized().len(), buffer.filled().len());
        }
        let read = buffer.filled().strip_prefix(b"before").unwrap();
        if read.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(read);
    }
}

/// Sends more than the kernel takes at once from `writer`, which is dropped then, to `reader`.
async fn exchange<R, W>(mut reader: R, mut writer: W, clears: bool)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + 'static,
{
    assert!(writer.is_write_vectored());
    let sent: Vec<u8> = (0..400_000_u32).map(|i| (i / 3) as u8).collect();
    let theirs = sent.clone();
    let writing = fahrenheit::spawn(async move {
        write_all(&mut writer, &theirs).await.unwrap();
        let slices = [
            IoSlice::new(b"the "),
            IoSlice::new(b""),
            IoSlice::new(b"end"),
        ];
        let n = poll_fn(|cx| Pin::new(&mut writer).poll_write_vectored(cx, &slices)).await;
        // A writer that does not gather writes the first slice.
        write_all(&mut writer, &b"the end"[n.unwrap()..])
            .await
            .unwrap();
        shutdown(&mut writer).await.unwrap();
    });
    let received = read_all(&mut reader, clears).await.unwrap();
    writing.await.unwrap();
    let (bytes, end) = received.split_at(sent.len());
    assert!(bytes == sent);
    assert_eq!(end, b"the end");
}

async fn tcp_pair() -> (AsyncTcpStream, AsyncTcpStream) {
    let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = AsyncTcpStream::connect(address).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

#[test]
fn sockets_and_their_halves_have_the_traits_of_tokio() {
    run(async {
        let (a, b) = tcp_pair().await;
        exchange(a, b, false).await;
        let (a, b) = AsyncUnixStream::pair().unwrap();
        exchange(&a, b, false).await;
        let ((a, b), (c, d)) = (tcp_pair().await, AsyncUnixStream::pair().unwrap());
        exchange(a.into_split().0, b.into_split().1, false).await;
        exchange(c.into_split().0, d.into_split().1, false).await;
        let (a, b) = tcp_pair().await;
        exchange(Local::new(a), Local::new(b), false).await;
    });
}

#[test]
fn pipes_descriptors_and_files_have_the_traits_of_tokio() {
    run(async {
        let (reader, writer) = io::pipe().unwrap();
        exchange(reader, writer, false).await;
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        let (a, b) = (AsyncFd::new(a).unwrap(), AsyncFd::new(b).unwrap());
        exchange(a, b, true).await;

        let path = std::env::temp_dir().join(format!("fahrenheit-tokio-io-{}", std::process::id()));
        let mut file = fs::File::create(&path).await.unwrap();
        write_all(&mut file, &[7; 100_000]).await.unwrap();
        shutdown(&mut file).await.unwrap();
        let mut file = fs::File::open(&path).await.unwrap();
        assert!(read_all(&mut file, false).await.unwrap() == [7; 100_000]);
        std::fs::remove_file(path).unwrap();
    });
}

#[test]
fn pipes_to_a_child_have_the_traits_of_tokio() {
    run(async {
        let mut command = AsyncCommand::new("cat");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        exchange(stdout, stdin, false).await;
        assert!(child.wait().await.unwrap().success());
    });
}

#[test]
fn shutting_down_ends_one_direction_and_leaves_the_other_open() {
    run(async {
        let (mut a, mut b) = tcp_pair().await;
        shutdown(&mut a).await.unwrap();
        assert_eq!(read_all(&mut b, false).await.unwrap(), b"");
        write_all(&mut b, b"still here").await.unwrap();
        drop(b);
        assert_eq!(read_all(&mut a, false).await.unwrap(), b"still here");
    });
}

#[test]
fn a_read_waits_without_touching_the_buffer_and_an_empty_one_is_ready() {
    run(async {
        let (mut a, mut b) = tcp_pair().await;
        let mut memory = [MaybeUninit::uninit(); 8];
        let mut buffer = ReadBuf::uninit(&mut memory);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(
            Pin::new(&mut a)
                .poll_read(&mut cx, &mut buffer)
                .is_pending()
        );
        assert_eq!((buffer.filled().len(), buffer.initialized().len()), (0, 0));
        let mut empty = ReadBuf::uninit(&mut []);
        assert!(Pin::new(&mut a).poll_read(&mut cx, &mut empty).is_ready());
        write_all(&mut b, b"more than eight").await.unwrap();
        poll_fn(|cx| Pin::new(&mut a).poll_read(cx, &mut buffer))
            .await
            .unwrap();
        assert_eq!(buffer.filled(), b"more tha");
    });
}

#[test]
fn tasks_that_write_in_one_call_gather_their_slices() {
    run(async {
        let (mut a, _b) = tcp_pair().await;
        let slices = [IoSlice::new(b"one"), IoSlice::new(b"two")];
        let n = poll_fn(|cx| Pin::new(&mut a).poll_write_vectored(cx, &slices)).await;
        assert_eq!(n.unwrap(), 6);
    });
}

#[test]
fn a_local_panics_in_the_traits_of_tokio_on_another_thread() {
    let (a, _b) = AsyncUnixStream::pair().unwrap();
    let mut local = Local::new(a);
    let local = &mut local;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let mut cx = Context::from_waker(Waker::noop());
            let mut calls = 0;
            let mut panics = |call: &mut dyn FnMut(Pin<&mut Local<AsyncUnixStream>>)| {
                calls += 1;
                let call = AssertUnwindSafe(|| call(Pin::new(&mut *local)));
                assert!(std::panic::catch_unwind(call).is_err(), "call {calls}");
            };
            panics(&mut |stream| {
                let _ = stream.poll_read(&mut cx, &mut ReadBuf::new(&mut [0]));
            });
            panics(&mut |stream| drop(stream.poll_write(&mut cx, b"x")));
            panics(&mut |stream| drop(stream.poll_write_vectored(&mut cx, &[])));
            panics(&mut |stream| drop(stream.poll_flush(&mut cx)));
            panics(&mut |stream| drop(stream.poll_shutdown(&mut cx)));
            panics(&mut |stream| assert!(stream.is_write_vectored()));
        });
        thread.join().unwrap();
    });
}

#[test]
fn the_standard_streams_have_the_traits_of_tokio() {
    let name = test_name!();
    run(async {
        if is_alone(name) {
            let bytes = read_all(&mut io::stdin().unwrap(), true).await.unwrap();
            return write_all(&mut io::stderr().unwrap(), &bytes).await.unwrap();
        }
        let mut command = AsyncCommand::from(again(name));
        let command = command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let (mut stdin, mut stderr) = (child.stdin.take().unwrap(), child.stderr.take().unwrap());
        write_all(&mut stdin, b"to whom it may concern")
            .await
            .unwrap();
        drop(stdin);
        let copied = read_all(&mut stderr, false).await.unwrap();
        assert_eq!(copied, b"to whom it may concern");
        assert!(child.wait().await.unwrap().success());
    });
}

#[cfg(feature = "sim")]
#[test]
fn simulated_streams_have_the_traits_of_tokio() {
    use fahrenheit::sim;
    fn must_be_stream(_: &(impl AsyncRead + AsyncWrite)) {}
    let main = async {
        let (mut one, mut other) = sim::link(sim::Options::new());
        must_be_stream(&one);
        let slices = [&b"one "[..], b"", b"two"].map(std::io::IoSlice::new);
        let write = |cx: &mut Context<'_>| Pin::new(&mut one).poll_write_vectored(cx, &slices);
        assert_eq!(std::future::poll_fn(write).await.unwrap(), 7);
        std::future::poll_fn(|cx| Pin::new(&mut one).poll_shutdown(cx))
            .await
            .unwrap();
        let mut bytes = [0; 16];
        let mut buffer = ReadBuf::new(&mut bytes);
        // Until the end, at which nothing is added.
        let mut last = usize::MAX;
        while last != buffer.filled().len() {
            last = buffer.filled().len();
            let mut read = |cx: &mut Context<'_>| Pin::new(&mut other).poll_read(cx, &mut buffer);
            std::future::poll_fn(&mut read).await.unwrap();
        }
        assert_eq!(buffer.filled(), b"one two");
    };
    fahrenheit::Builder::new()
        .virtual_clock(true)
        .run(main)
        .unwrap();
}
