//! [`Builder`]: the settings of a loop.

use super::{CreateError, Entered, MainSlot, drive};
use crate::event_loop::reactor::Poller;
use crate::event_loop::{clock, context, shuffle, with};
use std::future::IntoFuture;
use std::panic::resume_unwind;
use std::pin::pin;
use std::time::Duration;

/// The settings of a loop, and versions of `run` and `block_on` that return errors instead of
/// panicking.
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
    #[cfg(feature = "dump")]
    panic_when_stuck: Option<bool>,
    slow_poll: Option<Duration>,
    #[cfg(feature = "dump")]
    track: Option<bool>,
    virtual_clock: Option<bool>,
    seed: Option<u64>,
}

impl Builder {
    /// The settings that [`run`](crate::run) and [`block_on`](crate::block_on) use.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Sets how the loop of this thread waits for descriptors from now on.
    ///
    /// The environment variable `FAHRENHEIT_POLLER=select` takes precedence.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::{Builder, Poller};
    /// use std::time::Duration;
    ///
    /// let builder = Builder::new()
    ///     .poller(Poller::Select)
    ///     .timer_slack(Duration::from_millis(5))
    ///     .blocking_threads(2)
    ///     .slow_poll(Duration::from_millis(100))
    ///     .panic_when_stuck(true)
    ///     .track(true);
    /// assert_eq!(builder.run(async { 42 })?, 42);
    /// # Ok::<(), fahrenheit::CreateError>(())
    /// ```
    pub fn poller(mut self, poller: Poller) -> Builder {
        self.poller = Some(poller);
        self
    }

    /// Sets how late a timer may fire so that one wake-up of the loop serves several timers, from
    /// now on, on this thread's loop. By default it is 100 µs, and grows up to 500 µs while timers
    /// wake the loop more often than each millisecond.
    ///
    /// A timer is delayed only for another timer that is due within `slack` after it. A lone timer
    /// is not delayed, and no timer ever fires early. With zero, every deadline gets a wake-up of
    /// its own.
    pub fn timer_slack(mut self, slack: Duration) -> Builder {
        self.timer_slack = Some(slack);
        self
    }

    /// Sets the maximum number of threads for [`spawn_blocking`](crate::spawn_blocking), the
    /// functions of [`fs`](crate::fs) and name look-ups, from now on, on this thread's loop. The
    /// default is 32.
    ///
    /// Name look-ups use at most half of the threads, and everything else all but one, so that jobs
    /// that never end do not stop look-ups, and a dead name server does not stop jobs. With 1, both
    /// share the thread, and one that never ends stops the other. No thread is started before it
    /// is needed. With 0 none is ever started, and blocking jobs and look-ups return an error.
    pub fn blocking_threads(mut self, max: usize) -> Builder {
        self.blocking_threads = Some(max);
        self
    }

    /// Sets whether a loop of this thread that can never wake up again panics, from now on, which
    /// helps in tests. By default it logs a warning and waits for ever.
    ///
    /// A loop is stuck if no task is queued, no timer is armed, no task waits for a descriptor, and
    /// no waker of its tasks can be called: a future has returned `Pending` without arranging to be
    /// woken, or tasks wait for each other, by [`JoinHandle`](crate::task::JoinHandle)s, by
    /// [`Event`](crate::Event)s of which no [`Notifier`](crate::Notifier) is left, or on a
    /// simulated network. This is reported after one second, or at once with a
    /// [virtual clock](Builder::virtual_clock), with what each task waits for and where it was
    /// spawned; tasks that await each other are named in their order.
    ///
    /// Only what is certain is reported. Tasks that wait for each other by a channel or a lock of
    /// another crate are not recognised, because a waker inside a channel might be reachable from
    /// another thread. Nor are tasks that wait for events with notifiers, and none at all while a
    /// [`Handle`](crate::task::Handle) exists, by which another thread could spawn a task. Turns by
    /// [`turn`](crate::turn) are not watched.
    #[cfg(feature = "dump")]
    pub fn panic_when_stuck(mut self, panic: bool) -> Builder {
        self.panic_when_stuck = Some(panic);
        self
    }

    /// Logs a warning for every poll on this thread that takes longer than `limit`, from now on,
    /// because nothing else runs during a poll. The warning names the task and where it was
    /// spawned.
    ///
    /// Off by default, because it reads the clock twice per poll. [`Duration::MAX`] turns it off
    /// again.
    pub fn slow_poll(mut self, limit: Duration) -> Builder {
        self.slow_poll = Some(limit);
        self
    }

    /// Sets whether the times of tasks and of the loop are measured, from now on, on this thread's
    /// loop, for [`dump`](crate::dump) and [`metrics`](crate::metrics): the age of tasks, how long
    /// their polls take, how long the loop sleeps, how late timers are.
    ///
    /// Off by default, because it reads the clock once per poll and twice per turn: about 200
    /// instructions more for each poll, which is as much as a poll takes that does nothing. Turning
    /// it off forgets what was measured.
    ///
    /// Times are as exact as the clock of [`Instant`](std::time::Instant). What the loop does
    /// between two polls counts as part of the second one.
    #[cfg(feature = "dump")]
    pub fn track(mut self, track: bool) -> Builder {
        self.track = Some(track);
        self
    }

