//! A file as a stream.

use super::on_pool;
use crate::blocking::{self, Kind, Pending};
use crate::event_loop::pool::lock;
use futures_io::{AsyncRead, AsyncSeek, AsyncWrite};
use std::fs::Metadata;
use std::future::poll_fn;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

/// At least so much is read at a time: a job costs more than a page.
const LEAST: usize = 64 * 1024;

/// At most so much is read at a time, and at most so much waits to be written.
const MOST: usize = 256 * 1024;

/// A file: [`AsyncRead`], [`AsyncWrite`] and [`AsyncSeek`], on the blocking pool.
///
/// Reading reads ahead, 64 KiB or more, so that many small reads cost little. Writing does not wait
/// for the disk: what is written meanwhile is collected, up to 256 KiB, and written next, in order.
/// So an error may come out of a later write, or of `flush` or `close`, which wait: **call one of
/// them at the end.** Dropping a file without it loses no data, as its thread goes on to the end,
/// but errors; and the process must not end before.
///
/// For FIFOs, terminals and devices, on which a read may take for ever, use
/// [`AsyncFd`](crate::AsyncFd).
///
/// # Cancel safety
/// What has been read and not been taken is kept for the next read. What a write has returned as
/// written will be. A seek may have happened.
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
    /// What has been read ahead: `begin..end` of it.
    bytes: Vec<u8>,
    begin: usize,
    end: usize,
    output: Arc<Mutex<Output>>,
    /// What the file is being used for; one thing at a time.
    job: Option<Job>,
}

/// What waits to be written.
#[derive(Debug, Default)]
struct Output {
    bytes: Vec<u8>,
    /// A job will look at the bytes again before it ends.
    running: bool,
}

#[derive(Debug)]
enum Job {
    Read(Pending<(Vec<u8>, io::Result<usize>)>),
    Write(Pending<io::Result<()>>),
    Seek(SeekFrom, Pending<io::Result<u64>>),
}

/// What the last job has done.
enum Done {
    Nothing,
    Read(io::Result<usize>),
    Write(io::Result<()>),
    Seek(SeekFrom, io::Result<u64>),
}

impl File {
    /// Opens a file to read from.
    ///
    /// # Errors
    /// If it is not there or may not be read.
    ///
    /// # Cancel safety
    /// That of the [module](super).
    pub async fn open(path: impl AsRef<Path>) -> io::Result<File> {
        File::options().read(true).open(path).await
    }

    /// Opens a file to write to. It is made if it is not there, and emptied if it is.
    ///
    /// # Errors
    /// If it cannot be made, or may not be written.
    ///
    /// # Cancel safety
    /// That of the [module](super): the file may have been made or emptied.
    pub async fn create(path: impl AsRef<Path>) -> io::Result<File> {
        let mut options = File::options();
        options.write(true).create(true).truncate(true);
        options.open(path).await
    }

    /// The ways to open a file.
    pub fn options() -> OpenOptions {
        OpenOptions(std::fs::OpenOptions::new())
    }

    /// A file that is open already, from where it stands.
    pub fn from_std(file: std::fs::File) -> File {
        File {
            file: Arc::new(file),
            bytes: Vec::new(),
            begin: 0,
            end: 0,
            output: Arc::default(),
            job: None,
        }
    }

    /// Waits for what is being written, and gives the file back, standing where this one stands.
    ///
    /// # Errors
    /// If the last write has failed, or the file cannot be moved back to before what was read
    /// ahead. It is closed then.
    ///
    /// # Cancel safety
    /// Dropping the future closes the file.
    pub async fn into_std(mut self) -> io::Result<std::fs::File> {
        self.settle_and_rewind().await?;
        let file = Arc::clone(&self.file);
        drop(self);
        // No job is under way, so nobody else has it.
        Arc::try_unwrap(file).map_err(|_| io::Error::other("the file is still in use"))
    }

    /// Has the system write all data and metadata to the disk, and waits for that.
    ///
    /// # Errors
    /// If an earlier write has failed, or this one.
    ///
    /// # Cancel safety
    /// That of the [module](super).
    pub async fn sync_all(&mut self) -> io::Result<()> {
        self.with_file(|file| file.sync_all()).await
    }

    /// [`sync_all`](File::sync_all) without metadata that is not needed to read the data.
    ///
    /// # Errors
    /// As [`sync_all`](File::sync_all).
    ///
    /// # Cancel safety
    /// That of the [module](super).
    pub async fn sync_data(&mut self) -> io::Result<()> {
        self.with_file(|file| file.sync_data()).await
    }

