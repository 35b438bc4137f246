//! The event loop of a thread: `run`, `block_on`, `spawn`, and the tick.
//!
//! Four participants: the *queue* of tasks that were woken, the *reactor* with its interests, the
//! *timers*, and the *inbox* for wakes from other threads. One turn of the loop, [`tick`], is:
//!
//! 1. **Run.** Take the tasks woken up to now as one batch and poll each once; what they wake is
//!    the next batch. Go on until nothing is queued or about [`POLLS_PER_TICK`] polls are spent.
//! 2. **Done?** If the main future has ended, return: before waiting, or the loop sleeps for ever.
//! 3. **How long?** Declare the loop asleep, then look at the inbox: not at all if anything is
//!    queued; else to the next deadline; else without limit.
//! 4. **Wait.** Rebuild the `fd_set`s from the maps, add the wake pipe, call `select`.
//! 5. **Collect.** Drain the pipe; take fired interests and due timers out of their tables.
//! 6. **Wake** them, with nothing borrowed.
//!
//! **Invariant.** No foreign code runs under a borrow: no poll, no drop of a future, no clone, wake
//! or drop of a waker, no log record. [`with`] is the one place that borrows. And one place blocks
//! the thread: step 4.

mod builder;
mod log_lines;
mod stuck;
mod turn;

pub use builder::Builder;
pub(crate) use log_lines::Current;
pub use turn::{Interest, interest, turn};

use crate::blocking::pool::Pool;
use crate::moment::Moment;
use crate::reactor::{Poller, Reactor, Victim};
use crate::sys::fork;
use crate::sys::select::Waited;
use crate::task::error::Id;
use crate::task::table::{Body, Ended, MAIN, Table, Taken};
use crate::task::waker::{self, Inbox, Key, TaskWaker};
use crate::timer::Timers;
use futures_util::task::waker_ref;
use log_lines::{report, report_slow, trace_ready, trace_wait};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, IntoFuture};
use std::mem::{self, ManuallyDrop};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

pub use crate::sys::wake_pipe::CreateError;

/// About so many polls, and operations in them, before descriptors and timers are looked at again.
/// Two tasks that talk to each other should not pay for a system call a word; a task that always
/// wakes itself must not keep the others from their descriptors.
const POLLS_PER_TICK: usize = 200;

/// A queue that was longer than this gives its memory back once the next batch is not. Below it,
/// memory is kept, so that no tick allocates.
const KEPT_CAPACITY: usize = 16 * 1024;

/// So many operations of ours may succeed in one poll of a task before it has to yield.
const BUDGET: u32 = 128;

/// Timers that are due so shortly after the first are served together with it.
const TIMER_SLACK: Duration = Duration::from_micros(100);

/// How often, at the most, tenured descriptors are looked at: are they still open?
const AUDIT_PERIOD: Duration = Duration::from_millis(100);

/// The event loop: four tables and what the tick needs.
pub(crate) struct EventLoop {
    pub(crate) tasks: Table,
    pub(crate) reactor: Reactor,
    pub(crate) timers: Timers,
    pub(crate) pool: Pool,
    pub(crate) inbox: Arc<Inbox>,
    /// Tasks that wait until a descriptor is closed: `accept` at the limit.
    pub(crate) starved: Vec<Waker>,
    /// How many descriptors have been deregistered, which is just before they are closed.
    pub(crate) n_closed: u64,
    /// Kept from tick to tick, so that none allocates.
    batch: VecDeque<Key>,
    woken: Vec<Waker>,
    pub(crate) timer_slack: Duration,
    pub(crate) panic_when_stuck: bool,
    /// When tenured descriptors were last looked at.
    audited: Option<Instant>,
    /// The waker of the last main future.
    main: Option<Arc<TaskWaker>>,
    /// What is to be done at the end of each `run`.
    at_end: Option<fn()>,
    /// How many forks had been counted when pipe, queue and threads were made.
    n_forks: usize,
    running: bool,
}

