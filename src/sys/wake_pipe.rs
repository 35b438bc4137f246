//! The self-pipe: how another thread ends the loop's wait.
//!
//! A doorbell, not a letter box: the byte says nothing but "look at the inbox". A pipe rather than
//! an eventfd because every Unix has it, and rather than a socket pair because that fills up after
//! 278 bytes on Linux. The idea is D. J. Bernstein's "self-pipe trick".

use super::unix::SELECT_LIMIT;
use super::{Errno, create, retry};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

/// How often a failed write is tried again before it is believed.
const TRIES: usize = 8;

/// Both ends, non-blocking and close-on-exec.
#[derive(Debug)]
pub(crate) struct WakePipe {
    // `None` only while dropping.
    ends: Option<(OwnedFd, OwnedFd)>,
    read: RawFd,
}

/// Why an event loop could not be created. Converts into [`io::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CreateError {
    /// This process has no descriptor left (`EMFILE`).
    TooManyOpenFiles,
    /// The whole system has no descriptor left (`ENFILE`).
    SystemLimit,
    /// The kernel is short of memory (`ENOMEM`, `ENOBUFS`).
    NoMemory,
    /// The system refused the flags or the memory that it was given (`EINVAL`, `EFAULT`).
    Invalid,
    /// The thread is ending, and its loop has already been torn down.
    ThreadEnded,
    /// Any other errno.
    Other(i32),
}

impl CreateError {
    fn from_errno(errno: Errno) -> CreateError {
        match errno {
            Errno::EMFILE => CreateError::TooManyOpenFiles,
            Errno::ENFILE => CreateError::SystemLimit,
            Errno::ENOMEM | Errno::ENOBUFS => CreateError::NoMemory,
            Errno::EINVAL | Errno::EFAULT => CreateError::Invalid,
            other => CreateError::Other(other as i32),
        }
    }

    fn errno(self) -> Option<Errno> {
        match self {
            CreateError::TooManyOpenFiles => Some(Errno::EMFILE),
            CreateError::SystemLimit => Some(Errno::ENFILE),
            CreateError::NoMemory => Some(Errno::ENOMEM),
            CreateError::Invalid => Some(Errno::EINVAL),
            CreateError::Other(errno) => Some(Errno::from_raw(errno)),
            CreateError::ThreadEnded => None,
        }
    }
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno() {
            Some(errno) => write!(
                f,
                "cannot create the wake-up pipe: {} ({errno:?}, errno {})",
                errno.desc().to_lowercase(),
                errno as i32
            ),
            None => f.write_str("cannot use the event loop: this thread is ending"),
        }
    }
}

impl std::error::Error for CreateError {}

impl From<CreateError> for io::Error {
    fn from(error: CreateError) -> io::Error {
        let kind = error
            .errno()
            .map_or(io::ErrorKind::Other, |errno| io::Error::from(errno).kind());
        io::Error::new(kind, error)
    }
}

impl WakePipe {
    pub(crate) fn new() -> Result<WakePipe, CreateError> {
        let (read, write) = create::pipe().map_err(CreateError::from_errno)?;
        let number = read.as_raw_fd();
        if !is_selectable(number, SELECT_LIMIT) {
            return Err(CreateError::TooManyOpenFiles);
        }
        Ok(WakePipe {
            ends: Some((read, write)),
            read: number,
        })
    }

    /// The end that `select` watches.
    pub(crate) fn read_fd(&self) -> RawFd {
        self.read
    }

    /// The end that a signal handler writes to by itself.
    pub(crate) fn write_fd(&self) -> RawFd {
        self.ends
            .as_ref()
            .map_or(-1, |(_, write)| write.as_raw_fd())
    }

