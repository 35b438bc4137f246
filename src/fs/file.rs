//! [`File`]: a file as a stream, on the blocking pool.
//!
//! **Invariants.** At most one job of a file runs at a time, and it is kept in `job` until its
//! outcome was entered, also if the future that started it was dropped. So operations take effect
//! in the order in which they were started, and a write that was acknowledged comes before
//! everything that is started later.

mod streams;
mod write_behind;

use crate::blocking::{self, Kind, Pending};
use crate::event_loop::pool::lock;
use std::fs::Metadata;
use std::future::poll_fn;
use std::io::{self, Read, Seek, SeekFrom};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use write_behind::{Asker, Failure, Output, rewind, write_out};

/// Minimum number of bytes that a read-ahead asks for. Submitting a job costs more than reading
/// sixteen pages.
const MIN_READ_AHEAD: usize = 64 * 1024;

/// Maximum number of bytes that one job reads, and that wait to be written.
const MAX_BUFFER: usize = 256 * 1024;

/// A file: [`AsyncRead`](futures_io::AsyncRead), [`AsyncWrite`](futures_io::AsyncWrite) and
/// [`AsyncSeek`](futures_io::AsyncSeek), on the blocking pool.
///
/// # Reading
/// The first read after opening or seeking reads what it was asked for. Later reads read ahead,
/// 64 KiB or more, so that many small reads cost little. The position of the underlying descriptor
/// is then further on than that of this value. That matters to those who share the descriptor's
/// position: duplicates made by `try_clone` and child processes. [`into_std`](File::into_std), a
/// write and a seek put it right.
///
/// # Writing
/// A write does not wait for the disk. It is acknowledged when the bytes are queued, up to 256 KiB,
/// and they are written in order. An error of that is returned by the next operation, and once
/// each by `flush` and `close`, which wait: **call one of them at the end.** If a file is dropped
/// without it, queued bytes are still written, as long as the process does not end before, but
/// errors are lost.
///
/// # FIFOs, terminals and devices
/// A read from these may block a thread of the pool for ever. Use [`AsyncFd`](crate::AsyncFd) for
/// them.
///
/// # Cancel safety
/// Every operation takes effect after those started before it, also if its future is dropped.
/// Bytes that were read for a dropped read are kept for the next one. Bytes of a dropped write were
/// not queued. A seek, `set_len` or a sync whose future was polled may take effect after it was
/// dropped.
///
/// # After `fork`
/// A job that runs during a fork stays with the parent. In the child, its operation returns an
/// error and the file can be used again; the position is shared with the parent.
///
/// # Examples
/// ```
/// use fahrenheit::{fs, prelude::*};
/// use std::io::SeekFrom;
///
/// fahrenheit::run(async {
///     let path = std::env::temp_dir().join(format!("fahrenheit-file-{}", std::process::id()));
///     let mut file = fs::File::options().read(true).write(true).create(true).open(&path).await?;
///     file.write_all(b"0123456789").await?;
///     file.seek(SeekFrom::Start(6)).await?;
///     let mut rest = String::new();
///     file.read_to_string(&mut rest).await?;
///     assert_eq!(rest, "6789");
///     fs::remove_file(&path).await
/// })
/// # .unwrap();
/// ```
#[derive(Debug)]
pub struct File {
    file: Arc<std::fs::File>,
    /// Bytes that were read and not taken yet are at `begin..end`.
    bytes: Vec<u8>,
    begin: usize,
    end: usize,
    /// Whether the last operation was a read, so that the next read may read ahead.
    is_sequential: bool,
    /// Bytes that wait to be written.
    output: Arc<Mutex<Output>>,
    /// The error of a write that was acknowledged, until everything that reports it has done so.
    failure: Option<Failure>,
    /// The job that runs, or whose outcome was not entered yet.
    job: Option<Job>,
}

#[derive(Debug)]
enum Job {
    Read(Pending<(Vec<u8>, io::Result<usize>)>),
    Write(Pending<io::Result<()>>),
    Seek(SeekFrom, Pending<io::Result<u64>>),
    /// Any other call, which leaves the position alone.
    Call(Pending<io::Result<Option<Metadata>>>),
}

/// The outcome of a job. Failed writes are in `File::failure`.
enum Done {
    Nothing,
    Read(io::Result<usize>),
    Write,
    Seek(SeekFrom, io::Result<u64>),
    Call(io::Result<Option<Metadata>>),
}

