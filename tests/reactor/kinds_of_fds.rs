//! Each kind of fault that this crate once had, with other descriptors: assumptions about the
//! kernel, readiness that cannot be consumed, blocking descriptors, files, cost. A test's name is
//! the claim.
#![cfg(all(target_os = "linux", feature = "fs", feature = "unix"))]
#![allow(unsafe_code)]

use crate::util::kit::{
    LONG, MS, blocking_pipe, check, expect_nothing, made, read_once, set_option, tenured_pair,
};
use crate::util::{cpu_time, within};
use fahrenheit::prelude::*;
use fahrenheit::time::{sleep, timeout};
use fahrenheit::{AsyncFd, fs, run, spawn};
use nix::libc;
use std::cell::Cell;
use std::fs::File;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::task::{Context, Waker};
use std::time::Duration;

// An assumption about the kernel must not prevent a call for good.

#[test]
fn every_post_of_an_eventfd_semaphore_is_taken() {
    let flags = libc::EFD_SEMAPHORE | libc::EFD_NONBLOCK | libc::EFD_CLOEXEC;
    within(60, || {
        run(async {
            // SAFETY: takes two numbers.
            let fd = File::from(made(unsafe { libc::eventfd(0, flags) }));
            let semaphore = AsyncFd::new(fd).unwrap();
            for _ in 0..20 {
                semaphore.get_ref().write_all(&3_u64.to_ne_bytes()).unwrap();
                // One edge for three posts.
                for _ in 0..3 {
                    let mut count = [0; 8];
                    assert_eq!(read_once(&semaphore, &mut count).await, 8);
                    assert_eq!(u64::from_ne_bytes(count), 1);
                }
                expect_nothing(&semaphore).await;
            }
        });
    });
}

#[test]
fn every_expiration_of_a_timerfd_is_counted() {
    let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
    within(60, || {
        run(async {
            // SAFETY: takes two numbers.
            let fd = made(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) });
            let period = libc::timespec {
                tv_sec: 0,
                tv_nsec: 1_000_000,
            };
            let setting = libc::itimerspec {
                it_interval: period,
                it_value: period,
            };
            // SAFETY: reads the setting, which lives during the call; the old one is not asked for.
            check(unsafe {
                libc::timerfd_settime(fd.as_raw_fd(), 0, &setting, std::ptr::null_mut())
            });
            let timer = AsyncFd::new(File::from(fd)).unwrap();
            let mut n_expired = 0;
            while n_expired < 50 {
                let mut count = [0; 8];
                read_once(&timer, &mut count).await;
                n_expired += u64::from_ne_bytes(count);
            }
        });
    });
}

#[test]
fn inotify_events_are_read_one_by_one() {
    let name = format!("inotify-{}", std::process::id());
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir(&folder).unwrap();
    let path = std::ffi::CString::new(folder.to_str().unwrap()).unwrap();
    within(60, || {
        run(async {
            let flags = libc::IN_NONBLOCK | libc::IN_CLOEXEC;
            // SAFETY: takes a number.
            let fd = made(unsafe { libc::inotify_init1(flags) });
            // SAFETY: reads the path, which ends with NUL and lives during the call.
            check(unsafe {
                libc::inotify_add_watch(fd.as_raw_fd(), path.as_ptr(), libc::IN_CREATE)
            });
            let events = AsyncFd::new(File::from(fd)).unwrap();
            for round in 0..10 {
                for n in 0..3 {
                    std::fs::write(folder.join(format!("{round}-{n}")), b"").unwrap();
                }
                // A header of 16 bytes and a name of 16: room for one.
                for _ in 0..3 {
                    assert_eq!(read_once(&events, &mut [0; 32]).await, 32);
                }
                expect_nothing(&events).await;
            }
        });
    });
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn an_epoll_in_the_loop_tells_of_all_its_descriptors() {
    within(60, || {
        run(async {
            // SAFETY: takes a number.
            let epoll = made(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) });
            let pipes: Vec<_> = (0..3).map(|_| blocking_pipe()).collect();
            for (read, _) in &pipes {
                let mut event = libc::epoll_event {
                    events: libc::EPOLLIN as u32,
                    u64: read.as_raw_fd() as u64,
                };
                let (epoll, read) = (epoll.as_raw_fd(), read.as_raw_fd());
                // SAFETY: reads the event, which lives during the call.
                check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, read, &mut event) });
            }
            let epoll = AsyncFd::new(epoll).unwrap();
            for round in 0..20 {
                for (_, write) in &pipes {
                    (&*write).write_all(b"x").unwrap();
                }
                for _ in 0..3 {
                    let mut event = libc::epoll_event { events: 0, u64: 0 };
                    let take = epoll.read_with(|epoll| {
                        // SAFETY: writes one event at most, for which there is room.
                        let n = unsafe { libc::epoll_wait(epoll.as_raw_fd(), &mut event, 1, 0) };
                        match check(n) {
                            0 => Err(io::ErrorKind::WouldBlock.into()),
                            n => Ok(n),
                        }
                    });
                    let taken = timeout(LONG, take).await;
                    taken
                        .unwrap_or_else(|_| panic!("an event is missing in round {round}"))
                        .unwrap();
                    let fd = event.u64 as i32;
                    let (read, _) = pipes.iter().find(|(r, _)| r.as_raw_fd() == fd).unwrap();
                    (&*read).read_exact(&mut [0]).unwrap();
                }
            }
        });
    });
}