    /// Gives this thread's loop a virtual clock, or the real one again, from now on. For tests: an
    /// hour of timers passes at once, and always in the same way.
    ///
    /// Virtual time stands still while a task can run, a descriptor is ready or a blocking job
    /// runs. Otherwise it jumps to the next deadline. Child processes, signals and other threads do
    /// not hold it back, so a timeout on one of these passes at once.
    ///
    /// The clock starts at the real time and is what everything in [`time`](crate::time) goes by.
    /// Deadlines are [`Instant`](std::time::Instant)s as ever, so programs under test ask
    /// [`time::now`](crate::time::now) for the time instead of `Instant::now`.
    ///
    /// All descriptors stay in `select`. [`turn`](crate::turn) is refused: the loop of the program
    /// around it would go by another clock.
    ///
    /// # Examples
    /// ```
    /// use std::time::{Duration, Instant};
    /// use fahrenheit::time;
    ///
    /// const DAY: Duration = Duration::from_secs(86_400);
    /// let real = Instant::now();
    /// let passed = fahrenheit::Builder::new().virtual_clock(true).run(async {
    ///     let start = time::now();
    ///     time::sleep(DAY).await;
    ///     time::now() - start
    /// })?;
    /// assert_eq!(passed, DAY);
    /// assert!(real.elapsed() < DAY);
    /// # Ok::<(), fahrenheit::CreateError>(())
    /// ```
    pub fn virtual_clock(mut self, on: bool) -> Builder {
        self.virtual_clock = Some(on);
        self
    }

    /// Has this thread's loop do in any order what may happen in any order, from now on: poll the
    /// tasks that were woken together, serve the descriptors that are ready together, and fire the
    /// timers with equal deadlines. Without a seed they are served first come, first served.
    ///
    /// For tests: with a virtual clock and nothing from outside, the same seed gives the same
    /// order, and other seeds give other orders. Over real sockets that is usual, but not certain.
    /// `HashMap` and `futures::select!` have an order of their own, which no seed fixes;
    /// `BTreeMap` and `select_biased!` do not.
    ///
    /// The environment variable `FAHRENHEIT_SEED` takes precedence, to repeat a run that has
    /// failed. It applies to every loop that starts after, with or without this call.
    ///
    /// # Examples
    /// ```
    /// use std::{cell::RefCell, rc::Rc};
    ///
    /// fn order(seed: u64) -> Vec<usize> {
    ///     let order = Rc::new(RefCell::new(Vec::new()));
    ///     for n in 0..8 {
    ///         let order = Rc::clone(&order);
    ///         fahrenheit::spawn(async move { order.borrow_mut().push(n) }).detach();
    ///     }
    ///     fahrenheit::Builder::new().seed(seed).run(async {}).unwrap();
    ///     order.take()
    /// }
    /// assert_eq!(order(1), order(1));
    /// assert_ne!(order(1), order(2));
    /// ```
    pub fn seed(mut self, seed: u64) -> Builder {
        self.seed = Some(seed);
        self
    }

    /// [`run`](crate::run) with these settings.
    ///
    /// # Errors
    /// [`CreateError`] if the wake-up pipe cannot be created (`pipe2(2)`: usually EMFILE or
    /// ENFILE), or if the thread is ending. `main` is dropped without having been polled.
    ///
    /// # Panics
    /// If `main` panics, or if called from inside a task.
    #[track_caller]
    pub fn run<F: IntoFuture>(self, main: F) -> Result<F::Output, CreateError> {
        self.drive(main, true)
    }

    /// [`block_on`](crate::block_on) with these settings.
    ///
    /// # Errors
    /// [`CreateError`] if the wake-up pipe cannot be created (`pipe2(2)`: usually EMFILE or
    /// ENFILE), or if the thread is ending. `main` is dropped without having been polled.
    ///
    /// # Panics
    /// If `main` panics, or if called from inside a task.
    #[track_caller]
    pub fn block_on<F: IntoFuture>(self, main: F) -> Result<F::Output, CreateError> {
        self.drive(main, false)
    }

    #[track_caller]
    fn drive<F: IntoFuture>(
        self,
        main: F,
        waits_for_tasks: bool,
    ) -> Result<F::Output, CreateError> {
        let mut entered = match Entered::new()? {
            Some(entered) => entered,
            None => panic!(
                "`run` or `block_on` was called from inside a task of the same thread: \
                 `.await` the future, or `spawn` it"
            ),
        };
        self.apply();
        let future = pin!(Some(main.into_future()));
        let mut main = MainSlot {
            future,
            output: None,
        };
        drive(&mut entered, &mut main, waits_for_tasks);
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

    /// Applies the settings to the loop of this thread.
    fn apply(&self) {
        if let Some(on) = self.virtual_clock {
            with(|l| l.set_virtual_clock(on));
        }
        if let Some(poller) = self.poller.filter(|_| !clock::is_virtual()) {
            with(|l| l.set_poller(poller));
        }
        if let Some(seed) = self.seed {
            shuffle::set_seed(Some(seed));
        }
        if let Some(slack) = self.timer_slack.filter(|_| !clock::is_virtual()) {
            with(|l| l.timer_slack.choose(Some(slack)));
        }
        if let Some(max) = self.blocking_threads {
            with(|l| l.pool.set_limit(max));
        }
        if let Some(limit) = self.slow_poll {
            context::set_slow_poll((limit < Duration::MAX).then_some(limit));
        }
        #[cfg(feature = "dump")]
        if let Some(track) = self.track {
            context::set_tracking(track);
        }
        #[cfg(feature = "dump")]
        if let Some(panic) = self.panic_when_stuck {
            with(|l| l.panic_when_stuck = panic);
        }
    }
}
