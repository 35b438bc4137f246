//! Sets of descriptors of any size, laid out as the kernel wants them. Safe code.
//!
//! `libc::fd_set` has room for `FD_SETSIZE` descriptors, and `FD_SET` past it panics or, in C,
//! writes out of bounds. Here the words live on the heap and grow to the highest member. The
//! layout is that of `<sys/select.h>` everywhere: descriptor `n` is bit `n % BITS` of word
//! `n / BITS`, in words of the platform's own width, which matters on big-endian machines.
//!
//! **Invariant.** All bits beyond the members that were inserted are zero, and the allocation is
//! a multiple of eight bytes, because some kernels copy whole `long`s whatever the word is.

use std::mem;
use std::os::fd::RawFd;

/// One word of the platform's `fd_set`, as wide as libc declares it: a `long` on most, an `int` on
/// macOS, NetBSD, OpenBSD, Haiku and QNX.
type Word = <Aligned<{ align_of::<nix::libc::fd_set>() }> as WordOf>::Word;

/// Finds the word by its alignment, so that no list of systems has to be kept.
struct Aligned<const BYTES: usize>;

trait WordOf {
    type Word;
}

impl WordOf for Aligned<4> {
    type Word = u32;
}

impl WordOf for Aligned<8> {
    type Word = u64;
}

const BITS: usize = Word::BITS as usize;
const WORDS_PER_8_BYTES: usize = 64 / BITS;

/// A growable set of descriptors.
#[derive(Debug, Default)]
pub(crate) struct FdSet {
    words: Vec<Word>,
    /// False if all bits are zero for certain. The set of writers and the exceptional one nearly
    /// always are, and then need neither be cleared nor searched.
    may_have_members: bool,
}

impl FdSet {
    /// Empties the set and makes room for descriptors below `bound`.
    ///
    /// Gives memory back once it is four times what is needed.
    #[inline]
    pub(crate) fn reset(&mut self, bound: usize) {
        let n_words = n_words(bound);
        // From turn to turn the size hardly ever changes.
        if self.words.len() != n_words {
            self.resize(n_words);
        } else if mem::take(&mut self.may_have_members) {
            self.words.fill(0);
        }
    }

    /// Empties the set and changes its size.
    #[cold]
    fn resize(&mut self, n_words: usize) {
        self.may_have_members = false;
        self.words.clear();
        if self.words.capacity() > 4 * n_words.max(64) {
            self.words.shrink_to(n_words);
        }
        self.words.resize(n_words, 0);
    }

    /// Adds `fd`, which must be below the bound of the last `reset`.
    pub(crate) fn insert(&mut self, fd: RawFd) {
        let (word, bit) = position(fd);
        self.words[word] |= bit;
        self.may_have_members = true;
    }

    /// Adds `fd`, making room for it. Returns false if it was a member already.
    ///
    /// A set that is changed by this and by [`take`](FdSet::take) is only as long as its members
    /// need, and is never reset.
    pub(crate) fn add(&mut self, fd: RawFd) -> bool {
        let (index, bit) = position(fd);
        if self.words.len() <= index {
            self.words.resize(n_words(fd as usize + 1), 0);
        }
        let word = &mut self.words[index];
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Removes `fd`, and gives up the room behind the highest member. Returns false if it was none.
    pub(crate) fn take(&mut self, fd: RawFd) -> bool {
        let (index, bit) = position(fd);
        let Some(word) = self.words.get_mut(index).filter(|word| **word & bit != 0) else {
            return false;
        };
        *word &= !bit;
        // Otherwise one descriptor with a high number would make all later copies longer.
        if *word == 0 && index + WORDS_PER_8_BYTES >= self.words.len() {
            self.trim();
        }
        true
    }

    fn trim(&mut self) {
        while self.words.ends_with(&[0; WORDS_PER_8_BYTES]) {
            self.words.truncate(self.words.len() - WORDS_PER_8_BYTES);
        }
        if self.words.capacity() > 4 * self.words.len().max(64) {
            self.words.shrink_to(self.words.len());
        }
    }

    /// Returns the highest member.
    pub(crate) fn highest(&self) -> Option<RawFd> {
        let index = self.words.iter().rposition(|&word| word != 0)?;
        let bit = self.words[index].ilog2();
        Some((index * BITS) as RawFd + bit as RawFd)
    }

    /// Inserts the members of `other`, which must be below the bound of the last `reset`.
    pub(crate) fn insert_all(&mut self, other: &FdSet) {
        if !other.words.is_empty() {
            let words = self.words.iter_mut().zip(&other.words);
            words.for_each(|(word, &other)| *word |= other);
            self.may_have_members = true;
        }
    }

    /// Goes through all members, from the lowest.
    pub(crate) fn iter(&self) -> impl Iterator<Item = RawFd> {
        let words = self.words.iter().enumerate();
        words.flat_map(|(index, &word)| {
            // Without the lowest bit, until there is none.
            let less = |&word: &Word| Some(word & (word - 1)).filter(|&word| word != 0);
            let rests = std::iter::successors(Some(word).filter(|&word| word != 0), less);
            rests.map(move |word| (index * BITS) as RawFd + word.trailing_zeros() as RawFd)
        })
    }

    /// Says that the bits may be anything: the system may have written to them.
    pub(crate) fn distrust(&mut self) {
        self.may_have_members = true;
    }

    /// Removes `fd`, if it is a member.
    pub(crate) fn remove(&mut self, fd: RawFd) {
        let (word, bit) = position(fd);
        if let Some(word) = self.words.get_mut(word) {
            *word &= !bit;
        }
    }

    /// Returns whether `fd` is a member.
    pub(crate) fn contains(&self, fd: RawFd) -> bool {
        let (word, bit) = position(fd);
        self.words.get(word).is_some_and(|w| w & bit != 0)
    }

    /// Calls `each` for every member, beginning at `first` and wrapping round.
    ///
    /// Empty words cost one comparison.
    pub(crate) fn for_each_from(&self, first: RawFd, mut each: impl FnMut(RawFd)) {
        let n_words = self.words.len();
        if n_words == 0 || !self.may_have_members {
            return;
        }
        let (start, bit) = position(first);
        let (start, low) = if start < n_words {
            (start, bit - 1)
        } else {
            (0, 0)
        };
        let mut members = |index: usize, mut word: Word| {
            while word != 0 {
                each((index * BITS) as RawFd + word.trailing_zeros() as RawFd);
                word &= word - 1;
            }
        };
        members(start, self.words[start] & !low);
        for step in 1..n_words {
            let index = (start + step) % n_words;
            members(index, self.words[index]);
        }
        members(start, self.words[start] & low);
    }

    /// The words, for `select` to read and write up to `bound`; null if the set is empty.
    pub(crate) fn as_mut_ptr(&mut self, bound: usize) -> *mut nix::libc::fd_set {
        // The set of writers and the exceptional one nearly always are empty. The system then need
        // not copy them in and out.
        if !self.may_have_members {
            return std::ptr::null_mut();
        }
        assert!(bound <= self.capacity());
        self.words.as_mut_ptr().cast()
    }

    /// Number of descriptors that there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.words.len() * BITS
    }
}

