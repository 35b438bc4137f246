//! The self-pipe: how another thread ends the loop's wait.
//!
//! The byte in it says nothing but "look at the inbox". A pipe rather than an eventfd because every
//! Unix has it, and rather than a socket pair because that fills up after 278 bytes on Linux. The
//! idea is D. J. Bernstein's "self-pipe trick".
//!
//! # Whose pipe
//! Other code in the process may close all descriptors that it does not know, as a program does
//! that becomes a daemon, and may then open files that get our numbers. So each end remembers what
//! file it is (`fstat`: device, inode and type). The writing end is compared before every write,
//! so that no byte lands in a stranger's file. That takes 0.4 microseconds of processor time, where
//! waking a sleeping loop takes more than 10. (Another thread can still close and reuse the number
//! between the two calls.) The reading end is compared when something looks wrong.

use super::fd::lend;
use super::unix::SELECT_LIMIT;
use super::{Errno, create, retry};
use nix::sys::stat::fstat;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// Number of attempts to write before an error is believed.
const MAX_TRIES: usize = 8;

/// Number of bytes that a pipe usually holds, and so the most that is ever read at a time.
const CAPACITY: usize = 64 * 1024;

/// Both ends, non-blocking and close-on-exec.
#[derive(Debug)]
pub(crate) struct WakePipe {
    read: End,
    write: End,
}

/// One end of the pipe: its number, and what file that was when the pipe was made.
///
/// Atomic, because the loop's thread may put a new pipe here while another thread writes. That one
/// then finds a number and a file that do not belong together, which is an error as any other: the
/// loop is awake.
#[derive(Debug)]
struct End {
    number: AtomicI32,
    file: AtomicUsize,
}

/// The number of an end that has been closed.
const CLOSED: RawFd = -1;

impl End {
    fn new(fd: OwnedFd) -> nix::Result<End> {
        Ok(End {
            file: AtomicUsize::new(file_of(fd.as_fd())?),
            number: AtomicI32::new(fd.into_raw_fd()),
        })
    }

    fn number(&self) -> RawFd {
        self.number.load(Ordering::Acquire)
    }

    /// Borrows what is behind the number, ours or not.
    fn borrow(&self) -> nix::Result<BorrowedFd<'_>> {
        match self.number() {
            CLOSED => Err(Errno::EBADF),
            number => Ok(lend(self, number)),
        }
    }

    /// Returns whether the number still stands for this end of our pipe.
    fn is_ours(&self) -> bool {
        let file = self.borrow().and_then(file_of);
        file == Ok(self.file.load(Ordering::Acquire))
    }

    /// Puts the end of a new pipe in the place of this one. Returns whether the number is another
    /// one from now on: if what is behind the old number is not ours, it is left alone.
    fn replace(&self, new: OwnedFd) -> nix::Result<bool> {
        let file = file_of(new.as_fd())?;
        let is_ours = self.is_ours();
        if is_ours {
            let old = self.borrow()?;
            // SAFETY: this owns `old`, which stays open; only what stands behind its number
            // changes. The second owner of that number that is returned is given up at once.
            let duplicate = unsafe { nix::unistd::dup2_raw(new, old.as_raw_fd()) }?;
            let _ = duplicate.into_raw_fd();
            super::fd::set_cloexec(old)?;
        } else {
            self.number.store(new.into_raw_fd(), Ordering::Release);
        }
        self.file.store(file, Ordering::Release);
        Ok(!is_ours)
    }

    /// Closes the end, unless other code has done that.
    fn close(&self) -> nix::Result<()> {
        let is_ours = self.is_ours();
        match self.number.swap(CLOSED, Ordering::AcqRel) {
            CLOSED => Ok(()),
            // By number, because dropping an `OwnedFd` that is not open aborts a debug build.
            number if is_ours => nix::unistd::close(number),
            _ => Err(Errno::EBADF),
        }
    }
}

