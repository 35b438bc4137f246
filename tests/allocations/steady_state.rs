//! What the steady state allocates: nothing.

use crate::{N_ALLOCATIONS, N_BYTES};
use fahrenheit::{AsyncTcpListener, AsyncTcpStream, Builder, Event, Poller, prelude::*};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{Read, Write};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// What `body` allocates on this thread when it is done for the second and third time.
async fn allocations(mut body: impl AsyncFnMut()) -> usize {
    body().await;
    let before = N_ALLOCATIONS.get();
    body().await;
    body().await;
    N_ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    let n = fahrenheit::block_on(allocations(async || {
        drop(std::hint::black_box(Box::new(1)))
    }));
    assert_eq!(n, 2);
}

#[test]
fn turns_and_wakes_allocate_nothing() {
    let n = fahrenheit::block_on(allocations(async || {
        for _ in 0..1_000 {
            fahrenheit::yield_now().await;
        }
    }));
    assert_eq!(n, 0);
}

#[test]
fn timers_that_come_and_go_allocate_nothing() {
    let n = fahrenheit::block_on(allocations(async || {
        for _ in 0..100 {
            fahrenheit::time::sleep(Duration::from_millis(1)).await;
            let once = fahrenheit::yield_now();
            let limited = fahrenheit::time::timeout(Duration::from_secs(60), once);
            limited.await.unwrap();
        }
    }));
    assert_eq!(n, 0);
}

/// A server on this thread, a client on another, and this number of bytes there and back.
fn round_trips_allocate_nothing(n: usize) {
    let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        let mut server = std::net::TcpStream::connect(address).unwrap();
        server.set_nodelay(true).unwrap();
        let limit = Some(Duration::from_secs(20));
        server.set_read_timeout(limit).unwrap();
        for i in 0..3 * n {
            if i < 20 {
                // The server has to wait, so that the connection is tenured before we count.
                std::thread::sleep(Duration::from_millis(2));
            }
            server.write_all(b"x").unwrap();
            server.read_exact(&mut [0]).unwrap();
        }
    });
    let n_allocations = fahrenheit::block_on(async {
        let (mut stream, _) = listener.accept().await.unwrap();
        // A client that is faster than this thread lets the task spend its budget in one poll. The
        // task then wakes itself, and the queues of woken tasks grow. They grow here, before the
        // count.
        fahrenheit::yield_now().await;
        fahrenheit::yield_now().await;
        allocations(async || echo(&mut stream, n).await).await
    });
    client.join().unwrap();
    assert_eq!(n_allocations, 0);
}

async fn echo(stream: &mut AsyncTcpStream, n: usize) {
    let mut bytes = [0];
    for _ in 0..n {
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
    }
}

#[test]
fn round_trips_on_a_connection_allocate_nothing() {
    round_trips_allocate_nothing(1_000);
}

#[test]
fn a_task_that_follows_another_one_of_its_size_costs_no_allocation() {
    let n = fahrenheit::block_on(allocations(async || {
        for i in 0..100 {
            let task = fahrenheit::spawn(async move {
                fahrenheit::yield_now().await;
                i
            });
            assert_eq!(task.await.unwrap(), i);
        }
    }));
    assert_eq!(n, 0);
}

/// Number of freed tasks of one size whose memory the loop keeps.
const MAX_KEPT: usize = 1_024;

async fn many_at_once(n: usize) {
    let tasks: Vec<_> = (0..n)
        .map(|i| {
            fahrenheit::spawn(async move {
                fahrenheit::yield_now().await;
                i
            })
        })
        .collect();
    for (i, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), i);
    }
}

#[test]
fn a_task_costs_at_most_one_allocation_however_often_it_is_polled() {
    let n = fahrenheit::block_on(allocations(async || many_at_once(3 * MAX_KEPT).await));
    // One for each task beyond those that are kept, and one for the handles; twice.
    assert_eq!(n, 2 * (2 * MAX_KEPT + 1));
}

thread_local! {
    /// Calls its function when the thread ends. Dropped after what the thread makes later.
    static AT_THREAD_END: RefCell<Option<AtEnd>> = const { RefCell::new(None) };
}

struct AtEnd(Box<dyn FnMut()>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn memory_that_is_kept_for_tasks_is_freed_with_the_loop() {
    let (to, from) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let end = to.clone();
        let at_end = AtEnd(Box::new(move || end.send(N_BYTES.get()).unwrap()));
        AT_THREAD_END.set(Some(at_end));
        fahrenheit::block_on(many_at_once(MAX_KEPT));
        to.send(N_BYTES.get()).unwrap();
    });
    thread.join().unwrap();
    let (kept, left) = (from.recv().unwrap(), from.recv().unwrap());
    assert!(kept > 64 * 1024, "{kept} bytes are kept");
    assert!(left < 16 * 1024, "{left} of {kept} bytes are left");
}