    /// Makes the read end ready. An error means that it certainly is not.
    ///
    /// The protocol allows one byte a sleep, so a pipe that says it is full is not believed at
    /// once; if it insists, then there are bytes in it, which is all that was wanted.
    pub(crate) fn ring(&self) -> io::Result<()> {
        let Some((_, write)) = &self.ends else {
            return Ok(());
        };
        let mut outcome = Ok(0);
        for _ in 0..TRIES {
            outcome = retry(|| nix::unistd::write(write, &[1]));
            if outcome.is_ok() {
                break;
            }
        }
        match outcome {
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The end to write to.
    pub(crate) fn write_end(&self) -> BorrowedFd<'_> {
        let (_, write) = self
            .ends
            .as_ref()
            .expect("a pipe has ends until it is dropped");
        write.as_fd()
    }

    /// Empties the pipe; `WouldBlock` if it was empty. Others may write pieces of any size as fast
    /// as they like, so this stops at what a pipe usually holds.
    pub(crate) fn take(&self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        let mut outcome = Err(Errno::EAGAIN);
        for _ in 0..16 {
            let read = retry(|| nix::unistd::read(self, &mut bytes));
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(Errno::EAGAIN) => break,
                _ => outcome = read,
            }
            if read != Ok(bytes.len()) {
                break;
            }
        }
        outcome.map(drop).map_err(io::Error::from)
    }

    /// Puts a new pipe behind the same two numbers: in a child, the old one is its parent's.
    pub(crate) fn renew(&self) -> nix::Result<()> {
        let Some((read, write)) = &self.ends else {
            return Ok(());
        };
        let (new_read, new_write) = create::pipe()?;
        for (new, old) in [(new_read, read), (new_write, write)] {
            // SAFETY: `old` is ours and stays open; only what stands behind its number changes.
            // What comes back is a second owner of that number, and is given up at once.
            let same = unsafe { nix::unistd::dup2_raw(new, old.as_raw_fd()) }?;
            let _ = same.into_raw_fd();
            super::fd::set_cloexec(old)?;
        }
        Ok(())
    }

    /// Empties the pipe. Errors are no news: the read end stays ready, and the next tick tries
    /// again.
    pub(crate) fn drain(&self) {
        let Some((read, _)) = &self.ends else { return };
        let mut bytes = [0; 64];
        while retry(|| nix::unistd::read(read, &mut bytes)) == Ok(bytes.len()) {}
    }
}

/// As the read end.
impl AsFd for WakePipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let (read, _) = self
            .ends
            .as_ref()
            .expect("a pipe has ends until it is dropped");
        read.as_fd()
    }
}

impl WakePipe {
    /// Closes both ends. Returns the ends that could not be closed: EBADF means that other code
    /// has closed a descriptor that was ours.
    pub(crate) fn close(&mut self) -> Vec<(RawFd, Errno)> {
        let ends = self.ends.take().map(<[OwnedFd; 2]>::from);
        let closed = ends.into_iter().flatten().map(|end| {
            let fd = end.as_raw_fd();
            // By hand, because dropping an `OwnedFd` that is not open aborts a debug build.
            nix::unistd::close(end).map_err(|errno| (fd, errno))
        });
        closed.filter_map(Result::err).collect()
    }
}

impl Drop for WakePipe {
    fn drop(&mut self) {
        self.close();
    }
}

/// Whether `select` can watch `fd`, if the first number that it cannot is `limit`.
fn is_selectable(fd: RawFd, limit: Option<usize>) -> bool {
    limit.is_none_or(|limit| usize::try_from(fd).is_ok_and(|fd| fd < limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b3_a_full_pipe_is_a_rung_bell() {
        let pipe = WakePipe::new().unwrap();
        for _ in 0..70_000 {
            pipe.ring().unwrap();
        }
        pipe.drain();
        assert_eq!(
            nix::unistd::read(&pipe.ends.as_ref().unwrap().0, &mut [0]),
            Err(Errno::EAGAIN)
        );
    }

    #[test]
    fn a1_a_pipe_is_refused_from_the_limit_of_select_on() {
        assert!(is_selectable(255, Some(256)) && !is_selectable(256, Some(256)));
        assert!(is_selectable(RawFd::MAX, None));
    }

    #[test]
    fn se3_se4_a_creation_error_says_what_failed_and_why() {
        let error = CreateError::from_errno(Errno::EMFILE);
        assert_eq!(error, CreateError::TooManyOpenFiles);
        let text = error.to_string();
        assert_eq!(
            text,
            format!(
                "cannot create the wake-up pipe: too many open files (EMFILE, errno {})",
                Errno::EMFILE as i32
            )
        );
        assert_eq!(io::Error::from(error).to_string(), text);
        assert_eq!(
            CreateError::from_errno(Errno::EPERM),
            CreateError::Other(Errno::EPERM as i32)
        );
    }
}