#[test]
fn packets_of_a_pipe_in_packet_mode_stay_apart() {
    within(60, || {
        run(async {
            let mut ends = [0; 2];
            let flags = libc::O_DIRECT | libc::O_NONBLOCK | libc::O_CLOEXEC;
            // SAFETY: writes two descriptors, for which there is room.
            check(unsafe { libc::pipe2(ends.as_mut_ptr(), flags) });
            let [read, mut write] = ends.map(|end| File::from(made(end)));
            let read = AsyncFd::new(read).unwrap();
            for _ in 0..20 {
                write.write_all(b"one").unwrap();
                write.write_all(b"three").unwrap();
                // A read that is shorter than its buffer has not emptied the pipe.
                assert_eq!(read_once(&read, &mut [0; 64]).await, 3);
                assert_eq!(read_once(&read, &mut [0; 64]).await, 5);
                expect_nothing(&read).await;
            }
        });
    });
}

#[test]
fn a_terminal_in_packet_mode_tells_of_flushes_and_of_data() {
    within(60, || {
        run(async {
            let pty = nix::pty::openpty(None, None).unwrap();
            let mut settings = nix::sys::termios::tcgetattr(&pty.slave).unwrap();
            nix::sys::termios::cfmakeraw(&mut settings);
            let now = nix::sys::termios::SetArg::TCSANOW;
            nix::sys::termios::tcsetattr(&pty.slave, now, &settings).unwrap();
            let on: libc::c_int = 1;
            // SAFETY: reads one int.
            check(unsafe { libc::ioctl(pty.master.as_raw_fd(), libc::TIOCPKT, &on) });
            let mut slave = File::from(pty.slave);
            let master = AsyncFd::new(File::from(pty.master)).unwrap();
            let mut buffer = [0; 64];
            for _ in 0..20 {
                slave.write_all(b"data").unwrap();
                let n = read_once(&master, &mut buffer).await;
                assert_eq!(&buffer[..n], b"\0data");
                let flush = nix::sys::termios::FlushArg::TCIFLUSH;
                nix::sys::termios::tcflush(&slave, flush).unwrap();
                timeout(LONG, master.exceptional()).await.unwrap().unwrap();
                let n = read_once(&master, &mut buffer).await;
                // TIOCPKT_FLUSHREAD of `ioctl_tty(2)`, which libc has no name for.
                assert_eq!((n, buffer[0]), (1, 1));
            }
        });
    });
}

#[test]
fn data_below_a_socket_s_low_water_mark_is_read_once_the_mark_is_lowered() {
    within(60, || {
        run(async {
            let (mut near, far) = tenured_pair().await;
            set_option(&far, libc::SO_RCVLOWAT, 4);
            let duplicate = far.as_fd().try_clone_to_owned().unwrap();
            let reader = spawn(async move {
                let (mut far, mut buffer) = (far, [0; 64]);
                let first = far.read(&mut buffer).await.unwrap();
                (first, far.read(&mut buffer).await.unwrap())
            });
            // Each wait gives the reader time to see what it must not see.
            for bytes in [b"", b"12".as_slice(), b"34", b"56"] {
                near.write_all(bytes).await.unwrap();
                sleep(20 * MS).await;
            }
            assert!(!reader.is_finished());
            set_option(&duplicate, libc::SO_RCVLOWAT, 1);
            let counts = timeout(LONG, reader).await.expect("the mark was lowered");
            assert_eq!(counts.unwrap(), (4, 2));
        });
    });
}

