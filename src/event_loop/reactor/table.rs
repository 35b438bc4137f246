//! Sources by descriptor number, in pages, so that one high number costs a page and not a table up
//! to that number.

use super::source::Source;
use std::os::fd::RawFd;

/// Number of descriptors per page. A page takes about 5 KiB.
const PAGE: usize = 32;

/// The registered descriptors of one loop, found by number.
#[derive(Debug, Default)]
pub(super) struct Table {
    pages: Vec<Option<Box<Page>>>,
    /// An empty page, kept because the next descriptor of a server that accepts and closes one
    /// connection after the other would need it again.
    spare: Option<Box<Page>>,
}

#[derive(Debug)]
struct Page {
    n_used: usize,
    sources: [Option<Source>; PAGE],
}

/// Returns the page of `fd`, and its place there. A negative number is beyond all pages.
fn position(fd: RawFd) -> (usize, usize) {
    (fd as usize / PAGE, fd as usize % PAGE)
}

impl Table {
    pub(super) fn get(&self, fd: RawFd) -> Option<&Source> {
        let (page, place) = position(fd);
        self.pages.get(page)?.as_ref()?.sources[place].as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, fd: RawFd) -> Option<&mut Source> {
        let (page, place) = position(fd);
        self.pages.get_mut(page)?.as_mut()?.sources[place].as_mut()
    }

    /// Puts `source` in the place of `fd`, which must not be negative.
    #[inline]
    pub(super) fn insert(&mut self, fd: RawFd, source: Source) {
        // Only the vector of pointers grows with the number: 8 bytes for each 32 descriptors.
        let (page, place) = position(fd);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let spare = &mut self.spare;
        let page = self.pages[page].get_or_insert_with(|| {
            spare.take().unwrap_or_else(|| {
                Box::new(Page {
                    n_used: 0,
                    sources: [const { None }; PAGE],
                })
            })
        });
        // A leftover registration of the number may still be there; it has been counted.
        page.n_used += usize::from(page.sources[place].is_none());
        page.sources[place] = Some(source);
    }

    /// Drops the source of `fd`, if there is one.
    pub(super) fn remove(&mut self, fd: RawFd) {
        let (index, place) = position(fd);
        let Some(entry) = self.pages.get_mut(index) else {
            return;
        };
        let Some(page) = entry else { return };
        if page.sources[place].is_none() {
            return;
        }
        // Where it is, because to move it out costs more than all the rest.
        page.sources[place] = None;
        page.n_used -= 1;
        if page.n_used == 0 {
            self.spare = entry.take();
            // Without this, one descriptor with a high number would make every later walk through
            // the table longer.
            while self.pages.last().is_some_and(Option::is_none) {
                self.pages.pop();
            }
            if self.pages.capacity() > 4 * self.pages.len().max(64) {
                self.pages.shrink_to_fit();
            }
        }
    }

    /// Goes through all registered descriptors, from the lowest.
    pub(super) fn iter(&self) -> impl Iterator<Item = (RawFd, &Source)> {
        let pages = self.pages.iter().enumerate();
        let used = pages.filter_map(|(index, page)| Some((index, page.as_ref()?)));
        used.flat_map(|(index, page)| {
            let sources = page.sources.iter().enumerate();
            sources.filter_map(move |(place, source)| {
                Some(((index * PAGE + place) as RawFd, source.as_ref()?))
            })
        })
    }

    /// Calls `f` with each registered descriptor, from the lowest.
    pub(super) fn for_each_mut(&mut self, mut f: impl FnMut(RawFd, &mut Source)) {
        for (index, page) in self.pages.iter_mut().enumerate() {
            let sources = page.iter_mut().flat_map(|page| &mut page.sources);
            for (place, source) in sources.enumerate() {
                if let Some(source) = source {
                    f((index * PAGE + place) as RawFd, source);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::Location;

    #[test]
    fn sources_are_found_by_their_numbers_and_pages_are_given_back() {
        let mut table = Table::default();
        let numbers = [0, 1, 31, 32, 19_900, 1_000_000];
        for fd in numbers {
            table.insert(fd, Source::new(fd as u64, Location::caller(), None));
        }
        let found: Vec<_> = table.iter().map(|(fd, _)| fd).collect();
        assert_eq!(found, numbers);
        for fd in numbers {
            assert_eq!(table.get(fd).unwrap().generation, fd as u64);
        }
        for fd in [-1, 2, 33, 19_901, RawFd::MAX] {
            table.remove(fd);
            assert!(table.get(fd).is_none());
        }
        assert_eq!(table.iter().count(), numbers.len());
        for fd in numbers.into_iter().rev() {
            assert!(table.get(fd).is_some());
            table.remove(fd);
            assert!(table.get(fd).is_none());
        }
        assert!(table.pages.is_empty() && table.pages.capacity() < 300);
    }
}
