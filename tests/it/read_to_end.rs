//! Reading until the end: what is zeroed, what a dropped future leaves, and text.

use crate::util::within;
use fahrenheit::io::{pipe, read_to_end, read_to_string};
use fahrenheit::prelude::*;
use fahrenheit::run;
use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// Returns `len` times 1, in pieces of 1 KiB, and has its caller wait before each of them. Makes
/// the room that it leaves dirty, to count how many zeros it is given.
struct Pieces {
    len: usize,
    is_ready: bool,
    /// Number of calls.
    n_polls: usize,
    /// Number of bytes that a call has found zeroed.
    n_zeroed: usize,
    /// Length of the first room.
    first_room: usize,
}

impl Pieces {
    fn new(len: usize) -> Pieces {
        Pieces {
            len,
            is_ready: false,
            n_polls: 0,
            n_zeroed: 0,
            first_room: 0,
        }
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.n_polls == 0 {
            self.first_room = room.len();
        }
        self.n_polls += 1;
        self.n_zeroed += room.iter().filter(|&&byte| byte == 0).count();
        room.fill(2);
        self.is_ready = !self.is_ready;
        if self.is_ready {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let n = self.len.min(room.len()).min(1_024);
        room[..n].fill(1);
        self.len -= n;
        Poll::Ready(Ok(n))
    }
}

#[test]
fn read_to_end_zeroes_each_byte_of_room_once() {
    within(60, || {
        run(async {
            for len in [0, 1, 1 << 10, 1 << 16, 1 << 18] {
                let mut pieces = Pieces::new(len);
                let mut bytes = vec![3];
                assert_eq!(read_to_end(&mut pieces, &mut bytes).await.unwrap(), len);
                assert_eq!(bytes[0], 3);
                assert!(bytes.len() == len + 1 && bytes[1..].iter().all(|&byte| byte == 1));
                // Once while it waits and once while it reads, and a few calls are cut short by the
                // end of the room.
                let n_pieces = len.div_ceil(1_024) + 1;
                assert!(pieces.n_polls <= 2 * (n_pieces + 20), "{}", pieces.n_polls);
                assert!(pieces.n_zeroed <= 2 * len + 16_384, "{}", pieces.n_zeroed);
                assert!(bytes.capacity() <= 2 * len + 16_384, "{}", bytes.capacity());
            }
        });
    });
}

#[test]
fn a_large_capacity_is_not_zeroed_for_a_short_input() {
    within(20, || {
        run(async {
            let mut pieces = Pieces::new(10);
            let mut bytes = Vec::with_capacity(64 << 20);
            read_to_end(&mut pieces, &mut bytes).await.unwrap();
            assert_eq!(bytes, [1; 10]);
            assert!(pieces.first_room <= 16_384 && pieces.n_zeroed <= 16_384);
            let mut pieces = Pieces::new(10);
            let mut bytes = vec![3; 4 << 20];
            read_to_end(&mut pieces, &mut bytes).await.unwrap();
            assert_eq!(bytes.len(), (4 << 20) + 10);
            assert!(pieces.first_room <= 1 << 18 && pieces.n_zeroed <= 1 << 18);
        });
    });
}

#[test]
fn a_dropped_read_to_end_leaves_what_it_has_read_and_nothing_else() {
    within(20, || {
        run(async {
            let (mut reader, mut writer) = pipe().unwrap();
            let mut bytes = b"before ".to_vec();
            writer.write_all(b"one ").await.unwrap();
            {
                let mut reading = pin!(read_to_end(&mut reader, &mut bytes));
                let polled = std::future::poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx)));
                assert!(polled.await.is_pending());
            }
            assert_eq!(bytes, b"before one ");
            writer.write_all(b"two").await.unwrap();
            drop(writer);
            assert_eq!(read_to_end(&mut reader, &mut bytes).await.unwrap(), 3);
            assert_eq!(bytes, b"before one two");
        });
    });
}

/// Ends with an error after two bytes.
struct Failing(bool);

impl AsyncRead for Failing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        room[..2].copy_from_slice(b"ab");
        Poll::Ready(Ok(2))
    }
}

#[test]
fn an_error_ends_reading_and_keeps_the_bytes_before_it() {
    run(async {
        let mut bytes = Vec::new();
        let error = read_to_end(&mut Failing(false), &mut bytes).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(bytes, b"ab");
        let mut text = "x".to_owned();
        let error = read_to_string(&mut Failing(false), &mut text).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(text, "x");
    });
}

#[test]
fn read_to_string_appends_text_and_refuses_what_is_not_utf_8() {
    run(async {
        let mut text = String::new();
        let read = read_to_string(&mut "grün".as_bytes(), &mut text).await;
        assert_eq!((read.unwrap(), text.as_str()), (5, "grün"));
        let read = read_to_string(&mut " und blau".as_bytes(), &mut text).await;
        assert_eq!((read.unwrap(), text.as_str()), (9, "grün und blau"));
        let error = read_to_string(&mut &b"ok \xff"[..], &mut text).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(text, "grün und blau");
    });
}

/// Returns one byte at a time, without end and without waiting.
struct Endless;

impl AsyncRead for Endless {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        room[0] = 1;
        Poll::Ready(Ok(1))
    }
}

#[test]
fn a_reader_that_is_always_ready_leaves_other_tasks_their_turn() {
    within(60, || {
        fahrenheit::block_on(async {
            let endless = fahrenheit::spawn(async {
                let mut bytes = Vec::new();
                read_to_end(&mut Endless, &mut bytes).await
            });
            for _ in 0..3 {
                fahrenheit::yield_now().await;
            }
            endless.abort();
            assert!(endless.await.unwrap_err().is_cancelled());
        });
    });
}
