//! The order in which ready descriptors are served, for a loop with a seed.

use super::Reactor;
use crate::event_loop::shuffle::{below, reorder};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::RawFd;

impl Reactor {
    /// Puts what was ready in the last wait into an order that the seed decides.
    ///
    /// Before that they are put into the order of their registration. The numbers of descriptors
    /// depend on what else the process has open, which must not change the outcome.
    pub(crate) fn shuffle_ready(&mut self) {
        let sources = &self.sources;
        let age = |fd: RawFd| Reverse(sources.get(fd).map(|source| source.generation));
        sort_by(&mut self.ready, |&(fd, direction)| {
            (age(fd), direction as usize)
        });
        sort_by(&mut self.events, |event| (age(event.fd), 0));
        reorder(&mut self.ready, below);
        reorder(&mut self.events, below);
    }
}

/// Sorts `items` by a key, and leaves those with equal keys in their order.
///
/// Not by `sort_by_key`, which is 10 kB of code for each type of items in every program, with a
/// seed or without. A heap is a tenth of that, and only keys go through it, so one is enough.
fn sort_by<T: Copy>(items: &mut [T], key: impl Fn(&T) -> (Reverse<Option<u64>>, usize)) {
    let keys = items
        .iter()
        .enumerate()
        .map(|(index, item)| (key(item), index));
    let keys = keys.collect::<BinaryHeap<_>>().into_sorted_vec();
    let sorted: Vec<T> = keys.iter().map(|&(_, index)| items[index]).collect();
    items.copy_from_slice(&sorted);
}
