//! Giving freed memory back to the system.

/// Returns memory that the process has freed to the system.
///
/// glibc keeps small pieces that were freed for later, above all if something that is still in use
/// lies behind them. Other allocators give whole pages back by themselves.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn give_back() {
    // SAFETY: the function has no conditions. It takes the locks of the allocator, which no code of
    // this crate holds.
    let _ = unsafe { nix::libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn give_back() {}
