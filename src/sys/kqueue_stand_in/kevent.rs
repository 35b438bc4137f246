//! The types of `nix::sys::event`, as far as this crate uses them.

use std::ops::BitOr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EvFlags(u16);

impl EvFlags {
    pub(crate) const EV_ADD: EvFlags = EvFlags(0x1);
    pub(crate) const EV_DELETE: EvFlags = EvFlags(0x2);
    pub(crate) const EV_ENABLE: EvFlags = EvFlags(0x4);
    pub(crate) const EV_ONESHOT: EvFlags = EvFlags(0x10);
    pub(crate) const EV_CLEAR: EvFlags = EvFlags(0x20);
    pub(crate) const EV_ERROR: EvFlags = EvFlags(0x4000);
    pub(crate) const EV_EOF: EvFlags = EvFlags(0x8000);

    pub(crate) fn empty() -> EvFlags {
        EvFlags(0)
    }

    pub(crate) fn intersects(self, other: EvFlags) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for EvFlags {
    type Output = EvFlags;

    fn bitor(self, other: EvFlags) -> EvFlags {
        EvFlags(self.0 | other.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "nix has these names")]
pub(crate) enum EventFilter {
    EVFILT_READ,
    EVFILT_WRITE,
    EVFILT_PROC,
    EVFILT_TIMER,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct FilterFlag;

impl FilterFlag {
    /// The one that EVFILT_PROC has here.
    pub(crate) const NOTE_EXIT: FilterFlag = FilterFlag;

    pub(crate) fn empty() -> FilterFlag {
        FilterFlag
    }
}

/// `struct kevent`, as far as this crate uses it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KEvent {
    ident: usize,
    filter: EventFilter,
    flags: EvFlags,
    data: isize,
    udata: isize,
}

impl KEvent {
    pub(crate) fn new(
        ident: usize,
        filter: EventFilter,
        flags: EvFlags,
        _fflags: FilterFlag,
        data: isize,
        udata: isize,
    ) -> KEvent {
        KEvent {
            ident,
            filter,
            flags,
            data,
            udata,
        }
    }

    pub(crate) fn ident(&self) -> usize {
        self.ident
    }

    /// For EVFILT_TIMER, the time to wait in milliseconds.
    pub(super) fn data(&self) -> isize {
        self.data
    }

    /// The filter, which is always one of the four here.
    pub(super) fn kind(&self) -> EventFilter {
        self.filter
    }

    pub(crate) fn filter(&self) -> nix::Result<EventFilter> {
        Ok(self.filter)
    }

    pub(crate) fn flags(&self) -> EvFlags {
        self.flags
    }

    pub(crate) fn udata(&self) -> isize {
        self.udata
    }
}
