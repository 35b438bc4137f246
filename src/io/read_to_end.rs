//! Reading until the end, in time proportional to the number of bytes.
//!
//! **Invariant.** Each byte of room is zeroed once, however often the reader makes us wait, and the
//! caller's vector holds only what was read when the future ends or is dropped.

use crate::event_loop::context;
use futures_io::AsyncRead;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

/// Minimum number of bytes that a read is given room for, unless less of the capacity is left.
const MIN_ROOM: usize = 8 * 1024;

/// Maximum number of bytes that a read is given room for: more than a socket or a pipe usually has.
const MAX_ROOM: usize = 256 * 1024;

/// Reads from `reader` until its end, and appends what was read to `bytes`. Returns the number of
/// bytes that were read.
///
/// Use this instead of [`AsyncReadExt::read_to_end`] for more than a few hundred kilobytes. Each
/// time that one has waited for its reader, it writes zeros to all the spare capacity of the vector
/// again, so that its time grows with the square of the length.
///
/// # Errors
/// The first error of `reader`. What was read before is in `bytes`.
///
/// # Panics
/// If `reader` reports that it has read more than there was room for.
///
/// # Cancel safety
/// If the future is dropped, what was read is in `bytes`. Calling this again continues.
///
/// # Examples
/// ```
/// use fahrenheit::io::{pipe, read_to_end};
/// use fahrenheit::prelude::*;
///
/// fahrenheit::run(async {
///     let (mut reader, mut writer) = pipe()?;
///     writer.write_all(b"hello").await?;
///     drop(writer);
///     let mut bytes = Vec::new();
///     assert_eq!(read_to_end(&mut reader, &mut bytes).await?, 5);
///     assert_eq!(bytes, b"hello");
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
///
/// [`AsyncReadExt::read_to_end`]: crate::prelude::AsyncReadExt::read_to_end
pub async fn read_to_end<R>(reader: &mut R, bytes: &mut Vec<u8>) -> io::Result<usize>
where
    R: AsyncRead + Unpin + ?Sized,
{
    let len_before = bytes.len();
    let mut filling = Filling {
        n_filled: len_before,
        bytes,
    };
    poll_fn(|cx| {
        loop {
            // Readers of other crates spend no budget and may always be ready: without this, one
            // of them would keep all other tasks from running.
            ready!(context::poll_budget(cx));
            context::spend_budget();
            let room = filling.room();
            let max_len = room.len();
            match ready!(Pin::new(&mut *reader).poll_read(cx, room))? {
                0 => return Poll::Ready(Ok(filling.n_filled - len_before)),
                n => {
                    assert!(n <= max_len, "the reader has read {n} bytes into {max_len}");
                    filling.n_filled += n;
                }
            }
        }
    })
    .await
}

/// Reads text from `reader` until its end, and appends it to `text`. Returns the number of bytes
/// that were read.
///
/// Use this instead of [`AsyncReadExt::read_to_string`] for long texts, for the reason that
/// [`read_to_end`] gives.
///
/// # Errors
/// The first error of `reader`, or [`InvalidData`](io::ErrorKind::InvalidData) if what was read is
/// not UTF-8. `text` is unchanged then, and what was read is lost.
///
/// # Panics
/// If `reader` reports that it has read more than there was room for.
///
/// # Cancel safety
/// If the future is dropped, `text` is unchanged, and what was read is lost.
///
/// [`AsyncReadExt::read_to_string`]: crate::prelude::AsyncReadExt::read_to_string
pub async fn read_to_string<R>(reader: &mut R, text: &mut String) -> io::Result<usize>
where
    R: AsyncRead + Unpin + ?Sized,
{
    let mut bytes = Vec::new();
    let n_read = read_to_end(reader, &mut bytes).await?;
    let read = String::from_utf8(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))?;
    match text.is_empty() {
        true => *text = read,
        false => text.push_str(&read),
    }
    Ok(n_read)
}

/// A vector that is longer than what was read into it, by the room for the next read.
struct Filling<'a> {
    bytes: &'a mut Vec<u8>,
    /// Length of the vector without that room.
    n_filled: usize,
}

impl Filling<'_> {
    /// Returns room for the next read: what the last one has left, or more if that was nothing.
    fn room(&mut self) -> &mut [u8] {
        if self.n_filled == self.bytes.len() {
            if self.bytes.len() == self.bytes.capacity() {
                // At least doubles the capacity, so that bytes are seldom copied.
                self.bytes.reserve(MIN_ROOM);
            }
            // Not all of the capacity: half may never be needed, and zeroing that much to find
            // out that the reader is at its end would cost more than reading did.
            let max_room = self.bytes.capacity() - self.n_filled;
            let room = self.n_filled.clamp(MIN_ROOM, MAX_ROOM).min(max_room);
            self.bytes.resize(self.n_filled + room, 0);
        }
        &mut self.bytes[self.n_filled..]
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        self.bytes.truncate(self.n_filled);
    }
}
