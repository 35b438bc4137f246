//! `AsyncFd`: any descriptor, waited for.

use crate::util::go;
use fahrenheit::prelude::*;
use fahrenheit::time::{sleep, timeout};
use fahrenheit::{AsyncFd, RegisterError};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// A connected pair of which one end is registered and does not block.
fn pair() -> (AsyncFd<UnixStream>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (AsyncFd::new(ours).unwrap(), theirs)
}

/// A pipe whose ends block, as those of a shell do.
fn blocking_pipe() -> (File, File) {
    let (read, write) = nix::unistd::pipe().unwrap();
    (read.into(), write.into())
}

fn flags(fd: impl AsFd) -> OFlag {
    OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap())
}

/// Counts its wakes, and how many of its kind are alive.
struct Counting {
    n_wakes: AtomicUsize,
    n_alive: Arc<AtomicUsize>,
}

impl Counting {
    fn new(n_alive: &Arc<AtomicUsize>) -> Arc<Counting> {
        n_alive.fetch_add(1, Ordering::Relaxed);
        Arc::new(Counting {
            n_wakes: AtomicUsize::new(0),
            n_alive: Arc::clone(n_alive),
        })
    }

    fn n_wakes(&self) -> usize {
        self.n_wakes.load(Ordering::Relaxed)
    }
}

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.n_wakes.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.n_alive.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn dropping_a_descriptor_wakes_every_task_that_waits_for_it() {
    let (fd, _theirs) = pair();
    let slot = Rc::new(RefCell::new(Some(fd)));
    go(async {
        let wait = |slot: Rc<RefCell<Option<AsyncFd<UnixStream>>>>| {
            poll_fn(move |cx| match &*slot.borrow() {
                Some(fd) => fd.poll_read_with(cx, |mut fd| fd.read(&mut [0])).map(Some),
                None => Poll::Ready(None),
            })
        };
        let waiters = [(); 2].map(|()| fahrenheit::spawn(wait(Rc::clone(&slot))));
        sleep(Duration::from_millis(20)).await;
        assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
        drop(slot.take());
        for waiter in waiters {
            assert!(waiter.await.unwrap().is_none());
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn unread_data_does_not_spin_the_loop() {
    let (mut fd, mut theirs) = pair();
    go(async {
        // The data comes while a task waits for it, so that there is an interest to leave behind.
        let reader = fahrenheit::spawn(async move {
            assert_eq!(fd.read(&mut [0]).await.unwrap(), 1);
            fd
        });
        fahrenheit::yield_now().await;
        theirs.write_all(&[7; 1_000]).unwrap();
        let mut fd = reader.await.unwrap();
        let cost = crate::util::Cost::begin();
        sleep(Duration::from_secs(1)).await;
        cost.check("1 s beside unread data", Duration::from_millis(5));
        fd.read_exact(&mut [0; 999]).await.unwrap();
    });
}

#[test]
fn the_newest_waker_is_woken() {
    let (fd, mut theirs) = pair();
    let n_alive = Arc::new(AtomicUsize::new(0));
    let (a, b) = (Counting::new(&n_alive), Counting::new(&n_alive));
    let poll = |waker: &Arc<Counting>| {
        let waker = Waker::from(Arc::clone(waker));
        let mut cx = Context::from_waker(&waker);
        fd.poll_read_with(&mut cx, |mut fd| fd.read(&mut [0]))
    };
    assert!(poll(&a).is_pending());
    assert!(poll(&b).is_pending());
    assert_eq!((a.n_wakes(), b.n_wakes()), (0, 0));
    theirs.write_all(b"x").unwrap();
    fahrenheit::turn(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(b.n_wakes(), 1);
    assert!(poll(&b).is_ready());
    drop((fd, a, b));
    assert_eq!(n_alive.load(Ordering::Relaxed), 0, "the loop keeps a waker");
}

#[test]
fn a_hundred_thousand_wakers_on_one_descriptor_do_not_pile_up() {
    let (fd, mut theirs) = pair();
    let n_alive = Arc::new(AtomicUsize::new(0));
    let mut last = Counting::new(&n_alive);
    for _ in 0..100_000 {
        last = Counting::new(&n_alive);
        let waker = Waker::from(Arc::clone(&last));
        let polled =
            fd.poll_read_with(&mut Context::from_waker(&waker), |mut fd| fd.read(&mut [0]));
        assert!(polled.is_pending());
    }
    let n_kept = n_alive.load(Ordering::Relaxed);
    assert!(n_kept <= 100, "{n_kept} wakers are kept");
    theirs.write_all(b"x").unwrap();
    fahrenheit::turn(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(last.n_wakes(), 1);
}

#[test]
fn always_readable_descriptors_are_served_alike_and_take_turns_at_being_first() {
    const N: usize = 64;
    const ROUNDS: usize = 160;
    let served = Rc::new(RefCell::new(Vec::new()));
    go(async {
        let mut tasks = Vec::new();
        let mut writers = Vec::new();
        for index in 0..N {
            let (mut fd, mut theirs) = pair();
            theirs.write_all(&[1; 2 * ROUNDS]).unwrap();
            writers.push(theirs);
            let served = Rc::clone(&served);
            tasks.push(fahrenheit::spawn(async move {
                while served.borrow().len() < N * ROUNDS {
                    fd.readable().await.unwrap();
                    assert_eq!(fd.read(&mut [0]).await.unwrap(), 1);
                    served.borrow_mut().push(index);
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
    let served = served.borrow();
    let count = |each: &mut dyn Iterator<Item = usize>| {
        let mut counts = [0_usize; N];
        each.for_each(|index| counts[index] += 1);
        (*counts.iter().min().unwrap(), *counts.iter().max().unwrap())
    };
    let (least, most) = count(&mut served.iter().copied());
    assert!(2 * most <= 3 * least, "served {least} to {most} times");
    let mut firsts = served.chunks(N).take(ROUNDS).map(|round| round[0]);
    let (least, most) = count(&mut firsts);
    assert!(least >= 1 && most <= 5, "first {least} to {most} times");
}

#[test]
fn a_regular_file_never_waits() {
    let path = std::env::temp_dir().join(format!("fahrenheit-a19-{}", std::process::id()));
    std::fs::write(&path, b"on disk").unwrap();
    let mut file = AsyncFd::new(File::open(&path).unwrap()).unwrap();
    std::fs::remove_file(&path).unwrap();
    let text = go(async {
        file.readable().await.unwrap();
        file.writable().await.unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).await.unwrap();
        // At its end a file is still ready, and says so.
        file.readable().await.unwrap();
        assert_eq!(file.read(&mut [0]).await.unwrap(), 0);
        text
    });
    assert_eq!(text, "on disk");
}

#[test]
fn a_blocking_descriptor_is_waited_for_and_keeps_its_flags() {
    let (read, mut write) = blocking_pipe();
    let before = flags(&read);
    assert!(!before.contains(OFlag::O_NONBLOCK));
    let mut read = AsyncFd::new(read).unwrap();
    go(async {
        let ticks = Cell::new(0);
        let (n, ()) =
            futures_util::join!(async { read.read(&mut [0; 16]).await.unwrap() }, async {
                while ticks.get() < 20 {
                    sleep(Duration::from_millis(1)).await;
                    ticks.set(ticks.get() + 1);
                }
                write.write_all(b"late").unwrap();
            });
        // Had the read blocked the thread, no task would have written.
        assert_eq!((n, ticks.get()), (4, 20));
    });
    assert_eq!(flags(&read), before);
    assert_eq!(flags(read.into_inner()), before);
}

#[test]
fn two_tasks_that_read_one_blocking_pipe_never_block_the_loop() {
    let (read, mut write) = blocking_pipe();
    let read = Rc::new(AsyncFd::new(read).unwrap());
    go(async {
        let tasks = [(); 2].map(|()| {
            let read = Rc::clone(&read);
            fahrenheit::spawn(async move {
                let mut byte = [0];
                read.read_with(|mut file| file.read(&mut byte))
                    .await
                    .unwrap();
                byte[0]
            })
        });
        sleep(Duration::from_millis(5)).await;
        // Both are woken, and there is something for one of them only.
        write.write_all(b"a").unwrap();
        sleep(Duration::from_millis(20)).await;
        assert_eq!(tasks.iter().filter(|task| task.is_finished()).count(), 1);
        write.write_all(b"b").unwrap();
        let mut bytes = Vec::new();
        for task in tasks {
            bytes.push(task.await.unwrap());
        }
        bytes.sort_unstable();
        assert_eq!(bytes, b"ab");
    });
}

#[test]
fn a_second_owner_is_refused_and_many_waiters_are_not() {
    let (fd, mut theirs) = pair();
    let number = fd.as_raw_fd();
    let error = AsyncFd::new(fd.as_fd()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    let inner = error.get_ref().unwrap().downcast_ref::<RegisterError>();
    assert_eq!(
        inner,
        Some(&RegisterError::AlreadyRegistered { fd: number })
    );
    assert!(error.to_string().contains(&number.to_string()), "{error}");
    go(async {
        let wait = || async { fd.readable().await.unwrap() };
        let write = async { theirs.write_all(b"x").unwrap() };
        futures_util::join!(wait(), wait(), wait(), write);
    });
    // The refusal has not harmed the first owner, and ending its registration makes room.
    let io = fd.into_inner();
    AsyncFd::new(io).unwrap();
}

#[test]
fn try_new_gives_the_descriptor_back() {
    let (fd, _theirs) = pair();
    let (given, error) = AsyncFd::try_new(fd.as_fd()).unwrap_err();
    assert_eq!(given.as_raw_fd(), fd.as_raw_fd());
    assert!(matches!(error, RegisterError::AlreadyRegistered { .. }));
}

#[test]
fn a_dropped_descriptor_leaves_no_interest() {
    let (fd, _theirs) = pair();
    let number = fd.as_raw_fd();
    {
        let mut wait = pin!(fd.readable());
        let polled = wait.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        assert!(fahrenheit::interest().read.contains(&number));
    }
    drop(fd);
    assert!(!fahrenheit::interest().read.contains(&number));
}

#[test]
fn the_directions_are_waited_for_apart() {
    let (fd, mut theirs) = pair();
    let number = fd.as_raw_fd();
    // Fill it, so that neither direction is ready.
    while fd.get_ref().write(&[0; 65_536]).is_ok() {}
    let mut cx = Context::from_waker(Waker::noop());
    let mut read = pin!(fd.readable());
    let mut write = pin!(fd.writable());
    assert!(read.as_mut().poll(&mut cx).is_pending());
    assert!(write.as_mut().poll(&mut cx).is_pending());
    theirs.write_all(b"x").unwrap();
    fahrenheit::turn(Some(Duration::from_secs(10))).unwrap();
    let interest = fahrenheit::interest();
    assert!(!interest.read.contains(&number), "it fired");
    assert!(
        interest.write.contains(&number),
        "it has nothing to do with reading"
    );
    assert!(read.poll(&mut cx).is_ready());
    assert!(write.poll(&mut cx).is_pending());
}

/// The two ends of a pseudo-terminal: who types, and the terminal, which blocks.
fn pty() -> (File, File) {
    let ends = nix::pty::openpty(None, None).unwrap();
    (ends.master.into(), ends.slave.into())
}

#[test]
fn typing_a_line_wakes_once_and_control_d_is_the_end() {
    let (mut keyboard, terminal) = pty();
    let before = flags(&terminal);
    let mut stdin = AsyncFd::new(terminal).unwrap();
    let n_polls = Rc::new(Cell::new(0));
    go(async {
        let reader = fahrenheit::spawn({
            let n_polls = Rc::clone(&n_polls);
            async move {
                let mut line = [0; 64];
                let n = {
                    let mut read = pin!(stdin.read(&mut line));
                    poll_fn(|cx| {
                        n_polls.set(n_polls.get() + 1);
                        read.as_mut().poll(cx)
                    })
                    .await
                    .unwrap()
                };
                (stdin, line[..n].to_vec())
            }
        });
        sleep(Duration::from_millis(20)).await;
        assert_eq!(n_polls.get(), 1, "nothing was typed");
        keyboard.write_all(b"hello\n").unwrap();
        let (mut stdin, line) = reader.await.unwrap();
        assert_eq!((line.as_slice(), n_polls.get()), (&b"hello\n"[..], 2));
        let mut more = [0; 64];
        let waited = timeout(Duration::from_millis(20), stdin.read(&mut more)).await;
        assert!(
            waited.is_err(),
            "an open terminal without input is not at its end"
        );
        keyboard.write_all(&[4]).unwrap();
        assert_eq!(stdin.read(&mut more).await.unwrap(), 0);
        assert_eq!(flags(&stdin), before);
    });
}

#[test]
fn the_end_of_a_pipe_is_not_an_empty_pipe() {
    let (read, write) = blocking_pipe();
    let mut read = AsyncFd::new(read).unwrap();
    go(async {
        let waited = timeout(Duration::from_millis(20), read.read(&mut [0; 8])).await;
        assert!(waited.is_err());
        drop(write);
        assert_eq!(read.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(read.read(&mut [0; 8]).await.unwrap(), 0);
    });
}

#[test]
fn a_wrong_hint_is_waited_out() {
    let (fd, mut theirs) = pair();
    go(async {
        // The second time, it has waited so often that the kernel's queue watches it.
        for _ in 0..2 {
            let mut n_calls = 0;
            theirs.write_all(b"x").unwrap();
            let read = fd.read_with(|mut io| {
                n_calls += 1;
                // Ready, says the loop; would block, says the call; ten times over.
                if n_calls <= 10 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                io.read(&mut [0])
            });
            assert_eq!(read.await.unwrap(), 1);
            assert_eq!(n_calls, 11);
            let nothing = timeout(
                Duration::from_millis(5),
                fd.read_with(|mut io| io.read(&mut [0])),
            );
            assert!(nothing.await.is_err());
            for _ in 0..8 {
                let wait = async {
                    let read = fd.read_with(|mut io| io.read(&mut [0; 8])).await;
                    assert_eq!(read.unwrap(), 1);
                };
                let write = async {
                    fahrenheit::yield_now().await;
                    theirs.write_all(b"y").unwrap();
                };
                futures_util::join!(wait, write);
            }
        }
    });
}

#[test]
fn an_interrupted_call_is_repeated_and_other_errors_are_returned() {
    let (fd, _theirs) = pair();
    go(async {
        let mut n_calls = 0;
        let write = fd.write_with(|mut io| {
            n_calls += 1;
            if n_calls <= 10 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            io.write(b"x")
        });
        assert_eq!(write.await.unwrap(), 1);
        let failed: io::Result<()> = fd.read_with(|_| Err(io::ErrorKind::Other.into())).await;
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::Other);
    });
}

#[test]
fn slices_are_read_and_written_in_one_call() {
    let (mut fd, mut theirs) = pair();
    go(async {
        let slices = [io::IoSlice::new(b"ab"), io::IoSlice::new(b"cde")];
        assert_eq!(fd.write_vectored(&slices).await.unwrap(), 5);
        fd.flush().await.unwrap();
        let mut bytes = [0; 5];
        theirs.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"abcde");
        theirs.write_all(&bytes).unwrap();
        let (mut a, mut b) = ([0; 1], [0; 4]);
        let mut slices = [io::IoSliceMut::new(&mut a), io::IoSliceMut::new(&mut b)];
        assert_eq!(fd.read_vectored(&mut slices).await.unwrap(), 5);
        assert_eq!((&a, &b), (b"a", b"bcde"));
    });
}

#[test]
fn a_descriptor_that_was_taken_back_no_longer_wakes_the_loop() {
    crate::util::within(10, || {
        let turn = |limit| fahrenheit::turn(Some(limit)).unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let fd = Rc::new(AsyncFd::new(near).unwrap());
        let reader = Rc::clone(&fd);
        let read = async move { reader.read_with(|mut io| io.read(&mut [0])).await };
        let task = fahrenheit::spawn(read);
        // Until it is old enough for the kernel's queue, if there is one.
        for _ in 0..10 {
            turn(Duration::ZERO);
        }
        task.abort();
        turn(Duration::ZERO);
        let near = Rc::try_unwrap(fd).unwrap().into_inner();
        far.write_all(b"x").unwrap();
        let begun = std::time::Instant::now();
        let limit = Duration::from_millis(50);
        turn(limit);
        assert!(begun.elapsed() >= limit, "the loop was woken");
        drop(near);
    });
}
