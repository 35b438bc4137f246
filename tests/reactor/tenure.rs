//! What is seen of the kernel's queue from outside: nothing, but for the descriptors in `select`.
#![cfg(all(target_os = "linux", feature = "unix"))]

use crate::util::tenured::{grow_old, pair, selects_only};
use crate::util::{Cost, alone, go, poll_once};
use fahrenheit::prelude::*;
use fahrenheit::time::{interval, sleep, timeout};
use fahrenheit::{AsyncFd, AsyncTcpListener, AsyncTcpStream, task};
use std::cell::Cell;
use std::future::Future;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// The descriptor of the kernel's queue, if the loop has one.
fn queue() -> Option<RawFd> {
    let is_queue = |fd: &RawFd| {
        let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        link.to_str() == Some("anon_inode:[eventpoll]")
    };
    fahrenheit::interest().read.into_iter().find(is_queue)
}

#[test]
fn a_descriptor_leaves_select_once_it_has_waited_a_few_times() {
    go(async {
        let (fd, mut peer) = pair();
        let is_in_select = || {
            let (mut shared, mut bytes) = (&fd, [0]);
            assert!(poll_once(&mut shared.read(&mut bytes)).is_pending());
            fahrenheit::interest().read.contains(&fd.as_raw_fd())
        };
        assert!(is_in_select(), "it is young");
        grow_old(&fd, &mut peer).await;
        assert_eq!(is_in_select(), selects_only());
        assert_eq!(queue().is_none(), selects_only());
    });
}

#[test]
fn a_listener_that_is_no_longer_accepted_from_does_not_spin_the_loop() {
    go(async {
        let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        for _ in 0..12 {
            let connects = async {
                sleep(Duration::from_millis(1)).await;
                AsyncTcpStream::connect(addr).await.unwrap()
            };
            let (accepted, _client) = futures_util::join!(listener.accept(), connects);
            accepted.unwrap();
        }
        let _waiting = AsyncTcpStream::connect(addr).await.unwrap();
        let cost = Cost::begin();
        sleep(Duration::from_millis(500)).await;
        cost.check("500 ms beside a full listener", Duration::from_millis(5));
        listener.accept().await.unwrap();
    });
}

#[test]
fn each_old_descriptor_that_is_closed_behind_the_loop_is_found() {
    let name = test_name!();
    let body = async {
        let n_old = Rc::new(Cell::new(0));
        let pairs: Vec<_> = (0..150).map(|_| pair()).collect();
        let numbers: Vec<_> = pairs.iter().map(|(fd, _)| fd.as_raw_fd()).collect();
        let tasks: Vec<_> = pairs
            .into_iter()
            .map(|(fd, mut peer)| {
                let n_old = Rc::clone(&n_old);
                fahrenheit::spawn(async move {
                    grow_old(&fd, &mut peer).await;
                    n_old.set(n_old.get() + 1);
                    let error = (&fd).read(&mut [0]).await.unwrap_err();
                    // The number is not closed a second time.
                    std::mem::forget(fd);
                    error.raw_os_error()
                })
            })
            .collect();
        // They are looked at when the loop turns.
        drop(task::Builder::new().daemon(true).spawn(async {
            let mut ticks = interval(Duration::from_millis(10));
            loop {
                ticks.tick().await;
            }
        }));
        while n_old.get() < numbers.len() {
            sleep(Duration::from_millis(10)).await;
        }
        for number in numbers {
            nix::unistd::close(number).unwrap();
        }
        for task in tasks {
            assert_eq!(task.await.unwrap(), Some(nix::libc::EBADF));
        }
    };
    alone(name, || go(body));
}

/// Somebody closes the queue's descriptor, and does what `then` does, while one task waits in the
/// queue and another, which has not seen a `WouldBlock`, in `select`.
async fn lose_the_queue(then: impl FnOnce(RawFd)) {
    let (fd, mut peer) = pair();
    grow_old(&fd, &mut peer).await;
    let fd = Rc::new(fd);
    let reads = fahrenheit::spawn({
        let fd = Rc::clone(&fd);
        async move { (&*fd).read(&mut [0]).await.unwrap() }
    });
    let ready = fahrenheit::spawn(async move { fd.readable().await });
    sleep(Duration::from_millis(10)).await;
    let queue = queue();
    assert_eq!(queue.is_none(), selects_only());
    if let Some(queue) = queue {
        nix::unistd::close(queue).unwrap();
        then(queue);
    }
    let cost = Cost::begin();
    sleep(Duration::from_millis(200)).await;
    cost.check("200 ms without the queue", Duration::from_millis(5));
    peer.write_all(b"x").unwrap();
    ready.await.unwrap().unwrap();
    assert_eq!(reads.await.unwrap(), 1);
}

