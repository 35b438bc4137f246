//! Running the loop of this thread: [`run`], [`block_on`], [`Builder`], and single turns.
//!
//! What a turn does is in `event_loop::tick`. This module knows only when to start and to stop.

mod builder;
#[cfg(feature = "macros")]
pub mod macros;
mod turn;

pub use crate::sys::wake_pipe::CreateError;
pub use builder::Builder;
pub use turn::{Interest, InterestFd, interest, interest_fd, turn};

use crate::event_loop::boundary::{self, Payload, contain, try_drop};
use crate::event_loop::inbox::Inbox;
use crate::event_loop::stuck::Watch;
use crate::event_loop::tick::{self, Main, MainFuture, Turn};
use crate::event_loop::with;
use crate::sys::task::{self, Task};
use std::future::{Future, IntoFuture};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Runs `main` on this thread, and returns its output when `main` **and every task that is not a
/// daemon** have ended.
///
/// `main` need not be `Send` or `'static`: it may borrow from the caller. It is dropped as soon as
/// it is ready, while other tasks may go on. Tasks that were spawned before `run` start now, in the
/// order in which they were spawned, and before `main`. Daemons (see
/// [`task::Builder::daemon`](crate::task::Builder::daemon)) stay where they are when `run` returns,
/// and go on in the next `run` on this thread.
///
/// # Panics
/// - If `main` panics. Other tasks are left for the next `run`.
/// - If called from inside a task. The call has then done nothing else.
/// - If the wake-up pipe cannot be created, because no descriptor is left;
///   [`Builder::run`] returns that as an error.
///
/// # Examples
/// ```
/// let name = String::from("world");
/// let greeting = fahrenheit::run(async { format!("hello, {name}") });
/// assert_eq!(greeting, "hello, world");
/// ```
#[doc(alias = "Runtime")]
#[track_caller]
pub fn run<F: IntoFuture>(main: F) -> F::Output {
    match Builder::new().run(main) {
        Ok(output) => output,
        Err(error) => panic!("{error}"),
    }
}

/// Runs `main` on this thread, and returns its output as soon as it is ready.
///
/// Other tasks are not waited for, unlike in [`run`]: they stay as they are and go on in the next
/// `run` or `block_on` on this thread. They are dropped when the thread ends.
///
/// # Panics
/// - If `main` panics. Other tasks are left for the next `run`.
/// - If called from inside a task. The call has then done nothing else.
/// - If the wake-up pipe cannot be created, because no descriptor is left;
///   [`Builder::block_on`] returns that as an error.
///
/// # Examples
/// ```
/// assert_eq!(fahrenheit::block_on(async { 6 * 7 }), 42);
/// ```
#[track_caller]
pub fn block_on<F: IntoFuture>(main: F) -> F::Output {
    match Builder::new().block_on(main) {
        Ok(output) => output,
        Err(error) => panic!("{error}"),
    }
}

/// Proof that the loop of this thread is running, and that only the owner of this value turns it.
struct Entered {
    inbox: Inbox,
    /// Memory that each turn uses, empty between turns. Taken out of the loop because a turn would
    /// have to borrow the loop once more to take it out and to put it back.
    woken: Vec<Waker>,
}

impl Entered {
    /// Returns `None` if the loop of this thread is running already.
    fn new() -> Result<Option<Entered>, CreateError> {
        let inbox = with(|l| (!l.is_running).then(|| l.inbox.clone()));
        let Some(inbox) = inbox.ok_or(CreateError::ThreadEnded)? else {
            return Ok(None);
        };
        inbox.open_pipe()?;
        let woken = with(|l| {
            l.is_running = true;
            l.has_checked_pipe = false;
            mem::take(&mut l.woken)
        });
        let woken = woken.unwrap_or_default();
        Ok(Some(Entered { inbox, woken }))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        with(|l| {
            l.is_running = false;
            mem::swap(&mut l.woken, &mut self.woken);
        });
    }
}

/// The main future and then its output.
struct MainSlot<'a, F: Future> {
    future: Pin<&'a mut Option<F>>,
    output: Option<Result<F::Output, Payload>>,
}

impl<F: Future> MainFuture for MainSlot<'_, F> {
    fn poll(&mut self, cx: &mut Context<'_>) {
        let Some(future) = self.future.as_mut().as_pin_mut() else {
            return;
        };
        let output = match contain(|| future.poll(cx)) {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(payload) => Err(payload),
        };
        // The future is dropped before other tasks go on, because it may borrow from the caller
        // what they wait for. A panic of its destructor replaces the output.
        self.output = Some(match (contain(|| self.future.set(None)), output) {
            (Ok(()), output) => output,
            (Err(payload), output) => Err(try_drop(output).err().unwrap_or(payload)),
        });
    }

    fn is_done(&self) -> bool {
        self.output.is_some()
    }

    fn has_panicked(&self) -> bool {
        matches!(self.output, Some(Err(_)))
    }
}

/// The main future's entry in the loop, which is taken out even if the loop unwinds: a stuck loop
/// panics if the program wants that.
struct MainGuard;

impl MainGuard {
    fn put(task: &Task) -> MainGuard {
        with(|l| l.main = Some(task.clone()));
        MainGuard
    }
}

impl Drop for MainGuard {
    fn drop(&mut self) {
        with(|l| l.main = None);
    }
}

/// Turns the loop until `main` has ended and, with `waits_for_tasks`, every task that is not a
/// daemon.
fn drive(entered: &mut Entered, future: &mut dyn MainFuture, waits_for_tasks: bool) {
    let Entered { inbox, woken } = entered;
    // The task is allocated before it is put into the loop, and finished after it was taken out.
    let Some(task) = with(|l| l.tasks.admit_main(&l.inbox)) else {
        return;
    };
    let _taken_out = MainGuard::put(&task);
    task.wake_by_ref();
    boundary::debug!("run: {} tasks are waiting to start", task::n_unfinished());
    let mut main = Main {
        future,
        task,
        waits_for_tasks,
    };
    let mut watch = Watch::new();
    let mut turn = || {
        let limit = |n_polls| watch.before_wait(n_polls);
        tick::turn(inbox, woken, Some(&mut main), limit)
    };
    while turn() != Turn::Finished {}
    if let Some(on_run_end) = with(|l| l.on_run_end).flatten() {
        on_run_end();
    }
    boundary::debug!("run: finished");
}
