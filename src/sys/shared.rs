//! Reading and writing without waiting, on descriptors that other processes have too.
//!
//! `O_NONBLOCK` belongs to the open file, and stdin, stdout and stderr share theirs with the shell
//! and with every other program of the pipeline. Setting it would make their calls fail, and it
//! would stay set if this process is killed. So no flag is touched; instead, by what it is:
//!
//! - a terminal, a pipe or a FIFO is opened anew, as an open file of our own that does not block;
//! - on a socket, every call says for itself that it must not wait;
//! - a regular file never makes anybody wait, but for the disk;
//! - everything else, and what cannot be opened anew, is *asked* right before each call whether it
//!   is ready, and gets no more than a pipe takes whole. If another process comes between the two,
//!   the call waits: the only case, and one that cannot be excluded.

use super::select::is_ready;
use super::{Errno, socket};
use nix::libc;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

/// A pipe that is ready to write takes so many bytes at once. The Hurd and Haiku do not say; POSIX
/// promises 512 everywhere.
#[cfg(not(any(target_os = "hurd", target_os = "haiku")))]
#[allow(clippy::unnecessary_cast, reason = "an `int` on Solaris and illumos")]
const PIPE_BUF: usize = libc::PIPE_BUF as usize;
#[cfg(any(target_os = "hurd", target_os = "haiku"))]
const PIPE_BUF: usize = 512;

/// One direction of a descriptor that other processes have too.
#[derive(Debug)]
pub(crate) struct Shared {
    file: File,
    kind: Kind,
    is_terminal: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An open file of our own, which does not block.
    Own,
    Socket,
    /// Never waits.
    Plain,
    /// Blocks, unless it is ready.
    Asked,
}

impl Shared {
    /// A way to read from `fd`; keeps a descriptor of its own.
    pub(crate) fn to_read(fd: BorrowedFd<'_>) -> io::Result<Shared> {
        Shared::new(fd, OpenOptions::new().read(true))
    }

    /// A way to write to `fd`; keeps a descriptor of its own.
    pub(crate) fn to_write(fd: BorrowedFd<'_>) -> io::Result<Shared> {
        Shared::new(fd, OpenOptions::new().write(true))
    }

    fn new(fd: BorrowedFd<'_>, options: &mut OpenOptions) -> io::Result<Shared> {
        let mut shared = Shared::asked(fd)?;
        let there = shared.file.metadata()?;
        let kind = there.file_type();
        if kind.is_socket() {
            shared.kind = Kind::Socket;
        } else if kind.is_file() || kind.is_dir() || kind.is_block_device() {
            shared.kind = Kind::Plain;
        } else if kind.is_fifo() || shared.is_terminal {
            options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
            let path = path_of(&shared.file, shared.is_terminal);
            let opened = path.and_then(|path| options.open(path));
            let same = |file: &File| {
                let here = file.metadata();
                here.is_ok_and(|here| {
                    (here.dev(), here.ino(), here.rdev())
                        == (there.dev(), there.ino(), there.rdev())
                })
            };
            if let Some(file) = opened.ok().filter(same) {
                (shared.file, shared.kind) = (file, Kind::Own);
            }
        }
        Ok(shared)
    }

    /// The last resort, for any kind of descriptor.
    pub(crate) fn asked(fd: BorrowedFd<'_>) -> io::Result<Shared> {
        Ok(Shared {
            file: fd.try_clone_to_owned()?.into(),
            kind: Kind::Asked,
            is_terminal: fd.is_terminal(),
        })
    }

    /// Whether a call had better not be made before `select` says that it is ready.
    pub(crate) fn waits_first(&self) -> bool {
        self.kind == Kind::Asked
    }

    /// Reads what is there, or fails with `WouldBlock`. A terminal that is gone is at its end.
    pub(crate) fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let outcome = match self.kind {
            Kind::Socket => socket::receive_now(&self.file, bytes),
            Kind::Asked if !is_ready(&self.file, false) => Err(Errno::EAGAIN.into()),
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
            Kind::Asked if !is_ready(&self.file, true) => Err(Errno::EAGAIN.into()),
            // Ready means that there is room for so many.
            Kind::Asked => (&self.file).write(&bytes[..bytes.len().min(PIPE_BUF)]),
            _ => (&self.file).write(bytes),
        }
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Where `file` can be opened anew, by a name that leads to what is open, whatever it was called.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn path_of(file: &File, is_terminal: bool) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    // Opening the far side of terminals would make a new one.
    let ptmx = libc::makedev(5, 2);
    if is_terminal && file.metadata()?.rdev() == ptmx {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())))
}

/// Where `file` can be opened anew: terminals have a name, and pipes have none.
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
    fn i1_i2_nothing_waits_and_no_flag_is_touched_opened_anew_or_not() {
        let makes: [[Make; 2]; 2] = [
            [Shared::to_read, Shared::to_write],
            [Shared::asked, Shared::asked],
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
    fn i2_of_two_readers_of_a_terminal_the_slower_finds_nothing_and_does_not_wait() {
        let ends = nix::pty::openpty(None, None).unwrap();
        let read = || Shared::to_read(ends.slave.as_fd()).unwrap();
        let (first, second) = (read(), read());
        nix::unistd::write(&ends.master, b"a line\n").unwrap();
        let mut bytes = [0; 16];
        // Both have been told that there is something to read.
        while !(is_ready(&first, false) && is_ready(&second, false)) {
            std::thread::yield_now();
        }
        assert_eq!(first.read(&mut bytes).unwrap(), 7);
        assert!(would_block(second.read(&mut bytes)));
        assert!(!is_nonblocking(&ends.slave).unwrap());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn i2_terminals_and_pipes_are_opened_anew_and_other_things_are_not() {
        let (read, _write) = pipe();
        assert_eq!(Shared::to_read(read.as_fd()).unwrap().kind, Kind::Own);
        let ends = nix::pty::openpty(None, None).unwrap();
        assert_eq!(Shared::to_read(ends.slave.as_fd()).unwrap().kind, Kind::Own);
        let far = Shared::to_read(ends.master.as_fd()).unwrap();
        assert_eq!(far.kind, Kind::Asked);
        let null = File::open("/dev/null").unwrap();
        assert_eq!(Shared::to_read(null.as_fd()).unwrap().kind, Kind::Asked);
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let socket = Shared::to_write(socket.as_fd()).unwrap();
        assert_eq!(socket.kind, Kind::Socket);
        assert!(would_block(socket.read(&mut [0])));
    }
}
