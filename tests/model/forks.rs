//! A process of two loops.

use crate::steps::Shared;

pub(crate) fn fork_here(_world: &Shared, _inside: bool, _seed: u64) {}
