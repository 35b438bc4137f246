//! Reading, writing and seeking a [`File`] by the traits of futures-io.

use super::write_behind::Asker;
use super::{Done, File, Job, MAX_BUFFER};
use crate::event_loop::pool::lock;
use futures_io::{AsyncRead, AsyncSeek, AsyncWrite};
use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

impl AsyncRead for File {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match ready!(self.poll_job(cx)) {
                Done::Read(Ok(0)) if !bytes.is_empty() => return Poll::Ready(Ok(0)),
                Done::Read(Err(error)) => return Poll::Ready(Err(error)),
                _ => self.told(Asker::Other)?,
            }
            let ahead = &self.bytes[self.begin..self.end];
            if !ahead.is_empty() || bytes.is_empty() {
                let n = ahead.len().min(bytes.len());
                bytes[..n].copy_from_slice(&ahead[..n]);
                self.begin += n;
                return Poll::Ready(Ok(n));
            }
            self.start_read(bytes.len());
        }
    }
}

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
