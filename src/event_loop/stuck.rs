//! Reports a loop that would wait for ever.
//!
//! The loop is stuck if it is about to wait without limit, for no descriptor, and all wakers of its
//! tasks are held by the loop itself. That is certain, not a guess: no thread, no signal and no
//! blocking job can wake a task whose wakers are all here. The check looks at every task, so it is
//! made only after the loop has been idle for [`PATIENCE`].

use super::boundary::{self, is_logged};
use super::tasks::Stuck;
use super::{clock, with};
use std::fmt::Write as _;
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
        if self.suspicion == Suspicion::Idle {
            self.suspicion = Suspicion::Checked;
            self.check();
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

    fn check(&self) {
        let stuck = with(|l| {
            let main = l.main.as_ref();
            l.is_idle().then(|| l.tasks.stuck(main)).flatten()
        });
        // `None` if a task has a waker elsewhere: that may be woken at any time.
        let Some(text) = stuck.flatten().map(|stuck| describe(&stuck)) else {
            return;
        };
        // Nothing is borrowed here, so the panic leaves the loop usable, as one of a task does.
        assert!(!self.panics, "{text}");
        boundary::warning!("{text}");
    }
}

/// Describes all stuck tasks in one line.
fn describe(stuck: &[Stuck]) -> String {
    let mut text = "the loop waits for ever: no timer is armed, no descriptor is waited for, and \
                    only the loop itself holds wakers of its tasks"
        .to_owned();
    for Stuck { task, awaits } in stuck {
        // Writing to a string cannot fail.
        let _ = match awaits {
            Some(id) => write!(text, "; {task} awaits task {id}"),
            None => write!(text, "; {task} was pending without arranging to be woken"),
        };
    }
    text
}
