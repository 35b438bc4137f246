//! Reading and writing without blocking, on descriptors that other processes share.
//!
//! `O_NONBLOCK` belongs to the open file, and stdin, stdout and stderr share theirs with the shell
//! and with every other program of the pipeline. Setting it would make their calls fail, and it
//! would stay set if this process is killed. So no flag is changed. What is done instead depends on
//! the kind of file:
//!
//! - A terminal, a pipe or a FIFO is reopened, which gives an open file of our own that does not
//!   block.
//! - On a socket, the flag `MSG_DONTWAIT` of each call says that this call must not block.
//! - A regular file never blocks, except for the disk.
//! - Everything else, and what cannot be reopened, is *checked first*: `select` is called before
//!   every read and write, which then moves no more than there certainly is room for.
//!
//! **Invariant.** A call blocks only if the descriptor is checked first and another process takes
//! the data or the room between `select` and the call. POSIX has no way to exclude that.

use super::select::is_ready;
use super::{Errno, socket};
use nix::libc;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

/// A pipe that is ready to write takes this many bytes at once. The Hurd and Haiku do not say how
/// many; POSIX promises 512 everywhere.
#[cfg(not(any(target_os = "hurd", target_os = "haiku")))]
#[allow(clippy::unnecessary_cast, reason = "an `int` on Solaris and illumos")]
pub(super) const PIPE_BUF: usize = libc::PIPE_BUF as usize;
#[cfg(any(target_os = "hurd", target_os = "haiku"))]
pub(super) const PIPE_BUF: usize = 512;

/// Maximum number of bytes that one call of [`Shared::write`] writes to a terminal that is checked
/// first. Each of them costs two system calls, during which the loop does nothing else.
const MAX_TERMINAL_WRITE: usize = 256;

/// One direction of a descriptor that other processes share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// A duplicate of the descriptor, or what was reopened.
    file: File,
    kind: Kind,
    is_terminal: bool,
}

/// How a call on the descriptor is kept from blocking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An open file of our own, with `O_NONBLOCK`.
    Reopened,
    /// A socket: each call has `MSG_DONTWAIT`.
    Socket,
    /// A regular file, a directory or a block device, which waits for nothing but the disk.
    Disk,
    /// Anything else: `select` is called before each call.
    CheckedFirst,
}

impl Shared {
    /// Duplicates or reopens `fd`, to read from it. Fails with EBADF if `fd` is closed.
    pub(crate) fn to_read(fd: BorrowedFd<'_>) -> io::Result<Shared> {
        Shared::new(fd, OpenOptions::new().read(true))
    }

    /// Duplicates or reopens `fd`, to write to it. Fails with EBADF if `fd` is closed.
    pub(crate) fn to_write(fd: BorrowedFd<'_>) -> io::Result<Shared> {
        Shared::new(fd, OpenOptions::new().write(true))
    }

    fn new(fd: BorrowedFd<'_>, options: &mut OpenOptions) -> io::Result<Shared> {
        let mut shared = Shared::checked_first(fd)?;
        let file_type = shared.file.metadata()?.file_type();
        if file_type.is_socket() {
            shared.kind = Kind::Socket;
        } else if file_type.is_file() || file_type.is_dir() || file_type.is_block_device() {
            shared.kind = Kind::Disk;
        } else if file_type.is_fifo() || shared.is_terminal {
            // Fails for the terminal and the pipes of another user, as after `su`, and where pipes
            // have no name.
            if let Ok(file) = reopen(&shared.file, options, shared.is_terminal) {
                (shared.file, shared.kind) = (file, Kind::Reopened);
            }
        }
        Ok(shared)
    }

    /// Duplicates `fd`, to call `select` before each call. The last resort, for any kind of file.
    pub(crate) fn checked_first(fd: BorrowedFd<'_>) -> io::Result<Shared> {
        Ok(Shared {
            file: fd.try_clone_to_owned()?.into(),
            kind: Kind::CheckedFirst,
            is_terminal: fd.is_terminal(),
        })
    }

