//! Descriptors that other code closes, or that are replaced by other files behind the loop's back.
//! Each test runs in a process of its own.
#![cfg(all(target_os = "linux", feature = "unix"))]
#![allow(unsafe_code, reason = "to replace what is behind a number")]

use crate::util::tenured::{grow_old, pair, selects_only};
use crate::util::{Cost, alone, go, open_fds, watchdog};
use fahrenheit::prelude::*;
use fahrenheit::time::sleep;
use fahrenheit::{AsyncTcpListener, AsyncTcpStream, AsyncUnixStream};
use futures_channel::oneshot;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The descriptors of the loop that are kernel queues.
fn queues() -> Vec<RawFd> {
    let is_queue = |fd: &RawFd| {
        let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        link.to_str() == Some("anon_inode:[eventpoll]")
    };
    let read = fahrenheit::interest().read;
    read.into_iter().filter(is_queue).collect()
}

/// Waits for a wake from another thread.
fn wait_for_a_thread() {
    let (tell, told) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        tell.send(7).unwrap();
    });
    assert_eq!(fahrenheit::block_on(told), Ok(7));
    thread.join().unwrap();
}

/// Makes a loop with a pipe and, if `has_queue`, with a kernel queue, and loses all descriptors
/// above the standard streams. `then` gets their numbers.
fn lose_all(has_queue: bool, then: impl FnOnce(&[RawFd])) {
    wait_for_a_thread();
    let mut kept = None;
    if has_queue {
        fahrenheit::block_on(async {
            let (fd, mut peer) = pair();
            grow_old(&fd, &mut peer).await;
            kept = Some((fd, peer));
        });
    }
    let lost: Vec<_> = open_fds().into_iter().filter(|&fd| fd > 2).collect();
    assert!(lost.len() >= 2, "{lost:?}");
    for &fd in &lost {
        nix::unistd::close(fd).unwrap();
    }
    then(&lost);
    let _dog = watchdog();
    let cost = Cost::begin_of_process();
    wait_for_a_thread();
    wait_for_a_thread();
    cost.check(
        "two waits without the descriptors",
        Duration::from_millis(20),
    );
    // What a host would wait for is open.
    let open = open_fds();
    let read = fahrenheit::interest().read;
    assert!(
        read.iter().all(|fd| open.contains(fd)),
        "{read:?} of {open:?}"
    );
    // The loop does all else as before.
    go(crate::util::exchange(3, 3)).unwrap();
    // Their numbers are not closed a second time.
    std::mem::forget(kept);
}

/// Puts `file` behind `number`.
fn put_behind(file: &OwnedFd, number: RawFd) {
    // SAFETY: the number is not open, or its owner owns the new file from now on.
    let owner = unsafe { nix::unistd::dup2_raw(file, number) };
    let _ = owner.unwrap().into_raw_fd();
}

#[test]
fn a_loop_whose_descriptors_were_all_closed_makes_new_ones() {
    let name = test_name!();
    alone(name, || {
        for has_queue in [false, true] {
            std::thread::spawn(move || lose_all(has_queue, |_| {}))
                .join()
                .unwrap();
        }
    });
}

#[test]
fn a_loop_whose_numbers_are_always_readable_files_does_not_read_them_for_ever() {
    let name = test_name!();
    alone(name, || {
        for has_queue in [false, true] {
            let body = move || {
                lose_all(has_queue, |lost| {
                    for &number in lost {
                        let zero = File::open("/dev/zero").unwrap();
                        if zero.as_raw_fd() != number {
                            put_behind(&zero.into(), number);
                        } else {
                            let _ = zero.into_raw_fd();
                        }
                    }
                });
            };
            std::thread::spawn(body).join().unwrap();
        }
    });
}

#[test]
fn a_byte_that_wakes_the_loop_does_not_land_in_the_file_of_a_stranger() {
    let name = test_name!();
    alone(name, || {
        for has_queue in [false, true] {
            let body = move || {
                let (strange, mut far) = (OnceFd::default(), None);
                lose_all(has_queue, |lost| {
                    let (near, peer) = UnixStream::pair().unwrap();
                    let (near, peer) = (high(near), high(peer));
                    lost.iter().for_each(|&number| put_behind(&near, number));
                    strange.0.replace(Some(near));
                    far = Some(UnixStream::from(peer));
                });
                let mut far = far.unwrap();
                far.set_nonblocking(true).unwrap();
                let read = far.read(&mut [0; 64]);
                assert_eq!(read.unwrap_err().kind(), ErrorKind::WouldBlock);
            };
            std::thread::spawn(body).join().unwrap();
        }
    });
}

