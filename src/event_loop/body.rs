//! The future of a task and then its output.
//!
//! Knows no queue, no waker and no loop.
//!
//! **Invariant.** No method unwinds: a panic of the future, or of its destructor, becomes the
//! output of the task; a panic of the output's destructor is logged instead of the output.

use super::boundary::{self, contain, drop_payload, drop_value, try_drop};
use super::join_error::{Id, JoinError};
use crate::sys::task::Body;
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

pin_project! {
    /// A task's future, and then its output.
    #[project = StageProj]
    #[project_replace = StageOwned]
    pub(crate) enum Stage<F, T> {
        Running { #[pin] future: F },
        Done { output: Result<T, JoinError> },
        Taken,
    }
}

impl<F, T> Stage<F, T> {
    /// The body of a task that runs `future`.
    pub(crate) fn new(future: F) -> Stage<F, T> {
        Stage::Running { future }
    }

    /// Drops what is there, which may panic, and puts `output` in its place.
    fn end(mut self: Pin<&mut Self>, id: u64, output: Result<T, JoinError>) {
        // `Pin::set` writes the new value even if dropping the old one panics. The first call drops
        // the future, so its panic is worth reporting. The second call drops `output`, which the
        // panic has replaced: a further panic has no place to go.
        if let Err(payload) = contain(|| self.as_mut().set(Stage::Done { output })) {
            let output = Err(JoinError::panicked(Id(id), payload));
            if let Err(payload) = contain(|| self.set(Stage::Done { output })) {
                drop_payload(payload);
            }
        }
    }
}

impl<F, T> Body for Stage<F, T>
where
    F: Future<Output = Result<T, JoinError>>,
{
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, id: u64, cx: &mut Context<'_>) -> Poll<()> {
        let StageProj::Running { future } = self.as_mut().project() else {
            return Poll::Ready(());
        };
        let output = match contain(|| future.poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => output,
            Err(payload) => Err(JoinError::panicked(Id(id), payload)),
        };
        self.end(id, output);
        Poll::Ready(())
    }

    fn cancel(mut self: Pin<&mut Self>, id: u64) {
        // A task that has ended keeps its output.
        if let StageProj::Running { .. } = self.as_mut().project() {
            self.end(id, Err(JoinError::cancelled(Id(id))));
        }
    }

    fn take_output(mut self: Pin<&mut Self>) -> Option<Self::Output> {
        if let StageProj::Running { .. } = self.as_mut().project() {
            return None;
        }
        match self.project_replace(Stage::Taken) {
            StageOwned::Done { output } => Some(output),
            _ => None,
        }
    }

    fn discard(mut self: Pin<&mut Self>, id: u64, name: Option<&str>) {
        self.as_mut().cancel(id);
        let unreported = match self.take_output() {
            None => return,
            Some(Ok(value)) => match try_drop(value) {
                Ok(()) => return,
                Err(payload) => JoinError::panicked(Id(id), payload),
            },
            Some(Err(error)) => error,
        };
        // Not so the error of an aborted task, or of a job that could not be started.
        if unreported.is_panic() {
            match name {
                Some(name) => boundary::error!("{unreported} (its name is {name:?})"),
                None => boundary::error!("{unreported}"),
            }
        }
        // Drops the payload of the panic, whose destructor may panic as well.
        drop_value(unreported);
    }
}
