//! What the tests share: a watchdog, CPU time, wakers that count, wakers that are hostile, a record
//! of the log, and a connected pair of sockets.
#![allow(unsafe_code)]

use fahrenheit::AsyncTcpStream;
use fahrenheit::prelude::*;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Once};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

/// Runs `test` on a thread of its own, with a loop of its own, and returns what it returns once
/// that thread and its loop are gone. If that takes too long, the whole process is aborted: a hang
/// is a result, not a stuck build.
#[track_caller]
pub(crate) fn within<R: Send>(seconds: u64, test: impl FnOnce() -> R + Send) -> R {
    let place = std::panic::Location::caller();
    let (alive, ended) = channel::<()>();
    thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let _alive = alive;
            test()
        });
        if ended.recv_timeout(Duration::from_secs(seconds)) == Err(RecvTimeoutError::Timeout) {
            // Not `eprintln!`, which the test harness would keep to itself.
            let _ = writeln!(
                std::io::stderr(),
                "{place}: the test hangs after {seconds} s"
            );
            std::process::abort();
        }
        match thread.join() {
            Ok(value) => value,
            Err(payload) => std::panic::resume_unwind(payload),
        }
    })
}

/// Here nix has no word for it, so limits on CPU time cannot fail.
#[cfg(any(target_os = "solaris", target_os = "haiku"))]
pub(crate) fn cpu_time() -> Duration {
    Duration::ZERO
}

/// The CPU time that this thread has used; where the system does not say, the process.
#[cfg(not(any(target_os = "solaris", target_os = "haiku")))]
pub(crate) fn cpu_time() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    #[cfg(any(target_os = "linux", target_os = "freebsd"))]
    let who = UsageWho::RUSAGE_THREAD;
    #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
    let who = UsageWho::RUSAGE_SELF;
    let usage = getrusage(who).unwrap();
    [usage.user_time(), usage.system_time()]
        .map(|time| {
            Duration::from_secs(time.tv_sec() as u64) + Duration::from_micros(time.tv_usec() as u64)
        })
        .iter()
        .sum()
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

/// Calls `f`, and returns also what this thread logged meanwhile, at `warn` and `error`.
pub(crate) fn record<R>(f: impl FnOnce() -> R) -> (R, Vec<String>) {
    struct Recorder;
    thread_local! { static RECORD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) }; }
    impl log::Log for Recorder {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            let line = format!("{} {}", record.level(), record.args());
            let _ = RECORD.try_with(|lines| lines.borrow_mut().as_mut().map(|l| l.push(line)));
        }
        fn flush(&self) {}
    }
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        log::set_logger(&Recorder).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
    });
    RECORD.set(Some(Vec::new()));
    let value = f();
    (value, RECORD.take().unwrap())
}

/// The message of a panic.
pub(crate) fn text(payload: &(dyn std::any::Any + Send)) -> &str {
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    owned.unwrap_or_else(|| payload.downcast_ref::<&str>().unwrap())
}

/// Two ends of a TCP connection over loopback, both on this thread's loop.
pub(crate) fn tcp_pair() -> (AsyncTcpStream, AsyncTcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let a = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (b, _) = listener.accept().unwrap();
    for end in [&a, &b] {
        end.set_nodelay(true).unwrap();
    }
    let [a, b] = [a, b].map(|end| AsyncTcpStream::from_std(end).unwrap());
    (a, b)
}

/// Sends back what comes, until the end.
pub(crate) async fn echo(mut stream: AsyncTcpStream) {
    let mut bytes = [0; 64];
    loop {
        match stream.read(&mut bytes).await.unwrap() {
            0 => return,
            n => stream.write_all(&bytes[..n]).await.unwrap(),
        }
    }
}

/// Sends one byte and waits for it to come back.
pub(crate) async fn round_trip(stream: &mut AsyncTcpStream) {
    let mut byte = [0];
    stream.write_all(b"x").await.unwrap();
    stream.read_exact(&mut byte).await.unwrap();
    assert_eq!(&byte, b"x");
}

/// Starts an echo task and makes round trips to it for `time`; returns how many.
pub(crate) async fn round_trips_in(time: Duration) -> usize {
    let (mut near, far) = tcp_pair();
    drop(fahrenheit::spawn(echo(far)));
    let start = Instant::now();
    let mut n_trips = 0;
    while start.elapsed() < time {
        round_trip(&mut near).await;
        n_trips += 1;
    }
    n_trips
}

/// Polls `future` once.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
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
