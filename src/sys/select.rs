//! `select(2)`, the one call that waits.
//!
//! Manuals: POSIX `select`, Linux `select(2)`, macOS `select(2)` (for the unlimited symbol and the
//! limit on the timeout), FreeBSD `select(2)`, illumos `select(3C)`.

use super::Errno;
#[cfg(any(target_os = "linux", target_os = "android"))]
use super::fd::lend;
use super::fd_set::FdSet;
use nix::libc;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

/// Maximum length of one wait in seconds; the loop simply asks again. Darwin refuses more than
/// 10^8 s.
const MAX_WAIT_S: u64 = 86_400;

/// The three sets that go into `select`, and come back as what is ready.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    pub(crate) read: FdSet,
    pub(crate) write: FdSet,
    pub(crate) except: FdSet,
    bound: usize,
}

/// How a wait has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// This many bits are set; zero after the time limit or a signal.
    Ready(usize),
    /// Some member is not an open descriptor. The sets are empty.
    BadFd,
    /// The system is short of something. The sets are empty; ask again after a pause.
    Trouble(Errno),
}

impl Sets {
    /// Empties the sets and makes room for descriptors up to `highest`.
    pub(crate) fn reset(&mut self, highest: RawFd) {
        self.bound = usize::try_from(highest + 1).expect("an open descriptor is not negative");
        self.read.reset(self.bound);
        self.write.reset(self.bound);
        self.except.reset(self.bound);
    }

    /// Waits until a member is ready, for at most `wait`, or without limit.
    pub(crate) fn wait(&mut self, wait: Option<Duration>) -> Waited {
        let mut limit = wait.map(timeval);
        let limit = limit
            .as_mut()
            .map_or(std::ptr::null_mut(), std::ptr::from_mut);
        let nfds = libc::c_int::try_from(self.bound).expect("descriptors are ints");
        let read = self.read.as_mut_ptr(self.bound);
        let write = self.write.as_mut_ptr(self.bound);
        let except = self.except.as_mut_ptr(self.bound);
        // SAFETY: each pointer is null or to at least `nfds` bits (as asserted where it was taken),
        // rounded up to eight bytes, which nothing else reads or writes meanwhile; `limit` is null
        // or a timeval of ours.
        let n_ready = unsafe { raw(nfds, read, write, except, limit) };
        match Errno::result(n_ready) {
            Ok(n_ready) => Waited::Ready(usize::try_from(n_ready).unwrap_or(0)),
            Err(errno) => {
                // After an error the sets are garbage.
                for set in [&mut self.read, &mut self.write, &mut self.except] {
                    set.distrust();
                }
                self.reset(nfds - 1);
                match errno {
                    Errno::EINTR => Waited::Ready(0),
                    Errno::EBADF => Waited::BadFd,
                    errno => {
                        debug_assert_ne!(errno, Errno::EINVAL, "select refused {wait:?}");
                        Waited::Trouble(errno)
                    }
                }
            }
        }
    }
}

/// Returns whether a call on `fd` would not block now, perhaps because it would fail. May say no
/// when a signal comes.
pub(crate) fn is_ready(fd: impl AsFd, to_write: bool) -> bool {
    is_number_ready(fd.as_fd().as_raw_fd(), to_write)
}

/// [`is_ready`] for a descriptor number, which counts as ready if it is not open.
pub(crate) fn is_number_ready(fd: RawFd, to_write: bool) -> bool {
    let mut sets = Sets::default();
    sets.reset(fd);
    match to_write {
        true => sets.write.insert(fd),
        false => sets.read.insert(fd),
    }
    counts_as_ready(sets.wait(Some(Duration::ZERO)))
}

fn counts_as_ready(waited: Waited) -> bool {
    match waited {
        Waited::Ready(n_ready) => n_ready > 0,
        // The call that follows does not block, and returns the error.
        Waited::BadFd => true,
        // A system that is short of memory has not said that the call would not block the thread.
        Waited::Trouble(_) => false,
    }
}

