//! Files: whole ones, streams, and directories.
//!
//! `select` says that a regular file is always ready, and then the disk takes its time. So
//! everything here runs on the blocking pool, see [`spawn_blocking`](crate::spawn_blocking): on
//! threads that are started when they are first needed.
//!
//! All functions take paths as those of [`std::fs`] do. Knows the pool, and neither the reactor nor
//! a task.
//!
//! # Errors
//! Those of the system, and one more: if there is no thread to be had, or
//! [`Builder::blocking_threads`](crate::Builder::blocking_threads) is 0, nothing has happened, and
//! the error says so.
//!
//! # Cancel safety
//! What is dropped before its thread has begun with it never happens; what has begun goes on to its
//! end.

mod dir;
mod file;
mod links;
mod options;

pub use dir::{DirEntry, ReadDir, read_dir};
pub use file::File;
pub use links::{hard_link, read_link, set_permissions, symlink, try_exists};
pub use options::OpenOptions;

use crate::blocking::{self, Kind};
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

/// Runs `job` on the pool.
async fn on_pool<T, F>(job: F) -> io::Result<T>
where
    F: FnOnce() -> io::Result<T> + Send + 'static,
    T: Send + 'static,
{
    blocking::submit(Kind::Work, job).await?
}

/// Returns the absolute path, without symbolic links and dots.
///
/// # Errors
/// If there is nothing at `path`, or a part of it is not a directory.
///
/// # Cancel safety
/// That of the [module](self).
pub async fn canonicalize(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::canonicalize(path)).await
}

/// Copies the contents and the permissions of a file; returns how many bytes that were.
///
/// What was at `to` is overwritten. The kernel copies by itself where it can, and memory stays flat
/// however long the file is.
///
/// # Errors
/// If `from` is no file or cannot be read, or `to` cannot be written.
///
/// # Cancel safety
/// That of the [module](self).
pub async fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<u64> {
    let from = from.as_ref().to_owned();
    let to = to.as_ref().to_owned();
    on_pool(move || std::fs::copy(from, to)).await
}

/// Makes a directory.
///
/// # Errors
/// If there is something at `path`, or its parent is not there.
///
/// # Cancel safety
/// That of the [module](self).
pub async fn create_dir(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::create_dir(path)).await
}

/// Makes a directory and all its parents, as far as they are not there.
///
/// # Errors
/// If one of them cannot be made. Those before it stay.
///
/// # Cancel safety
/// That of the [module](self).
pub async fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::create_dir_all(path)).await
}

/// Returns what the system knows about a file: its length, times, permissions. Follows symbolic
/// links.
///
/// # Errors
/// If there is nothing at `path`, or a directory on the way may not be searched.
///
/// # Cancel safety
/// That of the [module](self).
pub async fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::metadata(path)).await
}

/// Reads a whole file.
///
/// # Errors
/// If it cannot be opened or read.
///
/// # Cancel safety
/// That of the [module](self).
///
/// # Examples
/// ```
/// use fahrenheit::fs;
///
/// fahrenheit::run(async {
///     let path = std::env::temp_dir().join(format!("fahrenheit-{}", std::process::id()));
///     fs::write(&path, "some words").await?;
///     assert_eq!(fs::read(&path).await?, b"some words");
///     fs::remove_file(&path).await
/// })
/// # .unwrap();
/// ```
pub async fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::read(path)).await
}

/// Reads a whole file of text.
///
/// # Errors
/// If it cannot be opened or read, or is not UTF-8.
///
/// # Cancel safety
/// That of the [module](self).
pub async fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::read_to_string(path)).await
}

/// Removes an empty directory.
///
/// # Errors
/// If it is not there, not empty, or no directory.
///
/// # Cancel safety
/// That of the [module](self).
pub async fn remove_dir(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::remove_dir(path)).await
}

/// Removes a directory with all that is in it. Symbolic links are removed, and not followed.
///
/// # Errors
/// If something in it cannot be removed. What was removed before stays removed.
///
/// # Cancel safety
/// That of the [module](self).
pub async fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::remove_dir_all(path)).await
}

/// Removes a file.
///
/// # Errors
/// If it is not there, or is a directory.
///
/// # Cancel safety
/// That of the [module](self).
pub async fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::remove_file(path)).await
}

/// Gives a file or directory another name. What was at `to` is replaced, in one step.
///
/// # Errors
/// If `from` is not there, or `to` is in another file system.
///
/// # Cancel safety
/// That of the [module](self).
pub async fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let from = from.as_ref().to_owned();
    let to = to.as_ref().to_owned();
    on_pool(move || std::fs::rename(from, to)).await
}

/// [`metadata`], without following a symbolic link at the end of `path`.
///
/// # Errors
/// As [`metadata`].
///
/// # Cancel safety
/// That of the [module](self).
pub async fn symlink_metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::symlink_metadata(path)).await
}

/// Writes a whole file. What was there is overwritten; `contents` is copied.
///
/// # Errors
/// If it cannot be opened or written; a part may have been written then.
///
/// # Cancel safety
/// That of the [module](self).
pub async fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    let contents = contents.as_ref().to_vec();
    on_pool(move || std::fs::write(path, contents)).await
}