// Readiness that an operation cannot consume backs off.

#[test]
fn a_closure_that_always_says_would_block_is_not_called_all_the_time() {
    within(60, || {
        run(async {
            for (n_reads, max_calls) in [(0, 60), (20, 60)] {
                let (read, mut write) = blocking_pipe();
                // SAFETY: takes two numbers.
                let flags = unsafe { libc::fcntl(read.as_raw_fd(), libc::F_GETFL) };
                let flags = check(flags) | libc::O_NONBLOCK;
                // SAFETY: takes three numbers.
                check(unsafe { libc::fcntl(read.as_raw_fd(), libc::F_SETFL, flags) });
                let read = AsyncFd::new(File::from(OwnedFd::from(read))).unwrap();
                for _ in 0..n_reads {
                    let mut byte = [0];
                    let waiting = read_once(&read, &mut byte);
                    let (n_read, ()) = futures_util::join!(waiting, async {
                        write.write_all(b"x").unwrap();
                    });
                    assert_eq!(n_read, 1);
                }
                write.write_all(b"x").unwrap();
                let n_calls = Cell::new(0);
                let refuse = |_: &File| {
                    n_calls.set(n_calls.get() + 1);
                    Err::<(), _>(io::Error::from(io::ErrorKind::WouldBlock))
                };
                assert!(timeout(300 * MS, read.read_with(refuse)).await.is_err());
                assert!(n_calls.get() <= max_calls, "{} calls", n_calls.get());
                // And what is there can be read.
                assert_eq!(read_once(&read, &mut [0; 8]).await, 1);
            }
        });
    });
}

#[test]
fn completions_of_zero_copy_sends_do_not_keep_a_reader_busy() {
    const SO_ZEROCOPY: libc::c_int = 60;
    const MSG_ZEROCOPY: libc::c_int = 0x400_0000;
    within(60, || {
        run(async {
            let (mut near, mut far) = tenured_pair().await;
            set_option(&near, SO_ZEROCOPY, 1);
            let bytes = [1_u8; 20_000];
            // SAFETY: reads the bytes, which live until the peer has received them.
            let n_sent = unsafe {
                libc::send(
                    near.as_raw_fd(),
                    bytes.as_ptr().cast(),
                    bytes.len(),
                    MSG_ZEROCOPY,
                )
            };
            assert_eq!(n_sent, 20_000);
            far.read_exact(&mut [0; 20_000]).await.unwrap();
            // The completion is in the error queue now, so the socket is ready to read.
            let before = cpu_time();
            assert!(timeout(500 * MS, near.read(&mut [0])).await.is_err());
            let taken = cpu_time() - before;
            assert!(taken < 50 * MS, "{taken:?}");
            far.write_all(b"late").await.unwrap();
            let read = timeout(LONG, near.read(&mut [0; 8])).await;
            assert_eq!(read.expect("late data arrives").unwrap(), 4);
        });
    });
}

// Blocking descriptors.

/// `O_NONBLOCK` belongs to the open file, which code that has a duplicate may change.
#[test]
fn a_socket_that_other_code_makes_block_does_not_stop_the_loop() {
    within(60, || {
        run(async {
            let (mut near, mut far) = tenured_pair().await;
            let duplicate = near.as_fd().try_clone_to_owned().unwrap();
            let duplicate = std::net::TcpStream::from(duplicate);
            duplicate.set_nonblocking(false).unwrap();
            let (mut one, mut two) = ([0; 4], [0; 4]);
            assert!(timeout(20 * MS, near.read(&mut one)).await.is_err());
            let mut slices = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
            assert!(
                timeout(20 * MS, near.read_vectored(&mut slices))
                    .await
                    .is_err()
            );
            let bytes = vec![0; 16 << 20];
            assert!(timeout(200 * MS, near.write_all(&bytes)).await.is_err());
            let slices = [IoSlice::new(&bytes), IoSlice::new(b"end")];
            assert!(
                timeout(20 * MS, near.write_vectored(&slices))
                    .await
                    .is_err()
            );
            far.write_all(b"x").await.unwrap();
            timeout(LONG, near.read_exact(&mut [0]))
                .await
                .unwrap()
                .unwrap();
        });
    });
}