    /// Returns whether a call should not be tried before `select` has reported the descriptor as
    /// ready.
    pub(crate) fn waits_first(&self) -> bool {
        self.kind == Kind::CheckedFirst
    }

    /// Reads what is there, or fails with `WouldBlock`. A terminal that has hung up is at its end.
    pub(crate) fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let outcome = match self.kind {
            Kind::Socket => socket::receive(&self.file, bytes),
            Kind::CheckedFirst if !is_ready(&self.file, false) => Err(Errno::EAGAIN.into()),
            _ => (&self.file).read(bytes),
        };
        match outcome {
            Err(error) if self.is_terminal && error.raw_os_error() == Some(libc::EIO) => Ok(0),
            outcome => outcome,
        }
    }

    /// Writes what there is room for, or fails with `WouldBlock`.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.kind {
            Kind::Socket => socket::send_now(&self.file, bytes),
            Kind::Reopened | Kind::Disk => (&self.file).write(bytes),
            // A terminal counts as ready when there is room for one byte, and then waits inside of
            // `write` until everything that it was given has found room.
            Kind::CheckedFirst if self.is_terminal => {
                self.write_pieces(bytes.chunks(1).take(MAX_TERMINAL_WRITE))
            }
            // A pipe that is ready takes so much whole.
            Kind::CheckedFirst => self.write_pieces(bytes.chunks(PIPE_BUF).take(1)),
        }
    }

    /// Writes `pieces` one by one, as long as `select` reports that there is room.
    fn write_pieces<'a>(&self, pieces: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
        let mut n_written = 0;
        for piece in pieces {
            let outcome = match is_ready(&self.file, true) {
                true => (&self.file).write(piece),
                false => Err(Errno::EAGAIN.into()),
            };
            match outcome {
                Ok(n) => n_written += n,
                Err(error) if n_written == 0 => return Err(error),
                // What was written must be reported. The next call meets the error again.
                Err(_) => break,
            }
        }
        Ok(n_written)
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Opens the terminal or pipe behind `file` once more, non-blocking.
fn reopen(file: &File, options: &mut OpenOptions, is_terminal: bool) -> io::Result<File> {
    let path = path_of(file, is_terminal)?;
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | packet_mode(file)?);
    let mut reopened = options.open(path)?;
    // The name of a terminal may lead to another one by now.
    let identity = |file: &File| {
        let found = file.metadata()?;
        io::Result::Ok((found.dev(), found.ino(), found.rdev()))
    };
    if identity(&reopened)? != identity(file)? {
        return Err(io::ErrorKind::NotFound.into());
    }
    if reopened.as_raw_fd() <= libc::STDERR_FILENO {
        // A standard stream is closed, and `open` has taken its number. Other code would take this
        // file for that stream. A duplicate gets a number above those three.
        reopened = reopened.as_fd().try_clone_to_owned()?.into();
    }
    Ok(reopened)
}

/// Returns `O_DIRECT` if `file` is a pipe in packet mode. Linux refuses to reopen a pipe with that
/// flag, and without it our writes would be merged into one packet.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn packet_mode(file: &File) -> io::Result<libc::c_int> {
    use nix::fcntl::{FcntlArg, fcntl};
    Ok(fcntl(file, FcntlArg::F_GETFL)? & libc::O_DIRECT)
}

/// Returns no flag: only Linux has pipes in packet mode.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn packet_mode(_file: &File) -> io::Result<libc::c_int> {
    Ok(0)
}

/// Returns a path to the open file behind `file`, even if its own path has been removed.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn path_of(file: &File, is_terminal: bool) -> io::Result<PathBuf> {
    // To open the master side of a pseudo-terminal is to create another pseudo-terminal.
    let ptmx = libc::makedev(5, 2);
    if is_terminal && file.metadata()?.rdev() == ptmx {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())))
}

