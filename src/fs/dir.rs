//! [`read_dir`]: the entries of a directory as a stream.
//!
//! A job fetches many entries at once, because submitting a job costs more than reading an entry.
//!
//! **Invariant.** Either `rest` or `job` of a [`ReadDir`] holds the open directory until the last
//! entry was read, so an entry is neither lost nor returned twice if a future is dropped.

use super::on_pool;
use crate::blocking::{self, Kind, Pending};
use futures_util::stream::Stream;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{FileType, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Maximum number of entries that one job fetches.
const MAX_BATCH: usize = 64;

/// Returns the entries of a directory as a stream, in no particular order, without `.` and `..`.
///
/// # Errors
/// The error of `opendir(3)`: NotFound, NotADirectory or PermissionDenied. The stream itself
/// returns the errors of `readdir(3)`, which are rare.
///
/// # Cancel safety
/// Nothing is lost if the future is dropped.
///
/// # Examples
/// ```
/// use fahrenheit::{fs, prelude::*};
///
/// fahrenheit::run(async {
///     let mut entries = fs::read_dir("src").await?;
///     let mut found = false;
///     while let Some(entry) = entries.next().await {
///         found |= entry?.file_name() == "lib.rs";
///     }
///     assert!(found);
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
pub async fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    let path = path.as_ref().to_owned();
    let (entries, rest) = on_pool(move || Ok(batch(std::fs::read_dir(path)?))).await?;
    Ok(ReadDir {
        entries,
        rest,
        job: None,
    })
}

type Entries = VecDeque<io::Result<std::fs::DirEntry>>;
/// What one job returns: entries, and the open directory unless these were the last.
type Batch = (Entries, Option<std::fs::ReadDir>);

/// Reads the next entries. Runs on a thread of the pool.
fn batch(mut from: std::fs::ReadDir) -> Batch {
    let entries: Entries = from.by_ref().take(MAX_BATCH).collect();
    let rest = (entries.len() == MAX_BATCH).then_some(from);
    (entries, rest)
}

/// The entries of a directory, as a stream: see [`read_dir`].
///
/// # Cancel safety
/// No entry is lost if the future of `next` is dropped.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct ReadDir {
    /// Entries that were fetched and not returned yet.
    entries: Entries,
    /// The open directory, unless a job has it or all of it was read.
    rest: Option<std::fs::ReadDir>,
    /// The job that fetches the next entries.
    job: Option<Pending<Batch>>,
}

impl Stream for ReadDir {
    type Item = io::Result<DirEntry>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(entry) = self.entries.pop_front() {
                return Poll::Ready(Some(entry.map(|entry| DirEntry(Arc::new(entry)))));
            }
            // Kept in `self`, so that a later poll gets the result if this future is dropped.
            if let Some(rest) = self.rest.take() {
                self.job = Some(blocking::submit(Kind::Work, move || batch(rest)));
            }
            let Some(job) = &mut self.job else {
                return Poll::Ready(None);
            };
            let outcome = ready!(Pin::new(job).poll(cx));
            self.job = None;
            match outcome {
                Ok((entries, rest)) => (self.entries, self.rest) = (entries, rest),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }
}

/// One entry of a directory.
#[derive(Debug, Clone)]
pub struct DirEntry(Arc<std::fs::DirEntry>);

impl DirEntry {
    /// Returns the path that was given to [`read_dir`], joined with the name of the entry.
    pub fn path(&self) -> PathBuf {
        self.0.path()
    }

    /// Returns the name of the entry, without the directory.
    pub fn file_name(&self) -> OsString {
        self.0.file_name()
    }

    /// Returns whether the entry is a file, a directory, a symbolic link and so on. Links are not
    /// followed. On most file systems this needs no further system call.
    ///
    /// # Errors
    /// The error of `lstat(2)`: NotFound if the entry was removed in the meantime.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::{fs, prelude::*};
    ///
    /// fahrenheit::run(async {
    ///     let mut entries = fs::read_dir(".").await?;
    ///     while let Some(entry) = entries.next().await {
    ///         let entry = entry?;
    ///         if entry.file_type().await?.is_file() {
    ///             println!("{}: {} bytes", entry.path().display(), entry.metadata().await?.len());
    ///         }
    ///     }
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub async fn file_type(&self) -> io::Result<FileType> {
        let entry = Arc::clone(&self.0);
        on_pool(move || entry.file_type()).await
    }

    /// Returns the length, times, permissions and so on of the entry (`lstat(2)`). Does not follow
    /// the entry if it is a symbolic link.
    ///
    /// # Errors
    /// The error of `lstat(2)`: NotFound if the entry was removed in the meantime.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn metadata(&self) -> io::Result<Metadata> {
        let entry = Arc::clone(&self.0);
        on_pool(move || entry.metadata()).await
    }
}