#[repr(align(64))]
#[derive(Debug, PartialEq)]
struct Aligned(u8);

#[test]
fn a_task_may_need_any_alignment_and_is_freed() {
    let run = || {
        fahrenheit::block_on(async {
            let task = fahrenheit::spawn(async {
                let held = Aligned(1);
                fahrenheit::yield_now().await;
                assert_eq!(&raw const held as usize % 64, 0);
                Aligned(held.0 + 1)
            });
            assert_eq!(task.await.unwrap(), Aligned(2));
            fahrenheit::spawn(async { Aligned(3) }).detach();
            let aborted = fahrenheit::spawn(std::future::pending::<Aligned>());
            aborted.abort();
            assert!(aborted.await.unwrap_err().is_cancelled());
        });
    };
    run();
    let before = N_BYTES.get();
    (0..10).for_each(|_| run());
    assert_eq!(N_BYTES.get(), before);
}

/// A byte there and back over sockets, a signal, a timer that fires and one that does not.
async fn rounds(near: &mut AsyncTcpStream, far: &mut AsyncTcpStream, event: &Event) {
    let notifier = event.notifier();
    let mut byte = [0];
    // Longer than it takes until tenured descriptors are looked at again.
    for _ in 0..1_000 {
        near.write_all(b"x").await.unwrap();
        far.read_exact(&mut byte).await.unwrap();
        far.write_all(&byte).await.unwrap();
        near.read_exact(&mut byte).await.unwrap();
        fahrenheit::time::sleep(Duration::from_micros(100)).await;
        notifier.notify().unwrap();
        let limited = fahrenheit::time::timeout(Duration::from_secs(60), event.wait());
        limited.await.unwrap().unwrap();
    }
}

#[test]
fn turns_for_sockets_events_and_timers_allocate_nothing_either_way() {
    for poller in [Poller::Select, Poller::Auto] {
        let n = Builder::new().poller(poller).block_on(async {
            let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            let mut near = AsyncTcpStream::connect(addr).await.unwrap();
            let (mut far, _) = listener.accept().await.unwrap();
            let event = Event::new().unwrap();
            allocations(async || rounds(&mut near, &mut far, &event).await).await
        });
        assert_eq!(n, Ok(0), "{poller:?}");
    }
}

/// Bytes that `n` tasks that have all ended leave behind.
fn left_behind_by(n: usize) -> isize {
    let before = N_BYTES.get();
    fahrenheit::run(async {
        for i in 0..n {
            let task = fahrenheit::spawn(async move {
                fahrenheit::yield_now().await;
                i
            });
            // Some are awaited, the others detached.
            if i % 1_000 == 0 {
                assert_eq!(task.await.unwrap(), i);
            }
        }
    });
    N_BYTES.get() - before
}

#[test]
fn a_hundred_thousand_tasks_leave_no_memory_behind() {
    // What the loop allocates once, with the memory of a thousand tasks, which it keeps. If the
    // main future is queued when it ends, the next turn frees what stood for it.
    left_behind_by(10_000);
    let left = left_behind_by(100_000);
    assert!(left < 1_000, "{left} bytes");
}

#[test]
fn waking_very_many_tasks_at_once_allocates_nothing() {
    const N: usize = 100_000;
    let (wakers, n_woken) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(0)));
    fahrenheit::block_on(async {
        for i in 0..N {
            let (wakers, n_woken) = (Rc::clone(&wakers), Rc::clone(&n_woken));
            let mut is_known = false;
            drop(fahrenheit::spawn(poll_fn::<(), _>(move |cx| {
                if is_known {
                    n_woken.set(n_woken.get() + 1);
                } else {
                    wakers.borrow_mut().push(cx.waker().clone());
                    is_known = true;
                }
                Poll::Pending
            })));
            if i % 1_000 == 999 {
                fahrenheit::yield_now().await;
            }
        }
        let wakers = wakers.take();
        let before = (N_ALLOCATIONS.get(), N_BYTES.get());
        wakers.iter().for_each(Waker::wake_by_ref);
        fahrenheit::yield_now().await;
        fahrenheit::yield_now().await;
        assert_eq!(n_woken.get(), N);
        assert_eq!((N_ALLOCATIONS.get(), N_BYTES.get()), before);
    });
}
