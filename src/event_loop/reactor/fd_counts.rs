//! How many descriptors are registered, for metrics.

use super::Reactor;
use super::source::Tenure;

/// Numbers of registered descriptors.
#[derive(Debug, Default)]
pub(crate) struct FdCounts {
    pub(crate) n_young: usize,
    pub(crate) n_tenured: usize,
}

impl Reactor {
    /// Counts the registered descriptors.
    pub(crate) fn n_fds(&self) -> FdCounts {
        let mut counts = FdCounts::default();
        for (_, source) in self.sources.iter() {
            match source.tenure {
                Tenure::Tenured => counts.n_tenured += 1,
                Tenure::Young(_) | Tenure::Refused => counts.n_young += 1,
            }
        }
        counts
    }
}
