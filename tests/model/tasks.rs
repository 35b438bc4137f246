//! The tasks of a script, and the probes through which they are watched from outside.

use crate::links::{End, Flow, Shared, is_reset};
use crate::model::{Command, Outcome};
use crate::script::Style;
use fahrenheit::task::{JoinError, JoinHandle};
use fahrenheit::{AsyncFd, time};
use std::cell::Cell;
use std::fs::File;
use std::future::{Future, pending};
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

thread_local! {
    /// How often tasks of scripts have been polled on this thread.
    static N_POLLS: Cell<usize> = const { Cell::new(0) };
}

pub(crate) fn n_polls() -> usize {
    N_POLLS.get()
}

/// How a task ended that waited for an end or a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It has read or written all that it was to.
    Enough,
    /// There is nothing more to read, after everything that was sent.
    End,
    /// The other side is gone.
    Reset,
    /// The registration has ended.
    Closed,
    /// The time has come.
    Time,
}

/// What is known of a task; outlives it.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    pub(crate) n_polls: AtomicUsize,
    pub(crate) n_drops: AtomicUsize,
    pub(crate) n_outputs: AtomicUsize,
    pub(crate) n_outputs_dropped: AtomicUsize,
    /// It was aborted while it was not being polled: it will never be again.
    pub(crate) condemned: AtomicBool,
    pub(crate) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Its waker, for as long as it lives.
    pub(crate) waker: Option<Waker>,
    /// Who wants to know when it is polled.
    pub(crate) watcher: Option<Waker>,
    pub(crate) command: Option<Command>,
    pub(crate) reset: Option<Duration>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) reason: Option<Reason>,
    /// What the task that it awaited has become.
    pub(crate) joined: Option<Outcome>,
    pub(crate) complaint: Option<String>,
}

impl Probe {
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.state.lock().expect("no panic under the lock"))
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.n_drops.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn polls(&self) -> usize {
        self.n_polls.load(Ordering::SeqCst)
    }

    pub(crate) fn complain(&self, complaint: impl Into<String>) {
        let complaint = complaint.into();
        self.with(|state| state.complaint.get_or_insert(complaint).truncate(400));
    }

    fn end(&self, reason: Reason) -> Poll<()> {
        self.with(|state| state.reason = Some(reason));
        Poll::Ready(())
    }
}

/// What a task returns, to be dropped once.
pub(crate) struct Output(Arc<Probe>);

impl Drop for Output {
    fn drop(&mut self) {
        self.0.n_outputs_dropped.fetch_add(1, Ordering::SeqCst);
    }
}

pub(crate) type Body = Box<dyn FnMut(&mut Context<'_>) -> Poll<()>>;

/// The future of a task.
pub(crate) struct Probed {
    pub(crate) probe: Arc<Probe>,
    pub(crate) body: Body,
}

impl Future for Probed {
    type Output = Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Output> {
        N_POLLS.set(N_POLLS.get() + 1);
        self.probe.n_polls.fetch_add(1, Ordering::SeqCst);
        if self.probe.condemned.load(Ordering::SeqCst) {
            self.probe.complain("polled after it was aborted");
        }
        if self.probe.has_ended() {
            self.probe.complain("polled after it was dropped");
        }
        let waker = cx.waker().clone();
        let (watcher, command) = self.probe.with(|state| {
            state.waker = Some(waker);
            (state.watcher.take(), state.command)
        });
        if let Some(watcher) = watcher {
            watcher.wake();
        }
        match command {
            Some(Command::Finish) => {}
            Some(Command::Panic) => std::panic::resume_unwind(Box::new("told to")),
            _ => ready!((self.body)(cx)),
        }
        self.probe.n_outputs.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Output(Arc::clone(&self.probe)))
    }
}

impl Drop for Probed {
    fn drop(&mut self) {
        self.probe.n_drops.fetch_add(1, Ordering::SeqCst);
        let waker = self.probe.with(|state| state.waker.take());
        drop(waker);
    }
}

pub(crate) fn outcome(joined: &Result<Output, JoinError>) -> Outcome {
    match joined {
        Ok(_) => Outcome::Value,
        Err(error) if error.is_cancelled() => Outcome::Cancelled,
        Err(_) => Outcome::Panicked,
    }
}

pub(crate) fn waits() -> Body {
    Box::new(|_| Poll::Pending)
}

