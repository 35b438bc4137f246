//! What a test costs: processor time, descriptors, threads.

use std::time::Duration;
#[cfg(target_os = "linux")]
use std::time::Instant;

/// Set by `ci/goals` and `ci/run` where they measure the optimised crate, with nothing beside it.
#[cfg(target_os = "linux")]
pub(super) const CPU_LIMITS: &str = "FAHRENHEIT_TEST_CPU_LIMITS";

/// Here nix has no word for it, so limits on CPU time cannot fail.
#[cfg(any(target_os = "solaris", target_os = "haiku"))]
pub(crate) fn cpu_time() -> Duration {
    Duration::ZERO
}

/// The CPU time that this thread has used; where the system does not say, the process.
#[cfg(not(any(target_os = "solaris", target_os = "haiku")))]
pub(crate) fn cpu_time() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    #[cfg(any(target_os = "linux", target_os = "freebsd"))]
    let who = UsageWho::RUSAGE_THREAD;
    #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
    let who = UsageWho::RUSAGE_SELF;
    let usage = getrusage(who).unwrap();
    [usage.user_time(), usage.system_time()]
        .map(|time| {
            Duration::from_secs(time.tv_sec() as u64) + Duration::from_micros(time.tv_usec() as u64)
        })
        .iter()
        .sum()
}

/// What waiting costs this thread, or this process.
#[cfg(target_os = "linux")]
pub(crate) struct Cost {
    begun: Instant,
    who: nix::sys::resource::UsageWho,
    usage: nix::sys::resource::Usage,
    /// How long it was ready to run while all processors were busy.
    queued: Option<Duration>,
}

#[cfg(target_os = "linux")]
impl Cost {
    pub(crate) fn begin() -> Cost {
        Cost::of(nix::sys::resource::UsageWho::RUSAGE_THREAD)
    }

    pub(crate) fn begin_of_process() -> Cost {
        Cost::of(nix::sys::resource::UsageWho::RUSAGE_SELF)
    }

    fn of(who: nix::sys::resource::UsageWho) -> Cost {
        // Before the call of `getrusage`, by which tests under strace find where they begin.
        let queued = queued(who);
        let usage = nix::sys::resource::getrusage(who).unwrap();
        let begun = Instant::now();
        Cost {
            begun,
            who,
            usage,
            queued,
        }
    }

    /// Prints the CPU time that was used, and checks that the loop did not spin: it ran for less
    /// than a third of the time. On a busy machine a loop that spins may get less than that, but it
    /// is then ready to run nearly always. What else runs adds to CPU time, so `limit` itself is
    /// only checked where [`CPU_LIMITS`] is set.
    #[track_caller]
    pub(crate) fn check(self, what: &str, limit: Duration) -> Cost {
        let wall = self.begun.elapsed();
        let usage = nix::sys::resource::getrusage(self.who).unwrap();
        let now = Cost {
            begun: Instant::now(),
            who: self.who,
            usage,
            queued: queued(self.who),
        };
        let cpu = |usage: &nix::sys::resource::Usage| {
            let us = [usage.user_time(), usage.system_time()]
                .map(|t| t.tv_sec() as u64 * 1_000_000 + t.tv_usec() as u64);
            Duration::from_micros(us[0] + us[1])
        };
        let spent = cpu(&now.usage) - cpu(&self.usage);
        println!("{what} cost {spent:?}");
        let queued = match (self.queued, now.queued) {
            (Some(before), Some(after)) => after - before,
            _ => Duration::ZERO,
        };
        assert!(spent < wall / 3, "{what}: {spent:?} of {wall:?}");
        // Not a third: after its sleep, an idle loop may have to wait long for a processor.
        assert!(
            spent + queued < wall / 10 * 9,
            "{what}: {spent:?}, and {queued:?} in the queue for a processor, of {wall:?}"
        );
        if std::env::var_os(CPU_LIMITS).is_some() {
            assert!(spent < limit, "{what}: {spent:?}");
        }
        now
    }

    /// How often the processor had been given up by then.
    pub(crate) fn n_switches(&self) -> std::ffi::c_long {
        self.usage.voluntary_context_switches()
    }
}

/// How long this thread, or the first thread of this process, was ready to run while all processors
/// were busy. `None` if the kernel does not count it, or if no descriptor is free to ask.
#[cfg(target_os = "linux")]
fn queued(who: nix::sys::resource::UsageWho) -> Option<Duration> {
    let path = match who {
        nix::sys::resource::UsageWho::RUSAGE_THREAD => "/proc/thread-self/schedstat",
        _ => "/proc/self/schedstat",
    };
    let text = std::fs::read_to_string(path).ok()?;
    let nanoseconds = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// The open descriptors of this process, without the one that this takes.
#[cfg(target_os = "linux")]
pub(crate) fn open_fds() -> std::collections::BTreeSet<i32> {
    let listed: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    let is_open = |fd: &i32| std::fs::read_link(format!("/proc/self/fd/{fd}")).is_ok();
    listed.into_iter().filter(is_open).collect()
}

/// Allows this process as many descriptors as it may have; returns how many.
#[cfg(target_os = "linux")]
pub(crate) fn raise_fd_limit() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    usize::try_from(hard).unwrap_or(usize::MAX)
}
