//! Saying so when the loop would wait for ever.
//!
//! The loop is stuck if it is about to wait without limit, for no descriptor, and nobody outside of
//! it holds a waker of one of its tasks. That is certain, not a guess: no thread, no signal and no
//! blocking job can wake a task whose wakers are all here. To find out costs a look at every task,
//! so it is done only after the loop has had nothing to do for [`PATIENCE`].

use super::with;
use crate::task::table::Stuck;
use std::fmt::Write as _;
use std::time::Duration;

/// How long nothing happens before the loop asks itself why.
const PATIENCE: Duration = Duration::from_secs(1);

/// What has been found out since something was polled last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    Suspicious,
    Told,
}

/// Watches one run of the loop.
pub(super) struct Watch {
    known: Known,
    /// Panic instead of a warning.
    panic: bool,
}

impl Watch {
    pub(super) fn new() -> Watch {
        Watch {
            known: Known::Nothing,
            panic: with(|l| l.panic_when_stuck).unwrap_or(false),
        }
    }

    /// Called before each wait, with the number of polls since the last. Returns how long that wait
    /// may be.
    ///
    /// # Panics
    /// If the loop is stuck, and has been told to.
    pub(super) fn before_wait(&mut self, n_polls: usize) -> Option<Duration> {
        if n_polls > 0 {
            self.known = Known::Nothing;
        }
        if self.known == Known::Suspicious {
            self.known = Known::Told;
            self.tell();
        }
        let asks = self.panic || log::log_enabled!(log::Level::Warn);
        if self.known == Known::Told || !asks || with(|l| l.waits_for_nothing()) != Some(true) {
            return None;
        }
        self.known = Known::Suspicious;
        Some(PATIENCE)
    }

    fn tell(&self) {
        let stuck = with(|l| {
            let main = l.main.as_ref();
            l.waits_for_nothing().then(|| l.tasks.stuck(main)).flatten()
        });
        let Some(text) = stuck.flatten().map(|stuck| describe(&stuck)) else {
            return;
        };
        assert!(!self.panic, "{text}");
        log::warn!("{text}");
    }
}

/// One line for all that are stuck.
fn describe(stuck: &[Stuck]) -> String {
    let mut text = "the loop waits for ever: no timer, no descriptor, and nobody else holds a \
                    waker of its tasks"
        .to_owned();
    for Stuck { who, awaits } in stuck {
        let _ = match awaits {
            Some(id) => write!(text, "; {who} awaits task {id}"),
            None => write!(text, "; {who} was pending without arranging to be woken"),
        };
    }
    text
}