impl File {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// The error of `open(2)`: usually NotFound or PermissionDenied.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn open(path: impl AsRef<Path>) -> io::Result<File> {
        File::options().read(true).open(path).await
    }

    /// Opens a file for writing. Creates it if it does not exist, and empties it if it does.
    ///
    /// # Errors
    /// The error of `open(2)`: usually NotFound, if the directory does not exist, or
    /// PermissionDenied.
    ///
    /// # Cancel safety
    /// The file may have been created or emptied if the future is dropped.
    pub async fn create(path: impl AsRef<Path>) -> io::Result<File> {
        let mut options = File::options();
        options.write(true).create(true).truncate(true);
        options.open(path).await
    }

    /// Converts an open file. Its position stays where it is.
    pub fn from_std(file: std::fs::File) -> File {
        File {
            file: Arc::new(file),
            bytes: Vec::new(),
            begin: 0,
            end: 0,
            is_sequential: false,
            output: Arc::default(),
            failure: None,
            job: None,
        }
    }

    /// Waits for pending operations, and converts into a file of std at the same position.
    ///
    /// # Errors
    /// The error of an earlier write that no operation has returned yet, or of `lseek(2)` back to
    /// before the bytes that were read ahead. The file is closed then.
    ///
    /// # Cancel safety
    /// Dropping the future closes the file.
    pub async fn into_std(mut self) -> io::Result<std::fs::File> {
        self.settle_and_rewind().await?;
        let file = Arc::clone(&self.file);
        drop(self);
        // After a fork, a job that has stayed with the parent still counts as an owner.
        Arc::try_unwrap(file).or_else(|file| file.try_clone())
    }

    /// Waits until the system has written all data and metadata to the disk (`fsync(2)`).
    ///
    /// # Errors
    /// The error of an earlier write that no operation has returned yet, or of `fsync(2)`.
    ///
    /// # Cancel safety
    /// The call is made and completed even if the future is dropped after its first poll.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::{fs::File, prelude::*};
    ///
    /// fahrenheit::run(async {
    ///     let path = std::env::temp_dir().join(format!("fahrenheit-sync-{}", std::process::id()));
    ///     let mut file = File::create(&path).await?;
    ///     file.write_all(b"0123456789").await?;
    ///     file.sync_data().await?;
    ///     file.set_len(4).await?;
    ///     file.sync_all().await?;
    ///     assert_eq!(file.metadata().await?.len(), 4);
    ///     let file = file.into_std().await?;
    ///     drop(File::from_std(file));
    ///     std::fs::remove_file(&path)
    /// })
    /// # .unwrap();
    /// ```
    #[doc(alias = "fsync")]
    pub async fn sync_all(&mut self) -> io::Result<()> {
        self.call(|file| file.sync_all().map(|()| None)).await?;
        Ok(())
    }

    /// Waits until the system has written all data to the disk, and the metadata that is needed to
    /// read it (`fdatasync(2)`).
    ///
    /// # Errors
    /// The error of an earlier write that no operation has returned yet, or of `fdatasync(2)`.
    ///
    /// # Cancel safety
    /// The call is made and completed even if the future is dropped after its first poll.
    #[doc(alias = "fdatasync")]
    pub async fn sync_data(&mut self) -> io::Result<()> {
        self.call(|file| file.sync_data().map(|()| None)).await?;
        Ok(())
    }

    /// Cuts the file off after `len` bytes, or extends it with zeros (`ftruncate(2)`). The position
    /// does not change.
    ///
    /// # Errors
    /// The error of an earlier write that no operation has returned yet, or of `ftruncate(2)`:
    /// InvalidInput if the file is not open for writing.
    ///
    /// # Cancel safety
    /// The call is made and completed even if the future is dropped after its first poll.
    #[doc(alias = "ftruncate")]
    pub async fn set_len(&mut self, len: u64) -> io::Result<()> {
        // Bytes that were read ahead may be cut off.
        self.settle_and_rewind().await?;
        self.call(move |file| file.set_len(len).map(|()| None))
            .await?;
        Ok(())
    }

    /// Returns what the system knows about the file after all earlier operations (`fstat(2)`).
    ///
    /// # Errors
    /// The error of an earlier write that no operation has returned yet, or of `fstat(2)`.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    #[allow(clippy::missing_panics_doc, reason = "it cannot be absent")]
    pub async fn metadata(&mut self) -> io::Result<Metadata> {
        let metadata = self.call(|file| file.metadata().map(Some)).await?;
        // The call always returns metadata; without any, this is an error and no panic.
        metadata.ok_or_else(|| io::ErrorKind::Other.into())
    }

    /// Makes `call` after all earlier operations.
    async fn call(
        &mut self,
        call: impl FnOnce(&std::fs::File) -> io::Result<Option<Metadata>> + Send + 'static,
    ) -> io::Result<Option<Metadata>> {
        poll_fn(|cx| self.poll_settled(cx, Asker::Other)).await?;
        let file = Arc::clone(&self.file);
        let job = blocking::submit(Kind::Work, move || call(&file));
        // Kept here and not in this future, so that later operations wait for the job even if this
        // future is dropped.
        self.job = Some(Job::Call(job));
        match poll_fn(|cx| self.poll_job(cx)).await {
            Done::Call(outcome) => outcome,
            _ => unreachable!("this job was started above, and a file has one job at a time"),
        }
    }

    /// Waits for pending operations, and moves back to before what was read ahead.
    async fn settle_and_rewind(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_settled(cx, Asker::Other)).await?;
        if self.begin < self.end {
            poll_fn(|cx| self.poll_seek_to(cx, SeekFrom::Current(0))).await?;
        }
        Ok(())
    }

    /// Waits for the running job. Returns the error of an earlier write if `asker` must be told.
    fn poll_settled(&mut self, cx: &mut Context<'_>, asker: Asker) -> Poll<io::Result<()>> {
        // The outcome of another job is dropped: the future that wanted it was dropped as well.
        ready!(self.poll_job(cx));
        Poll::Ready(self.told(asker))
    }

    /// Returns the error of an earlier write if `asker` has to be told.
    fn told(&mut self, asker: Asker) -> io::Result<()> {
        let failure = self.failure.as_mut();
        match failure.and_then(|failure| failure.tell(asker)) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Waits for the job that runs, and enters its outcome.
    fn poll_job(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        let done = match &mut self.job {
            None => return Poll::Ready(Done::Nothing),
            Some(Job::Read(job)) => {
                let outcome = ready!(Pin::new(job).poll(cx));
                Done::Read(outcome.map_err(io::Error::from).and_then(|(bytes, n)| {
                    (self.bytes, self.begin) = (bytes, 0);
                    self.end = *n.as_ref().unwrap_or(&0);
                    n
                }))
            }
            Some(Job::Write(job)) => {
                let outcome = ready!(Pin::new(job).poll(cx)).unwrap_or_else(|error| {
                    // The job has never begun, or stayed with the parent of a fork, where it may
                    // hold the lock.
                    self.output = Arc::default();
                    Err(io::Error::from(error))
                });
                if let Err(error) = outcome {
                    self.failure = Some(Failure::new(&error));
                }
                Done::Write
            }
            Some(Job::Seek(to, job)) => {
                let outcome = ready!(Pin::new(job).poll(cx));
                let outcome = outcome.unwrap_or_else(|error| Err(io::Error::from(error)));
                if outcome.is_ok() {
                    (self.begin, self.end) = (0, 0);
                }
                Done::Seek(*to, outcome)
            }
            Some(Job::Call(job)) => {
                let outcome = ready!(Pin::new(job).poll(cx));
                Done::Call(outcome.unwrap_or_else(|error| Err(io::Error::from(error))))
            }
        };
        self.job = None;
        Poll::Ready(done)
    }

    /// Reads into the empty buffer, ahead if the last operation was a read as well.
    fn start_read(&mut self, len: usize) {
        let file = Arc::clone(&self.file);
        let min = match mem::replace(&mut self.is_sequential, true) {
            true => MIN_READ_AHEAD,
            false => 1,
        };
        // The buffer moves to the job, so nothing is in it until the job brings it back.
        (self.begin, self.end) = (0, 0);
        let mut bytes = mem::take(&mut self.bytes);
        bytes.resize(len.clamp(min, MAX_BUFFER), 0);
        self.job = Some(Job::Read(blocking::submit(Kind::Work, move || {
            let n = crate::sys::retry_io(|| (&*file).read(&mut bytes));
            (bytes, n)
        })));
    }

    /// Writes `bytes`, after moving back to before what was read ahead.
    fn start_write(&mut self, bytes: &[u8]) {
        let n_ahead = self.end - self.begin;
        (self.begin, self.end) = (0, 0);
        self.is_sequential = false;
        let mut output = lock(&self.output);
        output.bytes.extend_from_slice(bytes);
        output.is_running = true;
        drop(output);
        let (file, output) = (Arc::clone(&self.file), Arc::clone(&self.output));
        self.job = Some(Job::Write(blocking::submit(Kind::Work, move || {
            let outcome = rewind(&file, n_ahead).and_then(|()| write_out(&file, &output));
            if outcome.is_err() {
                *lock(&output) = Output::default();
            }
            outcome
        })));
    }

    fn poll_seek_to(&mut self, cx: &mut Context<'_>, to: SeekFrom) -> Poll<io::Result<u64>> {
        loop {
            match ready!(self.poll_job(cx)) {
                Done::Seek(done, outcome) if done == to => return Poll::Ready(outcome),
                _ => self.told(Asker::Other)?,
            }
            let n_ahead = (self.end - self.begin) as i64;
            let exactly = match to {
                SeekFrom::Current(n) => n.checked_sub(n_ahead).map(SeekFrom::Current),
                other => Some(other),
            };
            let Some(exactly) = exactly else {
                return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
            };
            self.is_sequential = false;
            let file = Arc::clone(&self.file);
            let seek = move || (&*file).seek(exactly);
            self.job = Some(Job::Seek(to, blocking::submit(Kind::Work, seek)));
        }
    }
}

impl Drop for File {
    /// Lets a job that was submitted run even if no thread has begun with it.
    fn drop(&mut self) {
        match self.job.take() {
            Some(Job::Write(job)) => job.detach(),
            Some(Job::Call(job)) => job.detach(),
            // Whether a read or a seek happens makes no difference any more.
            Some(Job::Read(_) | Job::Seek(..)) | None => {}
        }
    }
}

impl From<std::fs::File> for File {
    fn from(file: std::fs::File) -> File {
        File::from_std(file)
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