pub(crate) fn yields(mut left: usize) -> Body {
    Box::new(move |cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

pub(crate) fn joins(probe: Arc<Probe>, mut handle: JoinHandle<Output>) -> Body {
    Box::new(move |cx| {
        let joined = ready!(Pin::new(&mut handle).poll(cx));
        probe.with(|state| state.joined = Some(outcome(&joined)));
        Poll::Ready(())
    })
}

pub(crate) fn sleeps(probe: Arc<Probe>, duration: Duration) -> Body {
    let mut sleep = time::sleep(duration);
    probe.with(|state| state.deadline = sleep.deadline());
    Box::new(move |cx| {
        if let Some(duration) = probe.with(|state| state.reset.take()) {
            sleep.reset_after(duration);
            probe.with(|state| state.deadline = sleep.deadline());
        }
        ready!(Pin::new(&mut sleep).poll(cx));
        if sleep.deadline().is_none_or(|due| Instant::now() < due) {
            probe.complain("a sleep was early");
        }
        probe.end(Reason::Time)
    })
}

pub(crate) fn limited(probe: Arc<Probe>, limit: Duration) -> Body {
    let mut timeout = Box::pin(time::timeout(limit, pending::<()>()));
    let mut begun = None;
    Box::new(move |cx| {
        // Not later than when the limit begins to count.
        let begun = *begun.get_or_insert_with(Instant::now);
        probe.with(|state| state.deadline = begun.checked_add(limit));
        let _elapsed = ready!(timeout.as_mut().poll(cx)).expect_err("it is pending for ever");
        if begun.elapsed() < limit {
            probe.complain("a limit was early");
        }
        probe.end(Reason::Time)
    })
}

/// What a task needs that reads or writes.
pub(crate) struct Io {
    pub(crate) probe: Arc<Probe>,
    pub(crate) slot: Shared,
    pub(crate) flow: Rc<Flow>,
    pub(crate) style: Style,
}

impl Io {
    fn registration(&self) -> usize {
        self.slot.borrow().registration
    }

    /// The registration, to be held, if that is how this task waits.
    fn held(&self) -> Option<Rc<AsyncFd<File>>> {
        match &self.slot.borrow().end {
            Some(End::Fd(fd)) if self.style == Style::Ready => Some(Rc::clone(fd)),
            _ => None,
        }
    }

    fn fail(&self, error: &io::Error) -> Poll<()> {
        if is_reset(error) {
            return self.probe.end(Reason::Reset);
        }
        self.probe.complain(format!("input or output: {error}"));
        Poll::Ready(())
    }
}

type Wait = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// Reads, so much at a time, until there were `limit` bytes, or the end.
pub(crate) fn reads(io: Io, chunk: usize, limit: usize) -> Body {
    let registration = io.registration();
    let mut held = io.held();
    let mut wait: Option<Wait> = None;
    let mut n_read = 0;
    Box::new(move |cx| {
        loop {
            if io.registration() != registration {
                (wait, held) = (None, None);
                return io.probe.end(Reason::Closed);
            }
            if n_read == limit {
                return io.probe.end(Reason::Enough);
            }
            let mut bytes = [0; 4_096];
            let bytes = &mut bytes[..chunk.min(limit - n_read)];
            let read = if let Some(fd) = &held {
                let fd = Rc::clone(fd);
                let wait = wait.get_or_insert_with(|| Box::pin(async move { fd.readable().await }));
                ready!(wait.as_mut().poll(cx)).and_then(|()| held_file(&held).read(bytes))
            } else {
                let mut slot = io.slot.borrow_mut();
                let end = slot.end.as_mut().expect("it is registered");
                ready!(end.poll_read(cx, bytes))
            };
            wait = None;
            match read {
                Ok(0) => return io.probe.end(Reason::End),
                Ok(n) => {
                    io.flow.receive(&bytes[..n]);
                    n_read += n;
                }
                Err(error) if held.is_some() && error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return io.fail(&error),
            }
        }
    })
}

fn held_file(held: &Option<Rc<AsyncFd<File>>>) -> &File {
    held.as_ref().expect("it was looked for before").get_ref()
}

/// Writes `total` bytes.
pub(crate) fn writes(io: Io, total: usize) -> Body {
    let registration = io.registration();
    let mut held = io.held();
    let mut wait: Option<Wait> = None;
    let mut n_written = 0;
    Box::new(move |cx| {
        loop {
            if io.registration() != registration {
                (wait, held) = (None, None);
                return io.probe.end(Reason::Closed);
            }
            if n_written == total {
                return io.probe.end(Reason::Enough);
            }
            let bytes = io.flow.next(4_096.min(total - n_written));
            let written = if let Some(fd) = &held {
                let fd = Rc::clone(fd);
                let wait = wait.get_or_insert_with(|| Box::pin(async move { fd.writable().await }));
                ready!(wait.as_mut().poll(cx)).and_then(|()| held_file(&held).write(&bytes))
            } else {
                let mut slot = io.slot.borrow_mut();
                let end = slot.end.as_mut().expect("it is registered");
                ready!(end.poll_write(cx, &bytes))
            };
            wait = None;
            match written {
                Ok(n) => {
                    io.flow.sent(n);
                    n_written += n;
                }
                Err(error) if held.is_some() && error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return io.fail(&error),
            }
        }
    })
}
