//! [`Listener`]: accepts connections of a simulated network.

use super::stream::SimStream;
use super::waiter::{Waiter, wake_all};
use futures_util::stream::{self, Stream};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::rc::{Rc, Weak};
use std::task::Poll;

/// Connections that wait to be accepted, and tasks that wait for one.
#[derive(Default)]
pub(super) struct Backlog {
    streams: VecDeque<SimStream>,
    waiters: Vec<Waiter>,
}

impl Backlog {
    /// Adds a connection, and wakes the tasks that wait for one.
    pub(super) fn push(backlog: &RefCell<Backlog>, stream: SimStream) {
        let mut borrowed = backlog.borrow_mut();
        borrowed.streams.push_back(stream);
        let waiters = std::mem::take(&mut borrowed.waiters);
        drop(borrowed);
        wake_all(waiters);
    }
}

/// Accepts the connections to one port of a [`Host`](super::Host); made by
/// [`Host::listen`](super::Host::listen).
///
/// When it is dropped, connections that were not accepted are reset, and later ones are refused.
pub struct Listener {
    addr: Rc<str>,
    backlog: Rc<RefCell<Backlog>>,
}

impl Listener {
    /// Makes a listener, and what connections to it are pushed to.
    pub(super) fn new(addr: Rc<str>) -> (Listener, Weak<RefCell<Backlog>>) {
        let backlog = Rc::<RefCell<Backlog>>::default();
        let weak = Rc::downgrade(&backlog);
        (Listener { addr, backlog }, weak)
    }

    /// Returns the address, such as `server:80`.
    pub fn local_addr(&self) -> &str {
        &self.addr
    }

    /// Waits for the next connection. Who has made it is said by [`SimStream::peer_addr`].
    ///
    /// # Errors
    /// It never fails; that of a real network may, so code for both has the same type.
    ///
    /// # Cancel safety
    /// No connection is lost by dropping the future.
    pub async fn accept(&self) -> io::Result<SimStream> {
        let what = Rc::from(format!("a connection to {}", self.addr));
        poll_fn(|cx| {
            if let Some(stream) = self.backlog.borrow_mut().streams.pop_front() {
                return Poll::Ready(Ok(stream));
            }
            let is_known = |waiter: &Waiter| waiter.is_of(cx.waker());
            if !self.backlog.borrow().waiters.iter().any(is_known) {
                let waiter = Waiter::new(cx.waker(), &what);
                self.backlog.borrow_mut().waiters.push(waiter);
            }
            Poll::Pending
        })
        .await
    }

    /// Returns the connections as a stream that does not end.
    pub fn incoming(&self) -> impl Stream<Item = io::Result<SimStream>> + '_ {
        stream::unfold(self, |listener| async move {
            Some((listener.accept().await, listener))
        })
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.addr).finish()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Backlog { streams, waiters } = self.backlog.take();
        streams.iter().for_each(SimStream::reset);
        // Of futures that were dropped while they waited.
        drop(waiters);
    }
}