thread_local! {
    static LOOP: RefCell<EventLoop> = RefCell::new(EventLoop::new());
    /// The waker of what is being polled; borrowed, and not changed, during the poll. It has left
    /// before the thread ends, so this needs no destructor, and can be read in those of others.
    static CURRENT: RefCell<Option<ManuallyDrop<Arc<TaskWaker>>>> = const { RefCell::new(None) };
    /// What is left of the budget of the poll that is running. Unlimited outside of our loop.
    static LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
    /// A poll that takes longer than this is logged.
    static SLOW_POLL: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// Borrows this thread's loop, which comes into being on first use; `None` once the thread is
/// ending. `f` must not call foreign code.
pub(crate) fn with<R>(f: impl FnOnce(&mut EventLoop) -> R) -> Option<R> {
    LOOP.try_with(|cell| f(&mut cell.borrow_mut())).ok()
}

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
/// - If `main` panics; tasks are left for the next `run`.
/// - If called from inside a task. Nothing has happened then.
/// - If the wake-up pipe cannot be made, because no descriptor is left;
///   [`Builder::run`] returns that as an error.
///
/// # Examples
/// ```
/// let name = String::from("world");
/// let greeting = fahrenheit::run(async { format!("hello, {name}") });
/// assert_eq!(greeting, "hello, world");
/// ```
#[track_caller]
pub fn run<F: IntoFuture>(main: F) -> F::Output {
    match Builder::new().run(main) {
        Ok(output) => output,
        Err(error) => panic!("{error}"),
    }
}

/// Runs `main` on this thread, and returns its output as soon as it is ready.
///
/// Like [`run`], but other tasks are not waited for: they stay as they are and go on in the next
/// `run` or `block_on` on this thread. They are dropped when the thread ends.
///
/// # Panics
/// As [`run`].
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

/// Proof that the loop of this thread runs, and that nobody else runs it.
struct Entered {
    inbox: Arc<Inbox>,
}

impl Entered {
    /// `None` if the loop runs already.
    fn new() -> Result<Option<Entered>, CreateError> {
        let inbox = with(|l| (!l.running).then(|| Arc::clone(&l.inbox)));
        let Some(inbox) = inbox.ok_or(CreateError::ThreadEnded)? else {
            return Ok(None);
        };
        inbox.open_pipe()?;
        with(|l| l.running = true);
        Ok(Some(Entered { inbox }))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        with(|l| l.running = false);
    }
}

/// The main future, with its type forgotten.
trait Root {
    /// Polls the future, unless it has ended. Does not panic.
    fn poll(&mut self, cx: &mut Context<'_>);
    fn is_done(&self) -> bool;
    fn has_panicked(&self) -> bool;
}

struct Main<'a, F: Future> {
    future: Pin<&'a mut Option<F>>,
    output: Option<Result<F::Output, Box<dyn Any + Send>>>,
}

impl<F: Future> Root for Main<'_, F> {
    fn poll(&mut self, cx: &mut Context<'_>) {
        let Some(future) = self.future.as_mut().as_pin_mut() else {
            return;
        };
        let output = match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(payload) => Err(payload),
        };
        let dropped = catch_unwind(AssertUnwindSafe(|| self.future.set(None)));
        self.output = Some(dropped.and(output));
    }

    fn is_done(&self) -> bool {
        self.output.is_some()
    }

    fn has_panicked(&self) -> bool {
        matches!(self.output, Some(Err(_)))
    }
}