    /// Cuts the file off after `len` bytes, or fills it up with zeroes. Where it stands for the
    /// next read or write stays the same.
    ///
    /// # Errors
    /// If an earlier write has failed, or the file is not open to be written.
    ///
    /// # Cancel safety
    /// That of the [module](super).
    pub async fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.settle_and_rewind().await?;
        self.with_file(move |file| file.set_len(len)).await
    }

    /// What the system knows about the file, after everything that was written.
    ///
    /// # Errors
    /// If an earlier write has failed.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn metadata(&mut self) -> io::Result<Metadata> {
        self.with_file(|file| file.metadata()).await
    }

    /// Runs `job` after what is under way.
    async fn with_file<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&std::fs::File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        poll_fn(|cx| self.poll_settled(cx)).await?;
        let file = Arc::clone(&self.file);
        on_pool(move || job(&file)).await
    }

    /// Ends what is under way, and forgets what was read ahead.
    async fn settle_and_rewind(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_settled(cx)).await?;
        if self.begin < self.end {
            poll_fn(|cx| self.poll_seek_to(cx, SeekFrom::Current(0))).await?;
        }
        Ok(())
    }

    /// Waits for what is under way; an error is that of the last write.
    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match ready!(self.poll_job(cx)) {
            Done::Write(outcome) => outcome,
            // Whoever asked for it has gone; whoever comes finds the same.
            Done::Nothing | Done::Read(_) | Done::Seek(..) => Ok(()),
        })
    }

    /// Waits for what is under way, and enters its outcome.
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
                let outcome = ready!(Pin::new(job).poll(cx));
                Done::Write(outcome.unwrap_or_else(|error| {
                    // It has never begun, or is the parent's, who may have locked it.
                    self.output = Arc::default();
                    Err(error.into())
                }))
            }
            Some(Job::Seek(to, job)) => {
                let outcome = ready!(Pin::new(job).poll(cx));
                let outcome = outcome.unwrap_or_else(|error| Err(error.into()));
                if outcome.is_ok() {
                    (self.begin, self.end) = (0, 0);
                }
                Done::Seek(*to, outcome)
            }
        };
        self.job = None;
        Poll::Ready(done)
    }

    fn start_read(&mut self, len: usize) {
        let file = Arc::clone(&self.file);
        let mut bytes = mem::take(&mut self.bytes);
        bytes.resize(len.clamp(LEAST, MOST), 0);
        self.job = Some(Job::Read(blocking::submit(Kind::Work, move || {
            let n = crate::sys::retry_io(|| (&*file).read(&mut bytes));
            (bytes, n)
        })));
    }

    /// Has `bytes` written, after going back to before what was read ahead.
    fn start_write(&mut self, bytes: &[u8]) {
        let n_ahead = self.end - self.begin;
        (self.begin, self.end) = (0, 0);
        let mut output = lock(&self.output);
        output.bytes.extend_from_slice(bytes);
        output.running = true;
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
                Done::Write(Err(error)) => return Poll::Ready(Err(error)),
                _ => {}
            }
            let n_ahead = (self.end - self.begin) as i64;
            let exactly = match to {
                SeekFrom::Current(n) => n.checked_sub(n_ahead).map(SeekFrom::Current),
                other => Some(other),
            };
            let Some(exactly) = exactly else {
                return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
            };
            let file = Arc::clone(&self.file);
            let seek = move || (&*file).seek(exactly);
            self.job = Some(Job::Seek(to, blocking::submit(Kind::Work, seek)));
        }
    }
}

/// Moves `file` back by `n_ahead` bytes. What has no place to stand at is left alone.
fn rewind(file: &std::fs::File, n_ahead: usize) -> io::Result<()> {
    let mut file = file;
    if n_ahead == 0 {
        return Ok(());
    }
    match file.seek(SeekFrom::Current(-(n_ahead as i64))) {
        Err(error) if error.kind() == io::ErrorKind::NotSeekable => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// Writes what there is to write, and what comes meanwhile.
fn write_out(file: &std::fs::File, output: &Mutex<Output>) -> io::Result<()> {
    let (mut file, mut bytes) = (file, Vec::new());
    loop {
        bytes.clear();
        let mut waiting = lock(output);
        if waiting.bytes.is_empty() {
            waiting.running = false;
            return Ok(());
        }
        mem::swap(&mut waiting.bytes, &mut bytes);
        drop(waiting);
        file.write_all(&bytes)?;
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if let Some(Job::Write(job)) = self.job.take() {
            job.detach();
        }
    }
}

impl AsyncRead for File {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match ready!(self.poll_job(cx)) {
                Done::Read(Ok(0)) => return Poll::Ready(Ok(0)),
                Done::Read(Err(error)) | Done::Write(Err(error)) => {
                    return Poll::Ready(Err(error));
                }
                _ => {}
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
            let mut output = lock(&self.output);
            let room = MOST.saturating_sub(output.bytes.len());
            if output.running && room > 0 {
                let n = bytes.len().min(room);
                output.bytes.extend_from_slice(&bytes[..n]);
                return Poll::Ready(Ok(n));
            }
        }
        ready!(self.poll_settled(cx))?;
        let n = bytes.len().min(MOST);
        if n > 0 {
            self.start_write(&bytes[..n]);
        }
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_settled(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
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

/// The ways to open a file; see [`std::fs::OpenOptions`] for what goes together.
#[derive(Debug, Clone)]
pub struct OpenOptions(std::fs::OpenOptions);

macro_rules! options {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        impl OpenOptions {
            $(
                $(#[$doc])*
                pub fn $name(&mut self, $name: $type) -> &mut OpenOptions {
                    self.0.$name($name);
                    self
                }
            )*
        }
    };
}

options! {
    /// To read from.
    read: bool;
    /// To write to, over what is there.
    write: bool;
    /// To write to, always at the end, also if somebody else makes it longer meanwhile.
    append: bool;
    /// Empties it.
    truncate: bool;
    /// Makes it if it is not there.
    create: bool;
    /// Makes it, and fails if it is there.
    create_new: bool;
    /// The permissions of a new file, less those of the umask; 0o666 by default.
    mode: u32;
    /// More flags for `open(2)`.
    custom_flags: i32;
}

impl OpenOptions {
    /// Opens the file.
    ///
    /// # Errors
    /// That of the system; and `InvalidInput` for options that do not go together.
    ///
    /// # Cancel safety
    /// That of the [module](super): the file may have been made or emptied.
    pub async fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let (options, path) = (self.0.clone(), path.as_ref().to_owned());
        Ok(File::from_std(on_pool(move || options.open(path)).await?))
    }
}

impl From<std::fs::OpenOptions> for OpenOptions {
    fn from(options: std::fs::OpenOptions) -> OpenOptions {
        OpenOptions(options)
    }
}
