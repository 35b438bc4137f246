//! Reading directories.

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

/// So many entries are fetched by one job.
const BATCH: usize = 64;

/// Returns the entries of a directory as a stream, in no particular order, without `.` and `..`.
///
/// # Errors
/// If it is not there, is no directory, or may not be read.
///
/// # Cancel safety
/// That of the [module](super).
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
/// What one job returns: some entries, and where the others come from unless these were the last.
type Batch = (Entries, Option<std::fs::ReadDir>);

fn batch(mut from: std::fs::ReadDir) -> Batch {
    let entries: Entries = from.by_ref().take(BATCH).collect();
    let rest = (entries.len() == BATCH).then_some(from);
    (entries, rest)
}

/// The entries of a directory: a stream, made by [`read_dir`].
///
/// # Cancel safety
/// No entry is lost by dropping the future of `next`.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct ReadDir {
    entries: Entries,
    rest: Option<std::fs::ReadDir>,
    job: Option<Pending<Batch>>,
}

impl Stream for ReadDir {
    type Item = io::Result<DirEntry>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(entry) = self.entries.pop_front() {
                return Poll::Ready(Some(entry.map(|entry| DirEntry(Arc::new(entry)))));
            }
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
    /// The path of the directory, as it was given to [`read_dir`], and the name.
    pub fn path(&self) -> PathBuf {
        self.0.path()
    }

    /// The name alone.
    pub fn file_name(&self) -> OsString {
        self.0.file_name()
    }

    /// What it is: a file, a directory, a symbolic link. Links are not followed. Most file systems
    /// need not be asked for it again.
    ///
    /// # Errors
    /// If it has gone meanwhile.
    ///
    /// # Cancel safety
    /// That of the [module](super).
    pub async fn file_type(&self) -> io::Result<FileType> {
        let entry = Arc::clone(&self.0);
        on_pool(move || entry.file_type()).await
    }

    /// As [`symlink_metadata`](super::symlink_metadata).
    ///
    /// # Errors
    /// If it has gone meanwhile.
    ///
    /// # Cancel safety
    /// That of the [module](super).
    pub async fn metadata(&self) -> io::Result<Metadata> {
        let entry = Arc::clone(&self.0);
        on_pool(move || entry.metadata()).await
    }
}