/// Turns the loop until `main` has ended and, unless it is `alone`, all that `run` waits for.
fn drive(entered: &Entered, main: &mut dyn Root, alone: bool) {
    let inbox = &entered.inbox;
    let Some(key) = with(|l| l.tasks.main_key()) else {
        return;
    };
    let name = TaskWaker::new(key, Arc::clone(inbox));
    TaskWaker::wake(&name);
    with(|l| l.main = Some(Arc::clone(&name)));
    log::debug!(
        "run: {} tasks are waiting to start",
        with(|l| l.tasks.n_running()).unwrap_or(0)
    );
    let mut watch = stuck::Watch::new();
    loop {
        // Step 1.
        let n_polls = run_queued(Some((&name, main)), inbox);
        // Step 2.
        if main.is_done() {
            with(|l| l.main = None);
            let enough = alone || main.has_panicked();
            let n_awaited = if enough {
                0
            } else {
                with(|l| l.tasks.n_awaited()).unwrap_or(0)
            };
            if n_awaited == 0 {
                if let Some(tidy_up) = with(|l| l.at_end).flatten() {
                    tidy_up();
                }
                log::debug!("run: finished");
                return;
            }
        }
        // Steps 3 to 6.
        wait_and_wake(inbox, watch.before_wait(n_polls));
    }
}

/// Step 1: polls what is queued, batch after batch. Returns about how many polls that were.
fn run_queued(mut main: Option<(&Arc<TaskWaker>, &mut dyn Root)>, inbox: &Inbox) -> usize {
    let mut batch = with(|l| mem::take(&mut l.batch)).unwrap_or_default();
    let mut n_polls = 0;
    while n_polls < POLLS_PER_TICK {
        inbox.collect();
        waker::swap_queue(&mut batch);
        if batch.is_empty() {
            break;
        }
        n_polls += batch.len();
        for key in batch.drain(..) {
            if key.index != MAIN {
                n_polls += poll_task(key);
            } else if let Some((name, main)) = &mut main {
                if name.key() == key {
                    name.leave_queue();
                    log::trace!("poll the main future");
                    n_polls += in_context(Arc::clone(name), |cx| main.poll(cx)).1;
                }
            }
        }
        if batch.capacity() > KEPT_CAPACITY && waker::n_queued() < KEPT_CAPACITY {
            batch.shrink_to(KEPT_CAPACITY);
        }
    }
    with(|l| l.batch = batch);
    n_polls
}

/// Polls one task, or drops it if it was aborted. Returns how much of its budget it has spent.
fn poll_task(key: Key) -> usize {
    let Some(Some(taken)) = with(|l| l.tasks.take(key, &l.inbox)) else {
        return 0;
    };
    let Taken {
        mut body,
        name,
        aborted,
    } = taken;
    let id = Id(key.serial);
    let (polled, n_spent, name) = if aborted {
        log::trace!("drop task {id}: it was aborted");
        body.as_mut().cancel(id);
        (Poll::Ready(()), 0, name)
    } else {
        log::trace!("poll task {id}");
        in_context(name, |cx| body.as_mut().poll(id, cx))
    };
    if polled.is_pending() {
        with(|l| l.tasks.put_back(key, body, name));
        return n_spent;
    }
    log::trace!("task {id} has ended");
    if let Some(Some(ended)) = with(|l| l.tasks.finish(key, body, name)) {
        settle(id, ended);
    }
    n_spent
}

/// Tells the joiner of a task that has ended, and drops the output if nobody wants it. A panic that
/// nobody will see is logged.
pub(crate) fn settle(id: Id, ended: Ended) {
    if let Some(joiner) = ended.joiner {
        wake_contained(joiner);
    }
    let Some(mut body) = ended.unclaimed else {
        return;
    };
    let unseen = body.as_mut().discard(id);
    drop_contained(body);
    if let Some(error) = unseen {
        match ended.label {
            Some(label) => log::error!("{error} (it is called {label:?})"),
            None => log::error!("{error}"),
        }
    }
}

