//! Reading, writing and seeking a [`File`] by the traits of futures-io.

use super::write_behind::Asker;
use super::{Done, File, Job, MAX_BUFFER};
use crate::event_loop::pool::lock;
use crate::sys::uninit::Uninit;
use futures_io::{AsyncRead, AsyncSeek, AsyncWrite};
use std::io::{self, SeekFrom};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

impl File {
    /// Polls for the next bytes of the file, at most `max_len`, which the caller takes all. There
    /// are none at the end of the file.
    fn poll_take(&mut self, cx: &mut Context<'_>, max_len: usize) -> Poll<io::Result<&[u8]>> {
        loop {
            match ready!(self.poll_job(cx)) {
                Done::Read(Ok(0)) if max_len > 0 => return Poll::Ready(Ok(&[])),
                Done::Read(Err(error)) => return Poll::Ready(Err(error)),
                _ => self.told(Asker::Other)?,
            }
            let n = (self.end - self.begin).min(max_len);
            if n > 0 || max_len == 0 {
                self.begin += n;
                return Poll::Ready(Ok(&self.bytes[self.begin - n..self.begin]));
            }
            self.start_read(max_len);
        }
    }

    /// Polls for a read into memory that need not be initialised, and returns the part of `buffer`
    /// that was filled: nothing at the end of the file. If it is pending, the task is woken once a
    /// thread of the pool has read.
    ///
    /// # Errors
    /// The error of `read(2)`, or of an earlier write that was acknowledged and has failed since.
    ///
    /// # Cancel safety
    /// Bytes are taken only by the poll that returns them.
    ///
    /// # Examples
    /// ```
    /// use std::{future::poll_fn, mem::MaybeUninit};
    ///
    /// fahrenheit::run(async {
    ///     let mut file = fahrenheit::fs::File::open("Cargo.toml").await?;
    ///     let mut buffer = [MaybeUninit::uninit(); 16];
    ///     let len = |bytes: &mut [u8]| bytes.len();
    ///     let n = poll_fn(|cx| file.poll_read_uninit(cx, &mut buffer).map_ok(len)).await?;
    ///     assert!(n > 0);
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn poll_read_uninit<'b>(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &'b mut [MaybeUninit<u8>],
    ) -> Poll<io::Result<&'b mut [u8]>> {
        let mut buffer = Uninit::new(buffer);
        buffer.fill(ready!(self.poll_take(cx, buffer.len()))?);
        Poll::Ready(Ok(buffer.into_filled()))
    }
}

impl AsyncRead for File {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let taken = ready!(self.get_mut().poll_take(cx, bytes.len()))?;
        bytes[..taken.len()].copy_from_slice(taken);
        Poll::Ready(Ok(taken.len()))
    }
}

#[cfg(feature = "tokio-io")]
impl tokio::io::AsyncRead for File {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let taken = ready!(self.get_mut().poll_take(cx, buffer.remaining()))?;
        buffer.put_slice(taken);
        Poll::Ready(Ok(()))
    }
}

#[cfg(feature = "tokio-io")]
crate::fd::impl_tokio_write!([], File);

impl AsyncWrite for File {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if matches!(&self.job, Some(Job::Write(job)) if !job.stayed_with_parent()) {
            // A write is under way: add to what it will write next, up to the limit.
            let mut output = lock(&self.output);
            let room = MAX_BUFFER.saturating_sub(output.bytes.len());
            if output.is_running && room > 0 {
                let n = bytes.len().min(room);
                output.bytes.extend_from_slice(&bytes[..n]);
                return Poll::Ready(Ok(n));
            }
        }
        ready!(self.poll_settled(cx, Asker::Other))?;
        let n = bytes.len().min(MAX_BUFFER);
        if n > 0 {
            self.start_write(&bytes[..n]);
        }
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_settled(cx, Asker::Flush)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_settled(cx, Asker::Close)
    }
}

impl AsyncSeek for File {
    fn poll_seek(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: SeekFrom,
    ) -> Poll<io::Result<u64>> {
        self.poll_seek_to(cx, to)
    }
}
