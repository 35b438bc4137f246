//! Reports a loop that would wait for ever.
//!
//! The loop is stuck if it is about to wait without limit and no task can be woken: all wakers of
//! its tasks are held by the loop itself, where only the end of another task would call them, or by
//! events and simulated connections that only another task could signal. That is certain, not a
//! guess: no thread, no signal and no blocking job can wake such a task, nor spawn another one. The
//! check looks at every task, so it is made only after the loop has been idle for [`PATIENCE`].

use super::boundary::{self, is_logged};
use super::dump::{Dump, TaskDump, TaskState, WaitsFor, describe_circle};
use super::reactor::ClosedFd;
use super::{EventLoop, clock, survey, with};
use crate::sys::select::Waited;
use std::fmt::Write as _;
use std::mem;
use std::time::Duration;

/// How long the loop is idle before it checks whether it is stuck.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known since the last poll of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Suspicion {
    /// The loop was not idle, or has not been idle for long enough.
    None,
    /// The loop was idle when it began its last wait, which was limited to [`PATIENCE`].
    Idle,
    /// The check has found the loop stuck, and then the loop has looked once more, without waiting.
    /// Another thread may have signalled an event and dropped its notifier before the check, which
    /// the look shows.
    Stuck,
    /// The check was made. It would find the same again until a task is polled.
    Checked,
}

/// Watches one `run` or `block_on`.
pub(crate) struct Watch {
    suspicion: Suspicion,
    /// Whether to panic instead of logging a warning.
    panics: bool,
}

impl Watch {
    pub(crate) fn new() -> Watch {
        Watch {
            suspicion: Suspicion::None,
            panics: with(|l| l.panic_when_stuck).unwrap_or(false),
        }
    }

    /// Called before each wait, with the number of polls since the last wait. Returns the maximum
    /// time to wait.
    ///
    /// # Panics
    /// If the loop is stuck and `Builder::panic_when_stuck` was set.
    pub(crate) fn before_wait(&mut self, n_polls: usize) -> Option<Duration> {
        // A poll may have spawned tasks or cloned wakers, so what was found before is out of date.
        if n_polls > 0 {
            self.suspicion = Suspicion::None;
        }
        // The wait since then has lasted for `PATIENCE`, or was ended by something that polled no
        // task. Either way it is time to look.
        match self.suspicion {
            Suspicion::None | Suspicion::Checked => {}
            Suspicion::Idle if find_stuck().is_some() => {
                with(|l| l.has_wait_failed = false);
                self.suspicion = Suspicion::Stuck;
                return Some(Duration::ZERO);
            }
            // A wait that has failed looked at nothing.
            Suspicion::Stuck if with(|l| mem::take(&mut l.has_wait_failed)) == Some(true) => {
                return Some(Duration::ZERO);
            }
            Suspicion::Idle => self.suspicion = Suspicion::Checked,
            Suspicion::Stuck => {
                self.suspicion = Suspicion::Checked;
                if let Some(dump) = find_stuck() {
                    self.report(&dump);
                }
            }
        }
        // Without a logger the report would go nowhere, and the loop need not wake up for it.
        let is_wanted = self.panics || is_logged(log::Level::Warn);
        if self.suspicion == Suspicion::Checked || !is_wanted || with(|l| l.is_idle()) != Some(true)
        {
            return None;
        }
        self.suspicion = Suspicion::Idle;
        Some(match clock::is_virtual() {
            // Time does not pass, so there is nothing to be patient for. What other threads may
            // still do is not overlooked: they hold wakers.
            true => Duration::ZERO,
            false => PATIENCE,
        })
    }

    fn report(&self, dump: &Dump) {
        let text = describe(dump);
        // Nothing is borrowed here, so the panic leaves the loop usable, as one of a task does.
        assert!(!self.panics, "{text}");
        boundary::warning!("{text}");
    }
}

impl EventLoop {
    /// Notes that a wait has failed, and adds the descriptors that explain it to `closed`.
    #[cold]
    pub(super) fn note_failed_wait(&mut self, waited: Waited, closed: &mut Vec<ClosedFd>) {
        self.has_wait_failed = true;
        if waited == Waited::BadFd {
            closed.extend(self.reactor.find_closed_fds());
        }
    }
}

/// Returns a dump of the loop if none of its tasks can go on. `None` if a task has a waker
/// elsewhere: that may be called at any time.
fn find_stuck() -> Option<Dump> {
    with(|l| l.is_idle()).filter(|is_idle| *is_idle)?;
    Some(survey::dump()).filter(Dump::is_all_stuck)
}

/// Describes all stuck tasks in one line.
fn describe(dump: &Dump) -> String {
    let mut text = "the loop waits for ever: no timer is armed, no descriptor is waited for, and \
                    nothing else can wake its tasks"
        .to_owned();
    let is_unfinished = |task: &&TaskDump| task.state != TaskState::Finished;
    for task in dump.tasks.iter().filter(is_unfinished) {
        let _ = match (&task.name, task.is_main) {
            (_, true) => write!(text, "; the main future"),
            (Some(name), _) => {
                let place = task.place;
                write!(text, "; task {} ({name:?}, spawned at {place})", task.id)
            }
            (None, _) => write!(text, "; task {} (spawned at {})", task.id, task.place),
        };
        if task.waits_for.is_empty() {
            text.push_str(" was pending without arranging to be woken");
        }
        for (n, wait) in task.waits_for.iter().enumerate() {
            text.push_str(if n == 0 { " awaits " } else { " and " });
            // Writing to a string cannot fail.
            let _ = match wait {
                WaitsFor::Join(id) => write!(text, "task {id}"),
                wait => write!(text, "{wait}"),
            };
        }
    }
    for circle in dump.circles() {
        text.push_str("; ");
        text.push_str(&describe_circle(&circle));
    }
    text
}