/// Polls something that does not panic, with a fresh budget and the waker `name`. Returns also how
/// much of the budget was spent, as a poll of many operations counts for many polls, and the waker.
fn in_context<R>(
    name: Arc<TaskWaker>,
    poll: impl FnOnce(&mut Context<'_>) -> R,
) -> (R, usize, Arc<TaskWaker>) {
    CURRENT.with(|current| {
        current.replace(Some(ManuallyDrop::new(name)));
        LEFT.set(BUDGET);
        let limit = SLOW_POLL.get().map(|limit| (limit, Instant::now()));
        let polled = match &*current.borrow() {
            Some(name) => poll(&mut Context::from_waker(&waker_ref(name))),
            None => unreachable!("it was put there above"),
        };
        let n_spent = BUDGET.saturating_sub(LEFT.replace(u32::MAX));
        let name = current.take().expect("only this function takes it");
        if let Some((limit, begun)) = limit {
            report_slow(name.key(), limit, begun.elapsed());
        }
        (polled, n_spent as usize, ManuallyDrop::into_inner(name))
    })
}

/// The waker of the task `key`, if it is being polled.
pub(crate) fn current_waker(key: Key) -> Option<Arc<TaskWaker>> {
    CURRENT.with_borrow(|current| {
        let name = current.as_deref().filter(|name| name.key() == key);
        name.cloned()
    })
}

/// What is being polled.
fn current_key() -> Option<Key> {
    CURRENT.with_borrow(|current| Some(current.as_deref()?.key()))
}

/// The task that is being polled, or 0.
pub(crate) fn current_id() -> Id {
    Id(current_key().map_or(0, |key| key.serial))
}

/// Whether an operation of ours may go on in this poll. If the budget is spent, the task is queued
/// again, and the operation has to return `Pending`.
pub(crate) fn poll_budget(cx: &Context<'_>) -> Poll<()> {
    if LEFT.get() > 0 {
        return Poll::Ready(());
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// An operation of ours has succeeded.
pub(crate) fn spend_budget() {
    LEFT.set(LEFT.get().saturating_sub(1));
}

/// Runs `poll` without the budget.
pub(crate) fn without_budget<R>(poll: impl FnOnce() -> R) -> R {
    struct Restore(u32);
    impl Drop for Restore {
        fn drop(&mut self) {
            LEFT.set(self.0);
        }
    }
    let _restore = Restore(LEFT.replace(u32::MAX));
    poll()
}

/// Steps 3 to 6. Waits no longer than `limit`; returns how many wakers ran.
fn wait_and_wake(inbox: &Inbox, limit: Option<Duration>) -> usize {
    if with(|l| l.n_forks != fork::count()) == Some(true) {
        after_fork(inbox);
    }
    let waited = inbox.sleep(|asleep| {
        // Step 3.
        let wait = if asleep {
            shorter(until_deadline(), limit)
        } else {
            Some(Duration::ZERO)
        };
        trace_wait(wait);
        // Step 4.
        let pipe = inbox.pipe_fd().expect("a loop that runs has its pipe");
        with(|l| l.reactor.wait(pipe, wait))
    });
    let Some((waited, rung)) = waited else {
        return 0;
    };
    // Step 5.
    if rung {
        inbox.drain_pipe();
    }
    trace_ready(rung);
    let (mut woken, victims) = with(|l| l.collect(waited)).unwrap_or_default();
    report(waited, victims, &mut woken);
    // Step 6.
    let n_woken = woken.len();
    if n_woken > 0 {
        log::trace!("wake {n_woken} waiters");
    }
    woken.drain(..).for_each(wake_contained);
    with(|l| l.woken = woken);
    n_woken
}

/// This is a child, in the middle of a run: makes it a wake-up pipe of its own and leaves the
/// kernel's queue to the parent, as the pool leaves its threads. All tasks are polled again,
/// because some may wait for what has stayed there.
fn after_fork(inbox: &Inbox) {
    if let Err(error) = inbox.renew_pipe() {
        log::error!("cannot make a wake-up pipe after the fork: {error}; trying again");
        return;
    }
    let main = with(|l| {
        l.n_forks = fork::count();
        l.reactor.after_fork();
        l.tasks.wake_all();
        l.main.clone()
    });
    if let Some(main) = main.flatten() {
        TaskWaker::wake(&main);
    }
    log::debug!("forked: pipe and queue are rebuilt");
}

/// Has `tidy_up` called whenever a `run` of this thread ends, from now on.
pub(crate) fn at_end(tidy_up: fn()) {
    with(|l| l.at_end = Some(tidy_up));
}

fn until_deadline() -> Option<Duration> {
    let wake_up = with(|l| l.timers.next_wake_up(l.timer_slack)).flatten()?;
    Some(wake_up.saturating_duration_since(Moment::now()))
}

fn shorter(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Wakes; a panic of the waker is contained, and the rest goes on.
pub(crate) fn wake_contained(waker: Waker) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        log::error!("a waker panicked");
        drop_contained(payload);
    }
}

/// Drops; a panic of the destructor is contained.
fn drop_contained<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // Its destructor might panic as well, and so on.
        mem::forget(payload);
    }
}

