//! The order in which a loop with a seed does what may happen in any order.
//!
//! The state is in a cell of the thread, so that a loop without a seed finds that out by one look.
//!
//! The numbers are those of SplitMix64 (Steele, Lea and Flood, 2014): a counter whose value is
//! mixed. The same seed gives the same numbers on every system.

use std::cell::Cell;

thread_local! {
    static STATE: Cell<Option<Shuffle>> = const { Cell::new(None) };
}

/// Sets what decides the order on this thread. The environment variable takes precedence over the
/// program, so that a user can repeat a run that has failed.
pub(crate) fn set_seed(seed: Option<u64>) {
    STATE.set(seed_of_environment().or(seed).map(Shuffle::new));
}

/// Returns the seed that the user has chosen. What is no number counts as none.
pub(crate) fn seed_of_environment() -> Option<u64> {
    std::env::var("FAHRENHEIT_SEED").ok()?.parse().ok()
}

/// True if this thread has a seed.
pub(crate) fn is_on() -> bool {
    STATE.get().is_some()
}

/// Returns a number below `n` that depends on the seed of this thread, or 0 if there is none.
pub(crate) fn below(n: usize) -> usize {
    let Some(mut shuffle) = STATE.get() else {
        return 0;
    };
    let number = shuffle.below(n);
    STATE.set(Some(shuffle));
    number
}

/// Numbers that depend on a seed alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shuffle {
    counter: u64,
}

impl Shuffle {
    pub(crate) fn new(seed: u64) -> Shuffle {
        Shuffle { counter: seed }
    }

    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.counter;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `n`, or 0 if `n` is 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        // The high half of the product is evenly spread, as far as 64 bits go.
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

/// Puts `items` into the order that `pick` says: it returns a number below its argument.
pub(crate) fn reorder<T>(items: &mut [T], mut pick: impl FnMut(usize) -> usize) {
    for n in (2..=items.len()).rev() {
        items.swap(n - 1, pick(n));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn all_orders_come_and_equal_seeds_give_equal_orders() {
        let order = |seed| {
            let mut items = [0, 1, 2, 3];
            let mut shuffle = Shuffle::new(seed);
            reorder(&mut items, |n| shuffle.below(n));
            items
        };
        let orders: BTreeSet<_> = (0..1_000).map(order).collect();
        assert_eq!(orders.len(), 24);
        assert!((0..100).all(|seed| order(seed) == order(seed)));
    }
}