/// Returns whether descriptor `fd` is readable only because of an error: one that the next call
/// returns, or one in the error queue of a socket, which no ordinary call takes out. `select` shows
/// no difference between an error and data.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn has_only_error(fd: RawFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut asked = [PollFd::new(lend(&fd, fd), PollFlags::POLLIN)];
    let is_asked = poll(&mut asked, PollTimeout::ZERO) == Ok(1);
    let found = asked[0].revents().filter(|_| is_asked);
    found.is_some_and(|found| {
        found.contains(PollFlags::POLLERR)
            && !found.intersects(PollFlags::POLLIN | PollFlags::POLLHUP)
    })
}

/// Returns false: only Linux has sockets with an error queue.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn has_only_error(_fd: RawFd) -> bool {
    false
}

/// Rounds up to a microsecond, so that no wait ends early, and clamps.
fn timeval(wait: Duration) -> libc::timeval {
    // In 64 bits: to divide 128 takes a hundred instructions.
    let whole_us = wait.as_secs().min(MAX_WAIT_S) * 1_000_000;
    let wait_us = whole_us + u64::from(wait.subsec_nanos().div_ceil(1_000));
    let wait_us = wait_us.min(MAX_WAIT_S * 1_000_000);
    libc::timeval {
        tv_sec: (wait_us / 1_000_000) as _,
        tv_usec: (wait_us % 1_000_000) as _,
    }
}

#[cfg(not(target_vendor = "apple"))]
use libc::select as raw;

// The plain symbol of Apple's libc fails with EINVAL past FD_SETSIZE; this one has no limit.
#[cfg(target_vendor = "apple")]
unsafe extern "C" {
    #[link_name = "select$DARWIN_EXTSN"]
    fn raw(
        nfds: libc::c_int,
        read: *mut libc::fd_set,
        write: *mut libc::fd_set,
        except: *mut libc::fd_set,
        limit: *mut libc::timeval,
    ) -> libc::c_int;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(wait: Duration) -> (i128, i128) {
        let limit = timeval(wait);
        (i128::from(limit.tv_sec), i128::from(limit.tv_usec))
    }

    #[test]
    fn waits_are_rounded_up_clamped_and_in_range() {
        assert_eq!(parts(Duration::ZERO), (0, 0));
        assert_eq!(parts(Duration::from_nanos(1)), (0, 1));
        assert_eq!(parts(Duration::from_nanos(999)), (0, 1));
        assert_eq!(parts(Duration::from_nanos(1_000)), (0, 1));
        assert_eq!(parts(Duration::from_nanos(999_999_001)), (1, 0));
        for seconds in [86_400, 100_000_001, (1 << 32) + 1, u64::MAX / 10, u64::MAX] {
            assert_eq!(parts(Duration::from_secs(seconds)), (86_400, 0));
        }
        assert_eq!(parts(Duration::MAX), (86_400, 0));
    }

    #[test]
    fn a_select_that_fails_for_lack_of_memory_does_not_let_a_call_block() {
        assert!(!counts_as_ready(Waited::Trouble(Errno::EAGAIN)));
        assert!(!counts_as_ready(Waited::Ready(0)));
        assert!(counts_as_ready(Waited::Ready(1)));
        assert!(counts_as_ready(Waited::BadFd));
    }

    #[test]
    fn ten_thousand_waits_are_monotone_and_never_short() {
        let mut last = (0, 0);
        for step in 0..10_000_u32 {
            let wait = Duration::from_nanos((1.005_f64.powi(step as i32).min(1e18)) as u64);
            let (s, us) = parts(wait);
            assert!((0..1_000_000).contains(&us) && (0..=86_400).contains(&s));
            let given = Duration::from_micros((s * 1_000_000 + us) as u64);
            assert!(given >= wait.min(Duration::from_secs(MAX_WAIT_S)));
            assert!((s, us) >= last, "not monotone at {wait:?}");
            last = (s, us);
        }
    }
}
