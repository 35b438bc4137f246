//! `Io`, `Executor` and `Timer`, each by itself.

use crate::N_ALLOCATIONS;
use crate::util::LIMIT;
use fahrenheit::hyper::{Executor, Io, Timer};
use fahrenheit::time::timeout;
use fahrenheit::{AsyncUnixStream, Local, prelude::*, run};
use hyper::rt::{Executor as _, Read, ReadBuf, Timer as _, Write};
use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// A stream of another crate: one of ours that is not known by its type.
struct Foreign(AsyncUnixStream);

impl AsyncRead for Foreign {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, bytes)
    }
}

impl AsyncWrite for Foreign {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_close(cx)
    }
}

/// Sends and receives through `io`, whose peer is `peer`. Returns what a read of five bytes has
/// left of a buffer of eight.
async fn exchange<I: Read + Write + Unpin>(mut io: I, mut peer: AsyncUnixStream) -> [u8; 3] {
    let mut memory = [b'?'; 8];
    let mut buffer = ReadBuf::new(&mut memory);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(
        Pin::new(&mut io)
            .poll_read(&mut cx, buffer.unfilled())
            .is_pending()
    );
    peer.write_all(b"hello").await.unwrap();
    poll_fn(|cx| Pin::new(&mut io).poll_read(cx, buffer.unfilled()))
        .await
        .unwrap();
    assert_eq!(buffer.filled(), b"hello");

    let slices = [IoSlice::new(b"one "), IoSlice::new(b"two ")];
    let n = poll_fn(|cx| Pin::new(&mut io).poll_write_vectored(cx, &slices))
        .await
        .unwrap();
    assert_eq!(n, if io.is_write_vectored() { 8 } else { 4 });
    let n = poll_fn(|cx| Pin::new(&mut io).poll_write(cx, b"three"))
        .await
        .unwrap();
    assert_eq!(n, 5);
    poll_fn(|cx| Pin::new(&mut io).poll_flush(cx))
        .await
        .unwrap();
    poll_fn(|cx| Pin::new(&mut io).poll_shutdown(cx))
        .await
        .unwrap();
    let mut text = String::new();
    peer.read_to_string(&mut text).await.unwrap();
    assert!(
        ["one two three", "one three"].contains(&text.as_str()),
        "{text}"
    );
    [memory[5], memory[6], memory[7]]
}

#[test]
fn our_streams_are_read_without_clearing_the_buffer_and_others_as_they_demand() {
    run(async {
        let (a, b) = AsyncUnixStream::pair().unwrap();
        assert_eq!(exchange(Io::new(a), b).await, *b"???");
        let (a, b) = AsyncUnixStream::pair().unwrap();
        assert_eq!(exchange(Local::new(Io::new(a)), b).await, *b"???");
        let (a, b) = AsyncUnixStream::pair().unwrap();
        let io = Io::new(Foreign(a));
        assert!(!io.is_write_vectored());
        assert_eq!(exchange(io, b).await, [0; 3]);
    });
}

#[test]
fn the_executor_takes_futures_that_are_not_send_and_ignores_their_output() {
    let done = Rc::new(Cell::new(false));
    let theirs = Rc::clone(&done);
    run(async move {
        Executor::new().execute(async move {
            theirs.set(true);
            5
        });
        assert!(!done.get(), "it is not polled in place");
        fahrenheit::yield_now().await;
        assert!(done.get());
    });
}

#[test]
fn a_sleep_takes_one_allocation_and_its_reset_none() {
    run(async {
        let ms = Duration::from_millis;
        let timer = Timer::new();
        // The tables of the loop get their memory.
        timer.sleep(ms(1)).await;
        let (start, before) = (timer.now(), N_ALLOCATIONS.get());
        let mut sleep = timer.sleep(Duration::from_secs(3_600));
        poll_fn(|cx| {
            assert!(sleep.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        timer.reset(&mut sleep, start + ms(5));
        sleep.as_mut().await;
        assert_eq!(N_ALLOCATIONS.get() - before, 1);
        assert!(timer.now() - start >= ms(5));
        assert!(Instant::now() - timer.now() < LIMIT);
        // One that is over can be used again, and another timer's is replaced.
        timer.reset(&mut sleep, timer.now() + ms(1));
        sleep.as_mut().await;
        let mut other: Pin<Box<dyn hyper::rt::Sleep>> = Box::pin(Never);
        timer.reset(&mut other, timer.now());
        timeout(LIMIT, other).await.unwrap();
    });
}

/// The sleep of another runtime.
struct Never;

impl hyper::rt::Sleep for Never {}

impl Future for Never {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

#[test]
fn a_sleep_panics_on_another_thread_and_may_be_dropped_there() {
    run(async {
        let timer = Timer::new();
        let mut sleep = timer.sleep(Duration::from_millis(20));
        poll_fn(|cx| {
            let _ = sleep.as_mut().poll(cx);
            Poll::Ready(())
        })
        .await;
        let thread = std::thread::spawn(move || {
            let mut cx = Context::from_waker(Waker::noop());
            let poll = AssertUnwindSafe(|| sleep.as_mut().poll(&mut cx).is_ready());
            assert!(catch_unwind(poll).is_err());
            // It becomes a sleep of this thread.
            Timer::new().reset(&mut sleep, Instant::now());
            assert!(sleep.as_mut().poll(&mut cx).is_ready());
        });
        thread.join().unwrap();
        timer.sleep(Duration::from_millis(30)).await;
    });
}

#[test]
fn a_local_panics_in_the_traits_of_hyper_on_another_thread() {
    let (a, _b) = AsyncUnixStream::pair().unwrap();
    let mut local = Local::new(Io::new(a));
    assert!(local.is_write_vectored());
    let local = &mut local;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let mut cx = Context::from_waker(Waker::noop());
            let mut calls = 0;
            type Stream = Local<Io<AsyncUnixStream>>;
            let mut panics = |call: &mut dyn FnMut(Pin<&mut Stream>)| {
                calls += 1;
                let call = std::panic::AssertUnwindSafe(|| call(Pin::new(&mut *local)));
                assert!(std::panic::catch_unwind(call).is_err(), "call {calls}");
            };
            panics(&mut |stream| {
                let mut bytes = [0];
                let mut buffer = ReadBuf::new(&mut bytes);
                let _ = Read::poll_read(stream, &mut cx, buffer.unfilled());
            });
            panics(&mut |stream| drop(Write::poll_write(stream, &mut cx, b"x")));
            panics(&mut |stream| drop(Write::poll_write_vectored(stream, &mut cx, &[])));
            panics(&mut |stream| drop(Write::poll_flush(stream, &mut cx)));
            panics(&mut |stream| drop(Write::poll_shutdown(stream, &mut cx)));
            panics(&mut |stream| assert!(stream.is_write_vectored()));
        });
        thread.join().unwrap();
    });
}