/// Adds a task and queues it. If the thread is ending, the body is dropped and there is no key.
pub(crate) fn add_task(
    body: Pin<Box<dyn Body>>,
    label: Option<Box<str>>,
    daemon: bool,
    place: &'static Location<'static>,
) -> Option<Key> {
    let mut parts = Some((body, label));
    let added = with(|l| {
        let (body, label) = parts.take()?;
        Some(l.tasks.insert(body, label, daemon, place))
    });
    let key = added.flatten()?;
    log::trace!("{Current} spawned task {}", key.serial);
    Some(key)
}

impl EventLoop {
    /// Step 5: those that are to be woken, and the descriptors that were closed behind the loop.
    fn collect(&mut self, waited: Waited) -> (Vec<Waker>, Vec<Victim>) {
        let mut woken = mem::take(&mut self.woken);
        let mut victims = Vec::new();
        if waited == Waited::BadFd {
            victims = self.reactor.find_victims();
        }
        self.reactor.collect(&mut woken);
        // The clock is read only for those who need it.
        if !self.timers.is_empty() {
            let now = Instant::now();
            self.timers.collect(now.into(), &mut woken);
            if self
                .audited
                .is_none_or(|last| now.saturating_duration_since(last) >= AUDIT_PERIOD)
            {
                self.audited = Some(now);
                victims.extend(self.reactor.audit());
            }
        }
        (woken, victims)
    }

    /// Whether only a wake, from here or from another thread, can end the next wait.
    fn waits_for_nothing(&self) -> bool {
        self.timers.is_empty() && self.starved.is_empty() && self.reactor.waits_for_nothing()
    }

    /// Has `waker` woken when a descriptor is closed. Returns it if that is so already.
    pub(crate) fn starve(&mut self, waker: Waker) -> Option<Waker> {
        if self.starved.iter().any(|known| known.will_wake(&waker)) {
            return Some(waker);
        }
        self.starved.push(waker);
        None
    }

    /// What the environment says about the poller counts more than what the program says.
    fn set_poller(&mut self, poller: Poller) {
        let select = std::env::var_os("FAHRENHEIT_POLLER").is_some_and(|name| name == "select");
        self.reactor
            .set_poller(if select { Poller::Select } else { poller });
    }

    fn new() -> EventLoop {
        fork::watch();
        let mut this = EventLoop {
            tasks: Table::new(),
            reactor: Reactor::new(),
            timers: Timers::new(),
            pool: Pool::default(),
            inbox: Inbox::for_this_thread(),
            starved: Vec::new(),
            n_closed: 0,
            batch: VecDeque::new(),
            woken: Vec::new(),
            timer_slack: TIMER_SLACK,
            panic_when_stuck: false,
            audited: None,
            main: None,
            at_end: None,
            n_forks: fork::count(),
            running: false,
        };
        this.set_poller(Poller::default());
        this
    }
}

impl Drop for EventLoop {
    /// The thread ends. [`with`] finds nothing from here on, so destructors that spawn, register or
    /// deregister do nothing; those that wake find the inbox closed.
    fn drop(&mut self) {
        self.inbox.close();
        for (id, ended) in self.tasks.drain() {
            settle(id, ended);
        }
        self.reactor.drain().into_iter().for_each(wake_contained);
        mem::take(&mut self.starved)
            .into_iter()
            .for_each(wake_contained);
    }
}