/// Keeps a descriptor for as long as it lives.
#[derive(Default)]
struct OnceFd(std::cell::RefCell<Option<OwnedFd>>);

/// The same open file with a number that nothing else will get.
fn high(fd: impl Into<OwnedFd>) -> OwnedFd {
    use nix::fcntl::{FcntlArg, fcntl};
    use std::os::fd::FromRawFd;
    let number = fcntl(fd.into(), FcntlArg::F_DUPFD_CLOEXEC(500)).unwrap();
    // SAFETY: the call has just made this descriptor.
    unsafe { OwnedFd::from_raw_fd(number) }
}

#[test]
fn no_descriptor_of_the_loop_is_a_standard_stream() {
    let name = test_name!();
    alone(name, || {
        let kept: Vec<_> = (0..3).map(dup_of).collect();
        (0..3).for_each(|fd| nix::unistd::close(fd).unwrap());
        let outcome = std::thread::spawn(|| {
            wait_for_a_thread();
            fahrenheit::block_on(async {
                let (fd, mut peer) = crate::util::connected_pair().await;
                let own = [fd.as_raw_fd(), peer.as_raw_fd()];
                let interest = fahrenheit::interest().read;
                let write = fahrenheit::io::stdout().and(Ok(()));
                let read = fahrenheit::io::stdin().and(Ok(()));
                peer.write_all(b"x").await.unwrap();
                (own, interest, [write, read].map(Result::unwrap_err))
            })
        })
        .join();
        for (fd, kept) in kept.iter().enumerate() {
            put_behind(kept, fd as RawFd);
        }
        let (own, interest, errors) = outcome.unwrap();
        assert!(
            own.iter().chain(&interest).all(|&fd| fd > 2),
            "{own:?} {interest:?}"
        );
        let errnos = errors.map(|error| error.raw_os_error());
        assert_eq!(errnos, [Some(nix::libc::EBADF); 2]);
    });
}

/// A duplicate of a standard stream.
fn dup_of(fd: RawFd) -> OwnedFd {
    use std::os::fd::BorrowedFd;
    // SAFETY: standard streams are open here.
    high(
        unsafe { BorrowedFd::borrow_raw(fd) }
            .try_clone_to_owned()
            .unwrap(),
    )
}

/// Waits to read from `fd` until it fails, while a thread closes it.
fn is_noticed_without_timers(delay: Duration) {
    let (fd, mut peer) = pair();
    let number = fd.as_raw_fd();
    fahrenheit::block_on(grow_old(&fd, &mut peer));
    let closes = std::thread::spawn(move || {
        std::thread::sleep(delay);
        nix::unistd::close(number).unwrap();
        Instant::now()
    });
    let _dog = watchdog();
    let error = fahrenheit::block_on((&fd).read(&mut [0])).unwrap_err();
    let noticed = Instant::now();
    assert_eq!(error.raw_os_error(), Some(nix::libc::EBADF));
    let took = noticed.saturating_duration_since(closes.join().unwrap());
    println!("closed after {delay:?}, noticed {took:?} later");
    // After 2, 6 and 14 seconds of idleness; the rest is for a busy machine.
    assert!(took < Duration::from_secs(8), "{took:?}");
    std::mem::forget(fd);
}

#[test]
fn a_closed_descriptor_is_noticed_by_a_loop_without_timers() {
    let name = test_name!();
    if selects_only() {
        // A `select` that is under way does not notice, and nothing can be done about that.
        return;
    }
    alone(name, || {
        is_noticed_without_timers(Duration::from_millis(200));
        is_noticed_without_timers(Duration::from_millis(2_500));
    });
}