#[test]
fn all_waiters_go_on_if_the_kernel_queue_is_closed_behind_the_loop() {
    let name = test_name!();
    alone(name, || go(lose_the_queue(|_| {})));
}

#[test]
fn a_queue_whose_number_is_something_else_is_given_up() {
    let name = test_name!();
    alone(name, || {
        go(lose_the_queue(|number| {
            // Always ready.
            let other = std::fs::File::open("/dev/zero").unwrap();
            assert_eq!(other.as_raw_fd(), number, "the lowest number that is free");
            std::mem::forget(other);
        }));
    });
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_waiter_for_a_descriptor_of_a_thread_that_ends_is_woken() {
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let thread = std::thread::spawn(move || {
        let (fd, peer) = pair();
        let mut shared = &fd;
        let mut bytes = [0];
        let mut read = shared.read(&mut bytes);
        let poll = Pin::new(&mut read).poll(&mut Context::from_waker(&waker));
        assert!(poll.is_pending());
        // Neither is dropped, which would wake as well.
        std::mem::forget((fd, peer));
    });
    thread.join().unwrap();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert_eq!(Arc::strong_count(&count), 1);
}

/// A connection to which a peer has sent data and the end at once, after a few single bytes, so
/// that the connection is in the kernel's queue.
async fn read_up_to_the_end() -> AsyncTcpStream {
    let (mut ours, peer) = crate::util::connected_pair().await;
    let mut peer = peer.into_std();
    let mut bytes = [0; 64];
    for words in [&b"x"[..]; 12].into_iter().chain([&b"data"[..]]) {
        let is_last = words == b"data";
        let late = async {
            sleep(Duration::from_millis(1)).await;
            peer.write_all(words).unwrap();
            if is_last {
                // Without a turn of the loop in between, so that one event stands for both.
                peer.shutdown(Shutdown::Write).unwrap();
            }
        };
        let (n, ()) = futures_util::join!(ours.read(&mut bytes), late);
        // Less than there was room for, which usually means that no more is there.
        assert_eq!(n.unwrap(), words.len());
    }
    ours
}

#[test]
fn data_and_end_that_come_as_one_event_are_both_read() {
    go(async {
        let mut n_read_at_once = 0;
        for _ in 0..10 {
            let mut ours = read_up_to_the_end().await;
            let (mut first, mut later) = ([0; 64], [0; 64]);
            // If the event is taken for data alone, this read waits for one that never comes. The
            // loop finds that out by a look a quarter of a second later, so what is counted is
            // reads that need no turn of the loop.
            match poll_once(&mut ours.read(&mut first)) {
                Poll::Ready(n) => {
                    assert_eq!(n.unwrap(), 0);
                    n_read_at_once += 1;
                }
                // On a busy machine the kernel may report the end later, by an event of its own.
                Poll::Pending => {
                    let end = timeout(Duration::from_secs(10), ours.read(&mut later)).await;
                    assert_eq!(end.expect("no event comes any more").unwrap(), 0);
                }
            }
        }
        // `select` reports the end in the next turn, because it goes by the state.
        assert!(n_read_at_once > 0 || selects_only());
    });
}

#[test]
fn a_single_would_block_of_a_descriptor_in_the_queue_is_not_believed() {
    go(async {
        let (ours, mut peer) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let fd = AsyncFd::new(ours).unwrap();
        let mut bytes = [0; 4];
        for _ in 0..12 {
            let late = async {
                sleep(Duration::from_millis(1)).await;
                peer.write_all(b"once").unwrap();
            };
            let read = fd.read_with(|mut ours| ours.read(&mut bytes));
            let (n, ()) = futures_util::join!(read, late);
            assert_eq!(n.unwrap(), 4);
        }
        let late = async {
            sleep(Duration::from_millis(1)).await;
            // One event stands for both words, and the first read takes the first word only.
            peer.write_all(b"onemore!").unwrap();
        };
        let read = fd.read_with(|mut ours| ours.read(&mut bytes));
        let (n, ()) = futures_util::join!(read, late);
        assert_eq!(n.unwrap(), 4);
        let n_calls = Cell::new(0);
        let second = fd.read_with(|mut ours| {
            n_calls.set(n_calls.get() + 1);
            // A kernel may say so now and then although there is something to read.
            if n_calls.get() == 1 {
                return Err(std::io::ErrorKind::WouldBlock.into());
            }
            ours.read(&mut bytes)
        });
        // In the queue no further event would come, so the call is made again at once.
        match poll_once(&mut pin!(second)) {
            Poll::Ready(n) => assert_eq!((n.unwrap(), n_calls.get()), (4, 2)),
            Poll::Pending => assert!(selects_only(), "it waits for an event that never comes"),
        }
    });
}
