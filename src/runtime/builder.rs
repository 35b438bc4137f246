//! Settings of a loop.

use super::{CreateError, Entered, Main, SLOW_POLL, drive, with};
use crate::reactor::Poller;
use std::future::IntoFuture;
use std::panic::resume_unwind;
use std::pin::pin;
use std::time::Duration;

/// Settings of a loop, and a `run` that returns errors instead of panicking.
///
/// # Examples
/// ```
/// let answer = fahrenheit::Builder::new().blocking_threads(2).run(async { 42 })?;
/// assert_eq!(answer, 42);
/// # Ok::<(), fahrenheit::CreateError>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until `run` or `block_on`"]
pub struct Builder {
    poller: Option<Poller>,
    timer_slack: Option<Duration>,
    blocking_threads: Option<usize>,
    panic_when_stuck: Option<bool>,
    slow_poll: Option<Duration>,
}

impl Builder {
    /// The settings that [`run`](crate::run) and [`block_on`](crate::block_on) use.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Sets how the loop of this thread waits for descriptors from now on.
    ///
    /// The environment variable `FAHRENHEIT_POLLER=select` has the last word.
    pub fn poller(mut self, poller: Poller) -> Builder {
        self.poller = Some(poller);
        self
    }

    /// Sets by how much a timer may be late, from now on, on this thread's loop, so that one
    /// wake-up serves several; 100 µs by default.
    ///
    /// Only timers that are due so shortly after each other wait for each other: one that is alone
    /// is not made late, and none is ever early. With zero every deadline gets a wake-up of its
    /// own.
    pub fn timer_slack(mut self, slack: Duration) -> Builder {
        self.timer_slack = Some(slack);
        self
    }

    /// Sets how many threads [`spawn_blocking`](crate::spawn_blocking) and name look-ups may use at
    /// the most, from now on, on this thread's loop. The default is 32.
    ///
    /// None is started before it is needed. With 0 there never is any: jobs and look-ups return an
    /// error.
    pub fn blocking_threads(mut self, most: usize) -> Builder {
        self.blocking_threads = Some(most);
        self
    }

    /// Makes a run of this thread's loop that can never end panic, from now on, instead of waiting
    /// for ever; for tests. By default it is a warning in the log.
    ///
    /// A loop is stuck if nothing is queued, no timer is armed, no descriptor is waited for, and
    /// nobody outside of it holds a waker of its tasks: a future was pending without arranging to
    /// be woken. It says so after a second, with the tasks concerned and where they were spawned.
    /// Tasks that wait for each other by a channel or a lock are not recognised, because a waker
    /// that lies in a channel might be held by another thread as well. Nor is [`turn`](crate::turn)
    /// watched.
    pub fn panic_when_stuck(mut self, panic: bool) -> Builder {
        self.panic_when_stuck = Some(panic);
        self
    }

    /// Logs a warning for every poll on this thread that takes longer than `limit`, from now on:
    /// meanwhile nothing else runs. It names the task, and where it was spawned. Off by default,
    /// because it reads the clock twice a poll; [`Duration::MAX`] turns it off again.
    pub fn slow_poll(mut self, limit: Duration) -> Builder {
        self.slow_poll = Some(limit);
        self
    }

    /// [`run`](crate::run) with these settings.
    ///
    /// # Errors
    /// If the loop cannot be created. `main` is dropped without having been polled.
    ///
    /// # Panics
    /// If `main` panics, or if called from inside a task.
    #[track_caller]
    pub fn run<F: IntoFuture>(self, main: F) -> Result<F::Output, CreateError> {
        self.drive(main, false)
    }

    /// [`block_on`](crate::block_on) with these settings.
    ///
    /// # Errors
    /// If the loop cannot be created. `main` is dropped without having been polled.
    ///
    /// # Panics
    /// If `main` panics, or if called from inside a task.
    #[track_caller]
    pub fn block_on<F: IntoFuture>(self, main: F) -> Result<F::Output, CreateError> {
        self.drive(main, true)
    }

    #[track_caller]
    fn drive<F: IntoFuture>(self, main: F, alone: bool) -> Result<F::Output, CreateError> {
        let entered = match Entered::new()? {
            Some(entered) => entered,
            None => panic!(
                "`run` or `block_on` was called from inside a task of the same thread: \
                 `.await` the future, or `spawn` it"
            ),
        };
        if let Some(poller) = self.poller {
            with(|l| l.set_poller(poller));
        }
        if let Some(slack) = self.timer_slack {
            with(|l| l.timer_slack = slack);
        }
        if let Some(most) = self.blocking_threads {
            with(|l| l.pool.set_limit(most));
        }
        if let Some(limit) = self.slow_poll {
            SLOW_POLL.set((limit < Duration::MAX).then_some(limit));
        }
        if let Some(panic) = self.panic_when_stuck {
            with(|l| l.panic_when_stuck = panic);
        }
        let future = pin!(Some(main.into_future()));
        let mut main = Main {
            future,
            output: None,
        };
        drive(&entered, &mut main, alone);
        drop(entered);
        match main
            .output
            .take()
            .expect("the loop ends after the main future")
        {
            Ok(output) => Ok(output),
            Err(payload) => resume_unwind(payload),
        }
    }
}
