//! Errors of the two streams of `copy_bidirectional`.

use fahrenheit::io::copy_bidirectional;
use fahrenheit::prelude::*;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What a stream can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Read,
    Write,
    Flush,
    Close,
}

/// A stream of which one call fails. Of the other calls, reading finds nothing.
struct Failing(Call);

impl Failing {
    fn outcome<T>(&self, call: Call, otherwise: Poll<T>) -> Poll<io::Result<T>> {
        match self.0 == call {
            true => Poll::Ready(Err(io::Error::other(format!("{call:?} has failed")))),
            false => otherwise.map(Ok),
        }
    }
}

impl AsyncRead for Failing {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.outcome(Call::Read, Poll::Pending)
    }
}

impl AsyncWrite for Failing {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, b: &[u8]) -> Poll<io::Result<usize>> {
        self.outcome(Call::Write, Poll::Ready(b.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outcome(Call::Flush, Poll::Ready(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outcome(Call::Close, Poll::Ready(()))
    }
}

/// A stream that has one byte to read. After it, the stream ends or has nothing for now.
struct OneByte {
    is_read: bool,
    ends: bool,
}

impl AsyncRead for OneByte {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if !std::mem::replace(&mut self.is_read, true) {
            bytes[0] = b'x';
            return Poll::Ready(Ok(1));
        }
        match self.ends {
            true => Poll::Ready(Ok(0)),
            false => Poll::Pending,
        }
    }
}

impl AsyncWrite for OneByte {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, b: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(b.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A stream that notes the size of the buffer that it is asked to read into, and then ends.
struct Offered(usize);

impl AsyncRead for Offered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.0 = self.0.max(bytes.len());
        Poll::Ready(Ok(0))
    }
}

impl AsyncWrite for Offered {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, b: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(b.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn copy_bidirectional_holds_16_kib_in_each_direction() {
    let (mut a, mut b) = (Offered(0), Offered(0));
    let outcome = copy_bidirectional(&mut a, &mut b).now_or_never().unwrap();
    assert_eq!(outcome.unwrap(), (0, 0));
    assert_eq!((a.0, b.0), (16 * 1024, 16 * 1024));
}

#[test]
fn copy_bidirectional_returns_the_error_of_each_call_on_each_side() {
    for call in [Call::Read, Call::Write, Call::Flush, Call::Close] {
        for is_first in [true, false] {
            let mut failing = Failing(call);
            let mut good = OneByte {
                is_read: false,
                ends: call == Call::Close,
            };
            let outcome = match is_first {
                true => copy_bidirectional(&mut failing, &mut good).now_or_never(),
                false => copy_bidirectional(&mut good, &mut failing).now_or_never(),
            };
            let error = outcome.expect("it goes on after the error").unwrap_err();
            assert_eq!(error.to_string(), format!("{call:?} has failed"));
        }
    }
}