/// Returns the path of a terminal. Pipes have none.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn path_of(file: &File, is_terminal: bool) -> io::Result<PathBuf> {
    match is_terminal {
        true => Ok(nix::unistd::ttyname(file)?),
        false => Err(io::ErrorKind::Unsupported.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fd::is_nonblocking;
    use super::*;
    use std::os::fd::OwnedFd;

    fn pipe() -> (OwnedFd, OwnedFd) {
        nix::unistd::pipe().unwrap()
    }

    fn would_block<T>(outcome: io::Result<T>) -> bool {
        outcome.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    type Make = fn(BorrowedFd<'_>) -> io::Result<Shared>;

    #[test]
    fn a_pipe_does_not_block_and_keeps_its_flags_reopened_or_not() {
        let makes: [[Make; 2]; 2] = [
            [Shared::to_read, Shared::to_write],
            [Shared::checked_first, Shared::checked_first],
        ];
        for [to_read, to_write] in makes {
            let (read, write) = pipe();
            let (reader, writer) = (
                to_read(read.as_fd()).unwrap(),
                to_write(write.as_fd()).unwrap(),
            );
            let mut bytes = [0; 4096];
            assert!(would_block(reader.read(&mut bytes)));
            let mut n_sent = 0;
            while let Ok(n) = writer.write(&[7; 10_000]) {
                n_sent += n;
            }
            assert!(would_block(writer.write(&[7])));
            while n_sent > 0 {
                let n = reader.read(&mut bytes).unwrap();
                assert!(n > 0);
                n_sent -= n;
            }
            assert!(would_block(reader.read(&mut bytes)));
            assert!(!is_nonblocking(&read).unwrap() && !is_nonblocking(&write).unwrap());
            drop((write, writer));
            assert_eq!(reader.read(&mut bytes).unwrap(), 0);
        }
    }

    #[test]
    fn the_slower_of_two_readers_of_a_terminal_does_not_block() {
        let ends = nix::pty::openpty(None, None).unwrap();
        let read = || Shared::to_read(ends.slave.as_fd()).unwrap();
        let (first, second) = (read(), read());
        nix::unistd::write(&ends.master, b"a line\n").unwrap();
        let mut bytes = [0; 16];
        // Both are reported as ready.
        while !(is_ready(&first, false) && is_ready(&second, false)) {
            std::thread::yield_now();
        }
        assert_eq!(first.read(&mut bytes).unwrap(), 7);
        assert!(would_block(second.read(&mut bytes)));
        assert!(!is_nonblocking(&ends.slave).unwrap());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn terminals_and_pipes_are_reopened_and_other_files_are_not() {
        let (read, _write) = pipe();
        assert_eq!(Shared::to_read(read.as_fd()).unwrap().kind, Kind::Reopened);
        let ends = nix::pty::openpty(None, None).unwrap();
        assert_eq!(
            Shared::to_read(ends.slave.as_fd()).unwrap().kind,
            Kind::Reopened
        );
        let master = Shared::to_read(ends.master.as_fd()).unwrap();
        assert_eq!(master.kind, Kind::CheckedFirst);
        let null = File::open("/dev/null").unwrap();
        assert_eq!(
            Shared::to_read(null.as_fd()).unwrap().kind,
            Kind::CheckedFirst
        );
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let socket = Shared::to_write(socket.as_fd()).unwrap();
        assert_eq!(socket.kind, Kind::Socket);
        assert!(would_block(socket.read(&mut [0])));
    }
    #[test]
    #[cfg(target_os = "linux")]
    fn packets_written_to_a_pipe_in_packet_mode_stay_apart() {
        use nix::fcntl::OFlag;
        let (read, write) = nix::unistd::pipe2(OFlag::O_DIRECT).unwrap();
        let writer = Shared::to_write(write.as_fd()).unwrap();
        assert_eq!(writer.write(b"one").unwrap(), 3);
        assert_eq!(writer.write(b"two").unwrap(), 3);
        let reader = Shared::to_read(read.as_fd()).unwrap();
        assert_eq!(reader.read(&mut [0; 16]).unwrap(), 3);
        assert_eq!(reader.read(&mut [0; 16]).unwrap(), 3);
    }
}
