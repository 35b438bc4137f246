//! The file of a listening Unix socket: made for one user, and removed again.

use crate::net::{AsyncUnixListener, AsyncUnixStream};
use crate::sys::socket;
use std::cell::Cell;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// A process that has bound its socket calls `listen` at once. A socket that refuses connections
/// for this long is left over from a process that has ended.
const TIME_TO_LISTEN: Duration = Duration::from_millis(20);

/// The user that may do everything.
const ROOT: u32 = 0;

/// The file of a socket that this process listens on.
#[derive(Debug)]
pub(super) struct SocketFile {
    /// Absolute, because the program may go to another folder later.
    path: PathBuf,
    /// Device and inode: another process may have a file of the same name by now.
    identity: (u64, u64),
    owner: u32,
    /// The process that made the file. A forked child has a copy of this value, and must leave the
    /// file to its parent.
    pid: u32,
    is_removed: Cell<bool>,
}

impl SocketFile {
    /// Listens at `path`, where a socket may be left over from a process that has ended.
    #[track_caller]
    pub(super) fn listen(path: &Path) -> io::Result<(AsyncUnixListener, SocketFile)> {
        let listener = match AsyncUnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                AsyncUnixListener::bind(path)?
            }
            bound => bound?,
        };
        // The umask, which would apply to the file from the beginning, belongs to all threads. Who
        // connects before this is turned away by its user id.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        let metadata = fs::symlink_metadata(path)?;
        let file = SocketFile {
            path: std::path::absolute(path)?,
            identity: (metadata.dev(), metadata.ino()),
            owner: metadata.uid(),
            pid: std::process::id(),
            is_removed: Cell::new(false),
        };
        Ok((listener, file))
    }

    /// True in a forked child of the process that made the file.
    pub(super) fn is_of_parent(&self) -> bool {
        self.pid != std::process::id()
    }

    /// True if the user who made the file, or root, is at the other end of `stream`. Some systems
    /// do not look at the permissions of a socket.
    pub(super) fn admits(&self, stream: &AsyncUnixStream) -> bool {
        let peer = stream.peer_cred();
        peer.is_ok_and(|peer| [self.owner, ROOT].contains(&peer.uid()))
    }

    /// Removes the file, unless it is another one by now.
    pub(super) fn remove(&self) {
        if self.is_of_parent() || self.is_removed.replace(true) {
            return;
        }
        let metadata = fs::symlink_metadata(&self.path);
        if metadata.is_ok_and(|m| (m.dev(), m.ino()) == self.identity) {
            // If this fails, the next process finds a socket on which no process listens.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes the socket at `path` if no process listens on it.
fn remove_stale(path: &Path) -> io::Result<()> {
    let in_use = |why: &str| {
        let text = format!("{}: {why}", path.display());
        Err(io::Error::new(io::ErrorKind::AddrInUse, text))
    };
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return in_use("the file is no socket");
    }
    for _ in 0..2 {
        if is_served(path)? {
            return in_use("another process, or this one, listens there");
        }
        thread::sleep(TIME_TO_LISTEN);
    }
    fs::remove_file(path)
}

/// Whether a process listens on the socket at `path`. Does not wait for it to accept.
fn is_served(path: &Path) -> io::Result<bool> {
    let addr = socket::unix::path_addr(path)?;
    let socket = socket::unix::stream()?;
    match socket::unix::connect(&socket, &addr) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        Err(error) => Err(error),
    }
}
