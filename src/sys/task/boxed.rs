//! Bodies that need a greater alignment than a task has.

use super::Body;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A body in memory of its own.
pub(super) struct Boxed<B> {
    /// `None` once the output is gone: the destructor of the body of a task is never called.
    body: Option<Pin<Box<B>>>,
}

impl<B> Boxed<B> {
    pub(super) fn new(body: B) -> Boxed<B> {
        let body = Some(Box::pin(body));
        Boxed { body }
    }

    fn get(self: Pin<&mut Self>) -> Option<Pin<&mut B>> {
        self.get_mut().body.as_mut().map(Pin::as_mut)
    }
}

impl<B: Body> Body for Boxed<B> {
    type Output = B::Output;

    fn poll(self: Pin<&mut Self>, id: u64, cx: &mut Context<'_>) -> Poll<()> {
        let body = self.get();
        body.map_or(Poll::Ready(()), |body| body.poll(id, cx))
    }

    fn cancel(self: Pin<&mut Self>, id: u64) {
        if let Some(body) = self.get() {
            body.cancel(id);
        }
    }

    fn take_output(mut self: Pin<&mut Self>) -> Option<B::Output> {
        let output = self.as_mut().get()?.take_output()?;
        self.body = None;
        Some(output)
    }

    fn discard(mut self: Pin<&mut Self>, id: u64, name: Option<&str>) {
        if let Some(body) = self.as_mut().get() {
            body.discard(id, name);
        }
        self.body = None;
    }
}