/// Number of words that have room for descriptors below `bound`.
fn n_words(bound: usize) -> usize {
    bound.div_ceil(64) * WORDS_PER_8_BYTES
}

fn position(fd: RawFd) -> (usize, Word) {
    let fd = usize::try_from(fd).expect("an open descriptor is not negative");
    (fd / BITS, 1 << (fd % BITS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_bit_is_where_fd_set_puts_it() {
        for fd in 0..nix::libc::FD_SETSIZE as RawFd {
            let mut ours = FdSet::default();
            ours.reset(nix::libc::FD_SETSIZE);
            ours.insert(fd);
            // SAFETY: an `fd_set` of all zeroes is an empty set.
            let mut theirs: nix::libc::fd_set = unsafe { std::mem::zeroed() };
            // SAFETY: `fd` is below FD_SETSIZE.
            unsafe { nix::libc::FD_SET(fd, &mut theirs) };
            // SAFETY: an `fd_set` is plain words without padding, and this reads exactly its size.
            let theirs = unsafe {
                std::slice::from_raw_parts(
                    (&raw const theirs).cast::<u8>(),
                    size_of::<nix::libc::fd_set>(),
                )
            };
            let ours: Vec<u8> = ours.words.iter().flat_map(|w| w.to_ne_bytes()).collect();
            assert_eq!(ours, theirs, "descriptor {fd}");
        }
    }

    #[test]
    fn rooms_are_multiples_of_eight_bytes_and_never_too_small() {
        let mut set = FdSet::default();
        for bound in 0..300 {
            set.reset(bound);
            assert!(set.capacity() >= bound && set.capacity() % 64 == 0);
            assert!(set.capacity() < bound + 64);
        }
    }

    #[test]
    fn a_scan_starts_anywhere_and_finds_everything_once() {
        let members = [0, 1, 31, 32, 63, 64, 65, 127, 128, 500, 1_499];
        let mut set = FdSet::default();
        set.reset(1_500);
        members.iter().for_each(|&fd| set.insert(fd));
        // There is room up to 1536.
        for first in [
            0, 1, 32, 33, 64, 66, 499, 500, 501, 1_499, 1_500, 1_535, 1_536, 99_999,
        ] {
            let mut seen = Vec::new();
            set.for_each_from(first, |fd| seen.push(fd));
            assert_eq!(seen.len(), members.len(), "from {first}");
            assert_eq!(
                seen.iter().copied().collect::<BTreeSet<_>>(),
                members.into()
            );
            let ahead = members.iter().copied().find(|&fd| fd >= first);
            assert_eq!(seen[0], ahead.unwrap_or(0), "from {first}");
        }
    }

    #[test]
    fn members_are_those_that_were_inserted() {
        let members = [3, 64, 130];
        let mut set = FdSet::default();
        set.reset(200);
        members.iter().for_each(|&fd| set.insert(fd));
        for fd in 0..300 {
            assert_eq!(set.contains(fd), members.contains(&fd), "descriptor {fd}");
        }
        for fd in [64, 65, 5_000] {
            set.remove(fd);
            assert!(!set.contains(fd));
        }
        assert!(set.contains(3) && set.contains(130));
    }

    #[test]
    fn a_set_gives_its_memory_back() {
        let mut set = FdSet::default();
        set.reset(1_000_000);
        set.reset(10);
        assert!(set.words.capacity() <= 4 * 64, "{}", set.words.capacity());
        assert!(!set.contains(900_000));
    }

    #[test]
    fn up_to_four_times_what_is_needed_is_kept() {
        let mut set = FdSet::default();
        let room = 4 * 64;
        set.reset(room * BITS);
        assert_eq!(set.words.capacity(), room);
        set.reset(10);
        assert_eq!(set.words.capacity(), room);
    }
}