/// Waits to read from an old descriptor, while other code puts another socket behind its number,
/// as `dup2` does. Returns what was read. The socket has `early` from the start and gets `late`
/// soon after. With `is_kept`, a duplicate keeps the old socket open.
fn replaced_while_waiting(early: &[u8], late: &'static [u8], is_kept: bool) -> Vec<u8> {
    let (fd, mut peer) = pair();
    fahrenheit::block_on(grow_old(&fd, &mut peer));
    let (other, mut other_peer) = UnixStream::pair().unwrap();
    other.set_nonblocking(true).unwrap();
    other_peer.write_all(early).unwrap();
    let kept = is_kept.then(|| dup_of(fd.as_raw_fd()));
    let replaces = std::thread::spawn({
        let number = fd.as_raw_fd();
        move || {
            std::thread::sleep(Duration::from_millis(100));
            put_behind(&other.into(), number);
            std::thread::sleep(Duration::from_millis(100));
            other_peer.write_all(late).unwrap();
            other_peer
        }
    });
    let _dog = watchdog();
    let mut bytes = [0; 16];
    let n = fahrenheit::block_on(async {
        // A `select` that is under way waits for the old file, so something has to end it.
        let ticks = selects_only().then(|| {
            fahrenheit::spawn(async {
                loop {
                    sleep(Duration::from_millis(10)).await;
                }
            })
        });
        let n = (&fd).read(&mut bytes).await.unwrap();
        if let Some(ticks) = ticks {
            ticks.abort();
        }
        n
    });
    drop((replaces.join().unwrap(), kept));
    bytes[..n].to_vec()
}

#[test]
fn a_socket_that_replaces_an_old_one_is_read() {
    let name = test_name!();
    alone(name, || {
        for is_kept in [false, true] {
            assert_eq!(replaced_while_waiting(b"early", b"", is_kept), b"early");
            assert_eq!(replaced_while_waiting(b"", b"late", is_kept), b"late");
        }
    });
}

#[test]
fn a_queue_that_could_not_be_had_is_made_when_there_are_descriptors_again() {
    let name = test_name!();
    alone(name, || {
        go(async {
            let (fd, mut peer) = pair();
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, 96.min(hard), hard).unwrap();
            let files: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
            grow_old(&fd, &mut peer).await;
            grow_old(&fd, &mut peer).await;
            drop(files);
            assert_eq!(queues(), []);
            for _ in 0..100 {
                grow_old(&fd, &mut peer).await;
                if selects_only() || queues().len() == 1 {
                    return;
                }
            }
            panic!("there is still no queue");
        });
    });
}

#[test]
fn a_forgotten_listener_leaves_no_watch_behind() {
    let name = test_name!();
    alone(name, || {
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
            // A task waits for it, and the open file lives on in a duplicate.
            let accepts = fahrenheit::spawn(async move {
                let outcome = listener.accept().await;
                std::mem::forget(listener);
                outcome.map(drop)
            });
            fahrenheit::yield_now().await;
            let number = listening(addr);
            let _lives_on = high(dup_of(number));
            nix::unistd::close(number).unwrap();
            let (near, mut far) = UnixStream::pair().unwrap();
            let mut near = AsyncUnixStream::from_std(near).unwrap();
            assert_eq!(near.as_raw_fd(), number, "the lowest number that is free");
            let _waiting = AsyncTcpStream::connect(addr).await.unwrap();
            let cost = Cost::begin();
            sleep(Duration::from_millis(500)).await;
            cost.check(
                "500 ms beside what was a listener",
                Duration::from_millis(5),
            );
            assert!(accepts.await.unwrap().is_err());
            far.write_all(b"x").unwrap();
            near.read_exact(&mut [0]).await.unwrap();
        });
    });
}

/// The descriptor that listens on `addr`.
fn listening(addr: std::net::SocketAddr) -> RawFd {
    use nix::sys::socket::{SockaddrIn, getsockname, getsockopt, sockopt};
    use std::os::fd::BorrowedFd;
    let is_it = |&fd: &RawFd| {
        let name = getsockname::<SockaddrIn>(fd);
        // SAFETY: it is open, as it was listed just now.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        name.is_ok_and(|name| name.port() == addr.port())
            && getsockopt(&borrowed, sockopt::AcceptConn) == Ok(true)
    };
    open_fds().into_iter().find(is_it).unwrap()
}
