//! Numbers, names and sets of signals.

use nix::libc::{self, c_int};
use std::io;

/// One more than the highest signal number of any Unix: 127 on FreeBSD and some Linuxes.
pub(super) const N_SIGNALS: usize = 128;

/// Number of words for one bit a signal, in words that every processor has as an atomic.
pub(super) const N_WORDS: usize = N_SIGNALS / 32;

/// Signals that are not to be listened to. The first two cannot be caught; the others say that an
/// instruction has failed, which would be repeated as soon as the handler returns, for ever.
const FORBIDDEN: [c_int; 6] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
];

/// A set of signals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Set(u128);

impl Set {
    /// The signals whose bits are set in `bits`.
    pub(super) fn from_bits(bits: u128) -> Set {
        Set(bits)
    }

    /// Adds a signal; an error for numbers that no system uses.
    pub(crate) fn insert(&mut self, signal: c_int) -> io::Result<()> {
        let number = usize::try_from(signal).unwrap_or(0);
        if !(1..N_SIGNALS).contains(&number) || FORBIDDEN.contains(&signal) {
            return Err(refused(signal));
        }
        self.0 |= 1 << number;
        Ok(())
    }

    /// Takes the lowest signal out.
    pub(crate) fn pop(&mut self) -> Option<c_int> {
        if self.0 == 0 {
            return None;
        }
        let lowest = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        Some(lowest as c_int)
    }

    /// The bits of the signals from `32 * index` on.
    pub(super) fn word(self, index: usize) -> u32 {
        (self.0 >> (32 * index)) as u32
    }
}

impl Iterator for Set {
    type Item = c_int;

    fn next(&mut self) -> Option<c_int> {
        self.pop()
    }
}

/// The error for a signal that cannot be listened to.
pub(super) fn refused(signal: c_int) -> io::Error {
    let name = name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned);
    let text = format!("{name} cannot be listened to");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// The name that this system has for a signal; real-time signals have none.
pub(crate) fn name(signal: c_int) -> Option<&'static str> {
    let signal = nix::sys::signal::Signal::try_from(signal).ok()?;
    Some(signal.as_str())
}