/// Identifies the open file behind `fd`, among all that are open. Some systems give every pipe the
/// inode 0; there, only the type tells. Async-signal-safe.
pub(super) fn file_of(fd: BorrowedFd<'_>) -> nix::Result<usize> {
    let found = fstat(fd)?;
    let kind = found.st_mode & nix::libc::S_IFMT;
    // Spread so that device and type do not cancel out.
    let file = (found.st_ino as usize).wrapping_mul(31);
    Ok(file.wrapping_add(found.st_dev as usize).wrapping_mul(31) ^ kind as usize)
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
    /// The error number of the call, which is none of the above.
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
        // Not from the names and texts of all numbers in nix, which no other code needs: they
        // would take 20 kB of every program.
        let what = match self {
            CreateError::TooManyOpenFiles => "too many open files (EMFILE, errno",
            CreateError::SystemLimit => "file table overflow (ENFILE, errno",
            CreateError::NoMemory => "out of memory (ENOMEM, errno",
            CreateError::Invalid => "invalid argument (EINVAL, errno",
            CreateError::Other(errno) => {
                let error = io::Error::from_raw_os_error(*errno);
                return write!(f, "cannot create the wake-up pipe: {error}");
            }
            CreateError::ThreadEnded => {
                return f.write_str("cannot use the event loop: this thread is ending");
            }
        };
        let errno = self.errno().map_or(0, |errno| errno as i32);
        write!(f, "cannot create the wake-up pipe: {what} {errno})")
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
        if !is_selectable(read.as_raw_fd(), SELECT_LIMIT) {
            return Err(CreateError::TooManyOpenFiles);
        }
        Ok(WakePipe {
            read: End::new(read).map_err(CreateError::from_errno)?,
            write: End::new(write).map_err(CreateError::from_errno)?,
        })
    }

    /// Returns the end that `select` watches.
    pub(crate) fn read_fd(&self) -> RawFd {
        self.read.number()
    }

    /// Returns the end that a signal handler writes to by itself.
    #[cfg(any(test, feature = "signal"))]
    pub(crate) fn write_fd(&self) -> RawFd {
        self.write.number()
    }

    /// Identifies the file that the writing end is, as [`file_of`] does.
    #[cfg(feature = "signal")]
    pub(super) fn write_file(&self) -> usize {
        self.write.file.load(Ordering::Acquire)
    }

    /// Returns the end to write to.
    ///
    /// # Panics
    /// If the pipe was closed.
    pub(crate) fn write_end(&self) -> BorrowedFd<'_> {
        let borrowed = self.write.borrow();
        borrowed.expect("a pipe has ends until it is dropped")
    }

    /// Makes the read end ready. An error means that it certainly is not. Async-signal-safe.
    ///
    /// The protocol allows one byte a sleep, so a pipe that says it is full is not believed at
    /// once; if it insists, then there are bytes in it, which is all that was wanted.
    pub(crate) fn notify(&self) -> io::Result<()> {
        if !self.write.is_ours() {
            return Err(Errno::EBADF.into());
        }
        let mut outcome = Ok(0);
        for _ in 0..MAX_TRIES {
            outcome = retry(|| nix::unistd::write(self.write.borrow()?, &[1]));
            if outcome.is_ok() {
                break;
            }
        }
        match outcome {
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Empties the pipe; `WouldBlock` if it was empty. Other processes may write pieces of any size
    /// as fast as they like, so this stops at what a pipe usually holds.
    pub(crate) fn take(&self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        let mut outcome = Err(Errno::EAGAIN);
        for _ in 0..CAPACITY / bytes.len() {
            let read = retry(|| nix::unistd::read(self.read.borrow()?, &mut bytes));
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

    /// Puts a new pipe behind the two numbers: in a child of `fork`, the old one is its parent's.
    /// Fails with EBADF if other code has closed one of them.
    pub(crate) fn renew(&self) -> nix::Result<()> {
        if !self.is_ours() {
            return Err(Errno::EBADF);
        }
        self.replace().map(drop)
    }

    /// Puts a new pipe in the place of this one. Returns whether a number has changed, because what
    /// is behind it is not ours any more.
    pub(crate) fn replace(&self) -> nix::Result<bool> {
        let (read, write) = create::pipe()?;
        let read_changed = self.read.replace(read)?;
        Ok(self.write.replace(write)? || read_changed)
    }

    /// Returns whether both numbers still stand for our pipe.
    pub(crate) fn is_ours(&self) -> bool {
        self.read.is_ours() && self.write.is_ours()
    }

    /// Empties the pipe, after it was reported as ready. Returns false if what was found there
    /// looks wrong; call [`is_ours`](WakePipe::is_ours) then.
    pub(crate) fn drain(&self) -> bool {
        let mut bytes = [0; 64];
        let mut read = || retry(|| nix::unistd::read(self.read.borrow()?, &mut bytes));
        match read() {
            Ok(1..64) => return true,
            Ok(64..) => {}
            // The end, or an error. Or nothing: `select` may err.
            Ok(0) | Err(_) => return false,
        }
        // Never so much was written here by the protocol, unless wakes came from a process without
        // atomics of its own. Read on only if it is ours.
        if !self.is_ours() {
            return false;
        }
        let n_reads = CAPACITY / 64;
        let _ = (0..n_reads).find(|_| read() != Ok(64));
        true
    }

    /// Closes both ends. Returns the ends that could not be closed: EBADF means that other code
    /// has closed a descriptor that was ours.
    pub(crate) fn close(&mut self) -> Vec<(RawFd, Errno)> {
        let closed = [&self.read, &self.write].map(|end| {
            let number = end.number();
            end.close().map_err(|errno| (number, errno))
        });
        closed.into_iter().filter_map(Result::err).collect()
    }
}

/// Borrows the read end, which the loop waits for.
impl AsFd for WakePipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let borrowed = self.read.borrow();
        borrowed.expect("a pipe has ends until it is dropped")
    }
}

impl Drop for WakePipe {
    fn drop(&mut self) {
        self.close();
    }
}

/// Returns whether `select` can watch `fd`, if the first number that it cannot watch is `limit`.
fn is_selectable(fd: RawFd, limit: Option<usize>) -> bool {
    limit.is_none_or(|limit| usize::try_from(fd).is_ok_and(|fd| fd < limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_keeps_its_errno() {
        for errno in [
            Errno::EMFILE,
            Errno::ENFILE,
            Errno::ENOMEM,
            Errno::EINVAL,
            Errno::EIO,
        ] {
            let error = CreateError::from_errno(errno);
            assert_eq!(error.errno(), Some(errno), "{error:?}");
        }
        assert_eq!(
            CreateError::from_errno(Errno::ENOBUFS),
            CreateError::NoMemory
        );
        assert_eq!(CreateError::from_errno(Errno::EFAULT), CreateError::Invalid);
    }

    #[test]
    fn a_full_pipe_ends_the_next_wait_and_is_emptied() {
        let pipe = WakePipe::new().unwrap();
        for _ in 0..70_000 {
            pipe.notify().unwrap();
        }
        assert!(pipe.drain());
        assert_eq!(nix::unistd::read(&pipe, &mut [0]), Err(Errno::EAGAIN));
        assert!(!pipe.drain(), "it was not ready");
    }

    /// Puts `other` behind the numbers of `pipe`.
    fn usurp(pipe: &WakePipe, other: &OwnedFd) {
        for number in [pipe.read_fd(), pipe.write_fd()] {
            // SAFETY: the pipe owns the number, and is made to believe that it has lost it; the
            // owner that is returned is given up at once.
            let duplicate = unsafe { nix::unistd::dup2_raw(other, number) };
            let _ = duplicate.unwrap().into_raw_fd();
        }
    }

    #[test]
    fn a_pipe_whose_numbers_are_a_strangers_is_not_written_to_and_is_made_anew() {
        let pipe = WakePipe::new().unwrap();
        let (stranger, strange_write) = create::pipe().unwrap();
        let before = (pipe.read_fd(), pipe.write_fd());
        usurp(&pipe, &strange_write);
        assert!(!pipe.is_ours());
        assert_eq!(
            pipe.notify().unwrap_err().raw_os_error(),
            Some(Errno::EBADF as i32)
        );
        assert_eq!(nix::unistd::read(&stranger, &mut [0]), Err(Errno::EAGAIN));
        assert_eq!(pipe.renew(), Err(Errno::EBADF));
        assert_eq!(pipe.replace(), Ok(true));
        assert!(pipe.read_fd() != before.0 && pipe.write_fd() != before.1);
        pipe.notify().unwrap();
        assert!(pipe.is_ours() && pipe.drain());
        // What is a stranger's stays open.
        for number in [before.0, before.1] {
            assert!(super::super::fd::is_open(number));
            nix::unistd::close(number).unwrap();
        }
    }

    #[test]
    fn a_pipe_that_is_ours_keeps_its_numbers_when_it_is_renewed() {
        let pipe = WakePipe::new().unwrap();
        let numbers = (pipe.read_fd(), pipe.write_fd());
        pipe.notify().unwrap();
        pipe.renew().unwrap();
        assert_eq!(numbers, (pipe.read_fd(), pipe.write_fd()));
        assert!(!pipe.drain(), "it is another pipe");
        pipe.notify().unwrap();
        assert!(pipe.drain());
    }

    #[test]
    fn a_pipe_is_refused_from_the_limit_of_select_on() {
        assert!(is_selectable(255, Some(256)) && !is_selectable(256, Some(256)));
        assert!(is_selectable(RawFd::MAX, None));
    }

    #[test]
    fn a_creation_error_says_what_failed_and_why() {
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