/// As with the error queue of a socket for datagrams.
#[test]
fn timestamps_of_a_stream_do_not_keep_its_reader_busy() {
    within(60, || {
        run(async {
            let (mut near, mut far) = tenured_pair().await;
            // A time for each byte sent, by the software.
            set_option(&near, libc::SO_TIMESTAMPING, 2 | 16);
            near.write_all(b"x").await.unwrap();
            far.read_exact(&mut [0]).await.unwrap();
            let before = cpu_time();
            let read = timeout(1_000 * MS, near.read(&mut [0])).await;
            assert!(read.is_err(), "nothing was sent");
            let took = cpu_time() - before;
            assert!(took < 300 * MS, "{took:?} in a second");
            far.write_all(b"y").await.unwrap();
            timeout(LONG, near.read_exact(&mut [0]))
                .await
                .unwrap()
                .unwrap();
        });
    });
}

#[test]
fn datagrams_to_a_full_blocking_socket_wait_in_the_loop() {
    within(60, || {
        run(async {
            let (near, far) = UnixDatagram::pair().unwrap();
            let [near, far] = [near, far].map(|end| AsyncFd::new(end).unwrap());
            let sender = spawn(async move {
                for n in 0..200_u32 {
                    near.write_with(|socket| socket.send(&n.to_ne_bytes()))
                        .await
                        .unwrap();
                }
            });
            // The queue of the receiver is full by the end of this.
            sleep(20 * MS).await;
            for n in 0..200_u32 {
                let mut bytes = [0; 4];
                let receive = far.read_with(|socket| socket.recv(&mut bytes));
                timeout(LONG, receive).await.expect("a datagram").unwrap();
                assert_eq!(u32::from_ne_bytes(bytes), n);
            }
            sender.await.unwrap();
        });
    });
}

#[test]
fn packets_of_a_blocking_socket_are_not_cut() {
    within(60, || {
        run(async {
            let mut ends = [0; 2];
            let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
            // SAFETY: writes two descriptors, for which there is room.
            check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) });
            let ends = ends.map(|end| AsyncFd::new(File::from(made(end))).unwrap());
            let [mut near, mut far] = ends;
            let sender = spawn(async move {
                for _ in 0..200 {
                    assert_eq!(near.write(&[1; 5_000]).await.unwrap(), 5_000);
                }
            });
            for _ in 0..200 {
                let mut buffer = [0; 8_192];
                let read = timeout(LONG, far.read(&mut buffer)).await;
                assert_eq!(read.expect("a packet").unwrap(), 5_000);
            }
            sender.await.unwrap();
        });
    });
}

// Files.

#[test]
fn what_was_read_for_a_dropped_read_of_a_pipe_is_returned_by_the_next() {
    within(60, || {
        run(async {
            let (read, mut write) = blocking_pipe();
            let mut file = fs::File::from_std(File::from(OwnedFd::from(read)));
            assert!(timeout(20 * MS, file.read(&mut [0; 8])).await.is_err());
            write.write_all(b"late").unwrap();
            let mut bytes = [0; 4];
            timeout(LONG, file.read_exact(&mut bytes))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(&bytes, b"late");
        });
    });
}

#[test]
fn appending_goes_to_the_end_and_reading_goes_on_where_a_seek_has_gone() {
    let name = format!("append-{}", std::process::id());
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, b"0123456789").unwrap();
    within(60, || {
        run(async {
            let mut options = fs::File::options();
            let mut file = options.append(true).read(true).open(&path).await.unwrap();
            let mut bytes = [0; 4];
            file.read_exact(&mut bytes).await.unwrap();
            file.write_all(b"AB").await.unwrap();
            file.seek(io::SeekFrom::Start(2)).await.unwrap();
            file.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"2345");
            file.write_all(b"C").await.unwrap();
            file.flush().await.unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"0123456789ABC");
        });
    });
    std::fs::remove_file(&path).unwrap();
}

// Cost in proportion.

#[test]
fn two_hundred_thousand_timers_are_cancelled_in_reverse_in_no_time() {
    within(120, || {
        run(async {
            let mut cx = Context::from_waker(Waker::noop());
            let mut naps: Vec<_> = (0..200_000)
                .map(|n| Box::pin(sleep(100 * LONG + n % 977 * MS)))
                .collect();
            for nap in &mut naps {
                assert!(nap.as_mut().poll(&mut cx).is_pending());
            }
            let before = cpu_time();
            while let Some(nap) = naps.pop() {
                drop(nap);
            }
            // About 0.1 s in a release build. In proportion to the timers that are left, it would
            // be 2 * 10^10 steps.
            let taken = cpu_time() - before;
            assert!(taken < Duration::from_secs(4), "{taken:?}");
        });
    });
}
