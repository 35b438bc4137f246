//! Links, permissions, and whether something exists.

use super::on_pool;
use std::fs::Permissions;
use std::io;
use std::path::{Path, PathBuf};

/// Creates a hard link: `link` becomes another name of the file `original`.
///
/// # Errors
/// If `original` does not exist, `link` does, or they are not on one file system (`link(2)`).
///
/// # Cancel safety
/// The link may be made even if the future is dropped.
///
/// # Examples
/// ```
/// use fahrenheit::fs;
///
/// fahrenheit::run(async {
///     let dir = std::env::temp_dir();
///     let name = |end| dir.join(format!("fahrenheit-link-{}-{end}", std::process::id()));
///     fs::write(name("a"), "words").await?;
///     fs::hard_link(name("a"), name("b")).await?;
///     let mut permissions = fs::metadata(name("a")).await?.permissions();
///     permissions.set_readonly(true);
///     // Both names are of one file.
///     fs::set_permissions(name("b"), permissions).await?;
///     assert!(fs::metadata(name("a")).await?.permissions().readonly());
///     fs::remove_file(name("a")).await?;
///     fs::remove_file(name("b")).await
/// })
/// # .unwrap();
/// ```
pub async fn hard_link(original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    let original = original.as_ref().to_owned();
    let link = link.as_ref().to_owned();
    on_pool(move || std::fs::hard_link(original, link)).await
}

/// Returns the path that the symbolic link at `path` contains.
///
/// # Errors
/// If `path` does not exist, or is not a symbolic link (`InvalidInput`, from `readlink(2)`).
///
/// # Cancel safety
/// Nothing is lost if the future is dropped.
pub async fn read_link(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::read_link(path)).await
}

/// Changes the permissions of a file or directory. Follows symbolic links.
///
/// # Errors
/// If `path` does not exist, or belongs to another user (`PermissionDenied`, from `chmod(2)`).
///
/// # Cancel safety
/// The permissions may be set even if the future is dropped.
pub async fn set_permissions(path: impl AsRef<Path>, permissions: Permissions) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::set_permissions(path, permissions)).await
}

/// Creates a symbolic link at `link` that contains the path `original`, which need not exist.
///
/// It has the name of the function in tokio, and does what [`std::os::unix::fs::symlink`] does.
///
/// # Errors
/// If `link` exists already, or its parent does not (`symlink(2)`).
///
/// # Cancel safety
/// The link may be made even if the future is dropped.
///
/// # Examples
/// ```
/// use fahrenheit::fs;
///
/// fahrenheit::run(async {
///     let link = std::env::temp_dir().join(format!("fahrenheit-link-{}", std::process::id()));
///     fs::symlink("nowhere", &link).await?;
///     assert_eq!(fs::read_link(&link).await?, std::path::Path::new("nowhere"));
///     // It exists, but what it leads to does not.
///     assert!(!fs::try_exists(&link).await?);
///     fs::remove_file(&link).await
/// })
/// # .unwrap();
/// ```
pub async fn symlink(original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    let original = original.as_ref().to_owned();
    let link = link.as_ref().to_owned();
    on_pool(move || std::os::unix::fs::symlink(original, link)).await
}

/// Returns whether there is a file or directory at `path`. Follows symbolic links.
///
/// # Errors
/// If that cannot be said, because a directory on the way may not be searched.
///
/// # Cancel safety
/// Nothing is lost if the future is dropped.
pub async fn try_exists(path: impl AsRef<Path>) -> io::Result<bool> {
    let path = path.as_ref().to_owned();
    on_pool(move || std::fs::exists(path)).await
}
