//! Files: whole files, files as streams, and directories.
//!
//! `select` reports a regular file as always ready, and a read then blocks for as long as the disk
//! takes. So every system call of this module runs on a thread of the blocking pool, which is
//! started when it is first needed: see [`spawn_blocking`](crate::spawn_blocking).
//!
//! All functions take paths as those of [`std::fs`] do. This module knows the pool, and neither the
//! reactor nor a task.
//!
//! # Errors
//! In addition to the errors that each function names, each returns an error if no thread can be
//! started, or if [`Builder::blocking_threads`](crate::Builder::blocking_threads) is 0. Nothing was
//! done then.
//!
//! # Cancel safety
//! A call whose future is dropped before a thread has begun with it is not made. A call that has
//! begun is completed, and its result is dropped.

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

/// Runs `job` on a thread of the pool, and returns its result.
async fn on_pool<T, F>(job: F) -> io::Result<T>
where
    F: FnOnce() -> io::Result<T> + Send + 'static,
    T: Send + 'static,
{
    blocking::submit(Kind::Work, job).await?
}

/// Returns the absolute path, without symbolic links, `.` and `..` (`realpath(3)`).
///
/// # Errors
/// The error of `realpath(3)`: NotFound if `path` or a directory on the way does not exist,
/// NotADirectory if a part of it is not a directory, and ELOOP for links that lead in a circle.
///
/// # Cancel safety
/// Nothing is lost if the future is dropped.
pub async fn canonicalize(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::canonicalize(path)).await
}

/// Copies the contents and the permissions of a file, and returns the number of bytes copied.
///
/// A file at `to` is overwritten. Where the system can, it copies without passing the contents
/// through this process. The memory needed does not depend on the length.
///
/// # Errors
/// InvalidInput if `from` is not a regular file. Otherwise the error of `open(2)`, `read(2)` or
/// `write(2)`: usually NotFound, PermissionDenied or StorageFull. A part may have been copied then.
///
/// # Cancel safety
/// If the future is dropped, the copy may still be made. `to` may be incomplete until then.
pub async fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<u64> {
    let from = from.as_ref().to_owned();
    let to = to.as_ref().to_owned();
    on_pool(move || std::fs::copy(from, to)).await
}

/// Creates a directory (`mkdir(2)`).
///
/// # Errors
/// The error of `mkdir(2)`: AlreadyExists if there is anything at `path`, NotFound if its parent
/// does not exist, PermissionDenied if its parent may not be written.
///
/// # Cancel safety
/// The directory may be created even if the future is dropped.
///
/// # Examples
/// ```
/// use fahrenheit::fs;
///
/// fahrenheit::run(async {
///     let dir = std::env::temp_dir().join(format!("fahrenheit-dir-{}", std::process::id()));
///     fs::create_dir(&dir).await?;
///     fs::create_dir_all(dir.join("a/b")).await?;
///     fs::write(dir.join("old"), "words").await?;
///     fs::rename(dir.join("old"), dir.join("new")).await?;
///     fs::copy(dir.join("new"), dir.join("copy")).await?;
///     assert_eq!(fs::metadata(dir.join("copy")).await?.len(), 5);
///     assert_eq!(fs::symlink_metadata(dir.join("copy")).await?.len(), 5);
///     assert!(fs::canonicalize(dir.join("a/..")).await?.is_absolute());
///     fs::remove_dir(dir.join("a/b")).await?;
///     fs::remove_dir_all(&dir).await
/// })
/// # .unwrap();
/// ```
pub async fn create_dir(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::create_dir(path)).await
}

/// Creates a directory and those of its parents that do not exist. It is no error if the directory
/// exists.
///
/// # Errors
/// The error of `mkdir(2)` for the first directory that cannot be created: usually
/// PermissionDenied, or NotADirectory if a part of the path is a file. The parents created before
/// it stay.
///
/// # Cancel safety
/// The directories may be created even if the future is dropped.
pub async fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::create_dir_all(path)).await
}

/// Returns the length, times, permissions and so on of a file (`stat(2)`). Follows symbolic links.
///
/// # Errors
/// The error of `stat(2)`: NotFound if `path` or the target of a link does not exist,
/// PermissionDenied if a directory on the way may not be searched.
///
/// # Cancel safety
/// Nothing is lost if the future is dropped.
pub async fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::metadata(path)).await
}

/// Reads a whole file.
///
/// # Errors
/// The error of `open(2)` or `read(2)`: usually NotFound or PermissionDenied, and IsADirectory for
/// a directory.
///
/// # Cancel safety
/// Nothing is lost if the future is dropped, because the next call begins at the start of the file.
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
/// InvalidData if the file is not UTF-8. Otherwise the error of `open(2)` or of `read(2)`,
/// which is usually NotFound or PermissionDenied.
///
/// # Cancel safety
/// Nothing is lost if the future is dropped, because the next call begins at the start of the file.
pub async fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::read_to_string(path)).await
}

/// Removes an empty directory (`rmdir(2)`).
///
/// # Errors
/// The error of `rmdir(2)`: DirectoryNotEmpty, NotFound, NotADirectory, or PermissionDenied if its
/// parent may not be written.
///
/// # Cancel safety
/// The directory may be removed even if the future is dropped.
pub async fn remove_dir(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::remove_dir(path)).await
}

/// Removes a directory and everything in it. Symbolic links are removed, and not followed.
///
/// # Errors
/// The error of `unlink(2)` or `rmdir(2)` for the first entry that cannot be removed: usually
/// PermissionDenied. What was removed before it stays removed. NotFound if there is nothing at
/// `path`.
///
/// # Cancel safety
/// The directory may be removed even if the future is dropped.
pub async fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::remove_dir_all(path)).await
}

/// Removes a file (`unlink(2)`). A symbolic link is removed, and not followed.
///
/// # Errors
/// The error of `unlink(2)`: NotFound, PermissionDenied if the directory of the file may not be
/// written, and for a directory IsADirectory on Linux and PermissionDenied on other systems.
///
/// # Cancel safety
/// The file may be removed even if the future is dropped.
pub async fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::remove_file(path)).await
}

/// Renames a file or directory (`rename(2)`). A file at `to` is replaced atomically.
///
/// # Errors
/// The error of `rename(2)`: NotFound if `from` does not exist, CrossesDevices if `to` is in
/// another file system, PermissionDenied, and DirectoryNotEmpty if `to` is a directory with
/// entries.
///
/// # Cancel safety
/// The file may be renamed even if the future is dropped.
pub async fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let from = from.as_ref().to_owned();
    let to = to.as_ref().to_owned();
    on_pool(move || std::fs::rename(from, to)).await
}

/// Returns the [`metadata`] of `path` without following a symbolic link at its end (`lstat(2)`).
///
/// # Errors
/// The error of `lstat(2)`: NotFound if `path` does not exist, PermissionDenied if a directory on
/// the way may not be searched.
///
/// # Cancel safety
/// Nothing is lost if the future is dropped.
pub async fn symlink_metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::symlink_metadata(path)).await
}

/// Writes a whole file. Creates it if it does not exist, and replaces what is in it if it does.
/// `contents` is copied for the thread that writes it.
///
/// # Errors
/// The error of `open(2)` or `write(2)`: usually NotFound if the directory does not exist,
/// PermissionDenied or StorageFull. A part may have been written then.
///
/// # Cancel safety
/// If the future is dropped, the file may still be written, all of it or none.
pub async fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    let contents = contents.as_ref().to_vec();
    on_pool(move || std::fs::write(path, contents)).await
}
