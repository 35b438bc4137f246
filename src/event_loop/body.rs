//! The future of a task and then its output, with their types erased.
//!
//! Knows no table and no waker queue.
//!
//! **Invariant.** No method unwinds: a panic of the future, or of its destructor, becomes the
//! output of the task; a panic of the output's destructor is reported instead of the output.

use super::boundary::{self, contain, drop_payload, drop_value, try_drop};
use super::join_error::{Id, JoinError};
use pin_project_lite::pin_project;
use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// A task's future, and then its output.
pub(crate) trait Body {
    /// Polls the future and keeps what it returns. A panic becomes the output.
    fn poll(self: Pin<&mut Self>, id: Id, cx: &mut Context<'_>) -> Poll<()>;
    /// Drops the future. The output is then an error that says that the task was cancelled.
    fn cancel(self: Pin<&mut Self>, id: Id);
    /// Moves the output into `into`, which must be an `Option<Result<T, JoinError>>`.
    fn take_output(self: Pin<&mut Self>, into: &mut dyn Any);
    /// Drops the future and the output. Returns a panic that no handle has reported.
    fn discard(self: Pin<&mut Self>, id: Id) -> Option<JoinError>;
}

pin_project! {
    #[project = StageProj]
    #[project_replace = StageOwned]
    enum Stage<F, T> {
        Running { #[pin] future: F },
        Done { output: Result<T, JoinError> },
        Taken,
    }
}

/// Erases the type of `future`.
pub(crate) fn body<F, T>(future: F) -> Pin<Box<dyn Body>>
where
    F: Future<Output = Result<T, JoinError>> + 'static,
    T: 'static,
{
    Box::pin(Stage::Running { future })
}

impl<F, T> Stage<F, T> {
    /// Drops what is there, which may panic, and puts `output` in its place.
    fn end(mut self: Pin<&mut Self>, id: Id, output: Result<T, JoinError>) {
        // `Pin::set` writes the new value even if dropping the old one panics. The first call drops
        // the future, so its panic is worth reporting. The second call drops `output`, which the
        // panic has replaced: a further panic has no place to go.
        if let Err(payload) = contain(|| self.as_mut().set(Stage::Done { output })) {
            let output = Err(JoinError::panicked(id, payload));
            if let Err(payload) = contain(|| self.set(Stage::Done { output })) {
                drop_payload(payload);
            }
        }
    }
}

impl<F, T> Body for Stage<F, T>
where
    F: Future<Output = Result<T, JoinError>> + 'static,
    T: 'static,
{
    fn poll(mut self: Pin<&mut Self>, id: Id, cx: &mut Context<'_>) -> Poll<()> {
        let StageProj::Running { future } = self.as_mut().project() else {
            return Poll::Ready(());
        };
        let output = match contain(|| future.poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => output,
            Err(payload) => Err(JoinError::panicked(id, payload)),
        };
        self.end(id, output);
        Poll::Ready(())
    }

    fn cancel(self: Pin<&mut Self>, id: Id) {
        self.end(id, Err(JoinError::cancelled(id)));
    }

    fn take_output(self: Pin<&mut Self>, into: &mut dyn Any) {
        let slot = into.downcast_mut::<Option<Result<T, JoinError>>>();
        let slot = slot.expect("a handle has the type of its task");
        if let StageOwned::Done { output } = self.project_replace(Stage::Taken) {
            *slot = Some(output);
        }
    }

    fn discard(mut self: Pin<&mut Self>, id: Id) -> Option<JoinError> {
        if let StageProj::Running { .. } = self.as_mut().project() {
            self.as_mut().cancel(id);
        }
        let StageOwned::Done { output } = self.project_replace(Stage::Taken) else {
            return None;
        };
        match output {
            Ok(value) => Some(JoinError::panicked(id, try_drop(value).err()?)),
            Err(error) if error.is_panic() => Some(error),
            // The error of a job that could not be started, or of an aborted task.
            Err(error) => {
                drop_value(error);
                None
            }
        }
    }
}

/// How a task ended, to be acted on when nothing is borrowed.
#[derive(Default)]
pub(crate) struct Ended {
    /// The task that awaits the handle.
    pub(crate) joiner: Option<Waker>,
    /// The output, if no handle is left that could take it.
    pub(crate) unclaimed: Option<Pin<Box<dyn Body>>>,
    /// The name of the task.
    pub(crate) name: Option<Box<str>>,
}

impl Ended {
    /// Wakes the task that awaits the handle of task `id`, and drops the output if there is no
    /// handle left. A panic that no handle will report is logged.
    pub(crate) fn notify_joiner(self, id: Id) {
        if let Some(joiner) = self.joiner {
            boundary::wake(joiner);
        }
        let Some(mut body) = self.unclaimed else {
            return;
        };
        let unreported = body.as_mut().discard(id);
        drop_value(body);
        if let Some(error) = unreported {
            match self.name {
                Some(name) => boundary::error!("{error} (its name is {name:?})"),
                None => boundary::error!("{error}"),
            }
            // Drops the payload of the panic, whose destructor may panic as well.
            drop_value(error);
        }
    }
}
