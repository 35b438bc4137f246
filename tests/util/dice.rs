//! Random numbers that are the same in every run.

/// A generator of random numbers (xorshift). The seed must not be zero.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    /// Returns fewer than `max` bytes.
    pub(crate) fn bytes(&mut self, max: u64) -> Vec<u8> {
        let n = self.below(max);
        (0..n).map(|_| self.below(256) as u8).collect()
    }
}
