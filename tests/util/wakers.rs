//! Wakers that count, wakers that call back, and values that tell of their end.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};

/// Polls `future` once, with a waker that does nothing.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls `future` once, with `waker`.
pub(crate) fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Counts how often it is woken, and does nothing else.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicUsize);

impl Count {
    pub(crate) fn waker() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Calls its closure when it is dropped.
pub(crate) struct OnDrop<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Adds one to `count` when it is dropped.
pub(crate) fn counted(count: &Arc<AtomicUsize>) -> OnDrop<impl FnMut() + use<>> {
    let count = Arc::clone(count);
    OnDrop(move || {
        count.fetch_add(1, Ordering::SeqCst);
    })
}

/// What happened, in order.
#[derive(Clone, Default)]
pub(crate) struct Trace(Rc<RefCell<Vec<String>>>);

impl Trace {
    pub(crate) fn add(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }

    pub(crate) fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// What is done to a waker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Clone,
    Wake,
    Drop,
}

type Strike = (Event, Box<dyn FnOnce()>);

thread_local! {
    static STRIKE: RefCell<Option<Strike>> = const { RefCell::new(None) };
    static N_STRIKES: Cell<usize> = const { Cell::new(0) };
}

/// Has the next hostile waker to which `event` happens on this thread run `action`.
pub(crate) fn arm(event: Event, action: impl FnOnce() + 'static) {
    STRIKE.set(Some((event, Box::new(action))));
}

/// How often a hostile waker has struck on this thread.
pub(crate) fn n_strikes() -> usize {
    N_STRIKES.get()
}

fn strike(event: Event) {
    let armed = STRIKE.with_borrow_mut(|s| s.take_if(|(armed, _)| *armed == event));
    if let Some((_, action)) = armed {
        N_STRIKES.set(N_STRIKES.get() + 1);
        action();
    }
}

/// `inner`, in a waker that does what it was armed with when it is cloned, woken or dropped. By
/// hand, because `std::task::Wake` has no say in a clone.
pub(crate) fn hostile(inner: &Waker) -> Waker {
    let data = Arc::into_raw(Arc::new(inner.clone())).cast();
    // SAFETY: `data` is an `Arc` of a waker, which is what the four functions take it for; wakers
    // may go to any thread, and the functions keep the count of references right.
    unsafe { Waker::new(data, &HOSTILE) }
}

static HOSTILE: RawWakerVTable = RawWakerVTable::new(
    |data| {
        strike(Event::Clone);
        // SAFETY: the waker that is being cloned holds one reference.
        unsafe { Arc::increment_strong_count(data.cast::<Waker>()) };
        RawWaker::new(data, &HOSTILE)
    },
    |data| {
        let inner = owned(data);
        strike(Event::Wake);
        inner.wake_by_ref();
        strike(Event::Drop);
    },
    |data| {
        let inner = ManuallyDrop::new(owned(data));
        strike(Event::Wake);
        inner.wake_by_ref();
    },
    |data| {
        let inner = owned(data);
        strike(Event::Drop);
        drop(inner);
    },
);

fn owned(data: *const ()) -> Arc<Waker> {
    // SAFETY: only called with the data of a hostile waker, whose reference the caller takes over
    // or gives back by `ManuallyDrop`.
    unsafe { Arc::from_raw(data.cast::<Waker>()) }
}

/// Polls `future` with a hostile waker.
pub(crate) async fn with_hostile_waker<F: Future>(future: F) -> F::Output {
    let mut future = Box::pin(future);
    std::future::poll_fn(|cx| {
        let waker = hostile(cx.waker());
        // The waker in the hand of the test is not what is to strike.
        let waker = ManuallyDrop::new(waker);
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        let armed = STRIKE.take();
        drop(ManuallyDrop::into_inner(waker));
        STRIKE.set(armed);
        polled
    })
    .await
}
