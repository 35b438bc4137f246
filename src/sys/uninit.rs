//! Reading into memory that is not initialised, so that no buffer has to be cleared before a read.
//!
//! **Invariant.** [`Uninit`] counts only bytes that were cleared or that a system call has written,
//! and never makes an initialised byte uninitialised again.

use super::Errno;
use nix::libc;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

/// A buffer to be read into, and how much of it has been filled, from the front on.
#[derive(Debug)]
pub(crate) struct Uninit<'a> {
    bytes: &'a mut [MaybeUninit<u8>],
    n_filled: usize,
}

#[allow(
    dead_code,
    reason = "some of it is only for the traits of other crates"
)]
impl<'a> Uninit<'a> {
    pub(crate) fn new(bytes: &'a mut [MaybeUninit<u8>]) -> Uninit<'a> {
        Uninit { bytes, n_filled: 0 }
    }

    /// Returns the size of the whole buffer.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the number of bytes that have been filled, which are initialised.
    pub(crate) fn n_filled(&self) -> usize {
        self.n_filled
    }

    /// Makes one call of `read(2)` for at most `max_len` bytes, which replace what was filled.
    /// Returns the number of bytes read.
    ///
    /// # Errors
    /// The error of `read(2)`; then nothing is filled.
    pub(crate) fn read(&mut self, fd: impl AsFd, max_len: usize) -> io::Result<usize> {
        self.n_filled = 0;
        let len = self.bytes.len().min(max_len);
        let start = self.bytes.as_mut_ptr().cast();
        // SAFETY: `start` points to at least `len` bytes that are borrowed for writing, and the
        // system only writes to them.
        let n = unsafe { libc::read(fd.as_fd().as_raw_fd(), start, len) };
        self.n_filled = usize::try_from(Errno::result(n)?).unwrap_or(0);
        Ok(self.n_filled)
    }

    /// Clears the buffer and lets `read` read into it, for a `read` that needs initialised memory.
    ///
    /// # Errors
    /// The error that `read` returns; then nothing is filled.
    pub(crate) fn read_cleared(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.bytes.fill(MaybeUninit::new(0));
        let n_filled = self.bytes.len();
        let cleared = Uninit {
            bytes: &mut *self.bytes,
            n_filled,
        };
        let outcome = read(cleared.into_filled());
        self.n_filled = self.bytes.len().min(*outcome.as_ref().unwrap_or(&0));
        outcome
    }

    /// Copies the beginning of `bytes`, as much as there is room for, to the front of the buffer.
    /// Returns the number of bytes copied.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> usize {
        self.n_filled = self.bytes.len().min(bytes.len());
        for (place, byte) in self.bytes.iter_mut().zip(bytes) {
            place.write(*byte);
        }
        self.n_filled
    }

    /// Returns the bytes that have been filled.
    pub(crate) fn into_filled(self) -> &'a mut [u8] {
        let filled = &raw mut self.bytes[..self.n_filled];
        // SAFETY: the slice was borrowed for `'a`, and its bytes are initialised by the invariant.
        unsafe { &mut *(filled as *mut [u8]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    #[test]
    fn exactly_the_bytes_of_the_last_read_are_filled() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let mut writer = File::from(writer);
        writer.write_all(b"seven b").unwrap();
        let mut bytes = [MaybeUninit::uninit(); 16];
        let mut buffer = Uninit::new(&mut bytes);
        assert_eq!(buffer.len(), 16);
        assert_eq!(buffer.read(&reader, 5).unwrap(), 5);
        assert_eq!(buffer.read(&reader, usize::MAX).unwrap(), 2);
        assert_eq!(buffer.into_filled(), b" b");
        let mut buffer = Uninit::new(&mut bytes);
        let error = buffer.read(&writer, 16).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::EBADF as i32));
        drop(writer);
        assert_eq!(buffer.read(&reader, 16).unwrap(), 0);
        assert_eq!(buffer.into_filled(), b"");
        let mut buffer = Uninit::new(&mut bytes);
        let fill = |bytes: &mut [u8]| {
            assert_eq!(bytes, [0; 16]);
            bytes[..2].copy_from_slice(b"ab");
            Ok(2)
        };
        assert_eq!(buffer.read_cleared(fill).unwrap(), 2);
        assert_eq!(buffer.n_filled(), 2);
        assert_eq!(buffer.into_filled(), b"ab");
        let mut buffer = Uninit::new(&mut bytes);
        assert_eq!(buffer.fill(b"sixteen and some more"), 16);
        assert_eq!(buffer.fill(b"few"), 3);
        assert_eq!(buffer.into_filled(), b"few");
    }
}
