//! Each kind of fault that this crate once had, with other callers: several waiters, foreign code
//! that calls back, and states of the whole process. A test's name is the claim.
#![cfg(all(
    target_os = "linux",
    feature = "fs",
    feature = "process",
    feature = "udp",
    feature = "unix"
))]
#![allow(unsafe_code)]

use crate::util::kit::{LONG, MS, check, tenured_pair};
use crate::util::{PASSED, alone, tcp_pair, within};
use fahrenheit::prelude::*;
use fahrenheit::process::AsyncCommand;
use fahrenheit::signal::{Signal, Signals};
use fahrenheit::time::{sleep, timeout};
use fahrenheit::{AsyncFd, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket};
use fahrenheit::{AsyncUnixDatagram, AsyncUnixListener, AsyncUnixStream};
use fahrenheit::{fs, run, spawn, yield_now};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::pin::Pin;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

// Waiters have an identity.

#[test]
fn what_one_task_has_polled_another_can_await() {
    within(60, || {
        run(async {
            let (mut near, mut far) = tcp_pair();
            let (mut nap, mut handle) = (sleep(20 * MS), spawn(sleep(20 * MS)));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(Pin::new(&mut nap).poll(&mut cx).is_pending());
            assert!(Pin::new(&mut handle).poll(&mut cx).is_pending());
            assert!(Pin::new(&mut far).poll_read(&mut cx, &mut [0]).is_pending());
            let other = spawn(async move {
                nap.await;
                handle.await.unwrap();
                far.read(&mut [0]).await.unwrap()
            });
            sleep(40 * MS).await;
            near.write_all(b"x").await.unwrap();
            assert_eq!(timeout(LONG, other).await.unwrap().unwrap(), 1);
        });
    });
}

#[test]
fn each_of_a_hundred_readers_of_one_stream_gets_its_byte() {
    within(60, || {
        run(async {
            let (mut near, far) = tcp_pair();
            let far = Rc::new(far);
            let read_one = |far: Rc<AsyncTcpStream>| async move {
                (&*far).read_exact(&mut [0]).await.unwrap();
            };
            let readers: Vec<_> = (0..100).map(|_| spawn(read_one(Rc::clone(&far)))).collect();
            for n in 0..100 {
                near.write_all(b"x").await.unwrap();
                if n % 7 == 0 {
                    yield_now().await;
                }
            }
            for reader in readers {
                timeout(LONG, reader).await.expect("one byte each").unwrap();
            }
        });
    });
}

// Foreign code runs with nothing borrowed.

thread_local! {
    /// What a `Dropper` drops.
    static TO_DROP: RefCell<Vec<Box<dyn std::any::Any>>> = const { RefCell::new(Vec::new()) };
}

/// A waker that drops what is in `TO_DROP` when it is woken, and wakes another.
struct Dropper(Waker);

impl Wake for Dropper {
    fn wake(self: Arc<Self>) {
        drop(TO_DROP.take());
        self.0.wake_by_ref();
    }
}

#[test]
fn a_waker_may_drop_its_socket_its_handle_and_its_timer() {
    within(60, || {
        run(async {
            for _ in 0..10 {
                let (mut near, far) = tcp_pair();
                let far = Rc::new(far);
                let weak = Rc::downgrade(&far);
                let task = spawn(poll_fn(move |cx| {
                    let Some(far) = weak.upgrade() else {
                        return Poll::Ready(());
                    };
                    let waker = Waker::from(Arc::new(Dropper(cx.waker().clone())));
                    let mut cx = Context::from_waker(&waker);
                    Pin::new(&mut &*far).poll_read(&mut cx, &mut [0]).map(drop)
                }));
                sleep(MS).await;
                let is_finished = task.abort_handle();
                TO_DROP.with_borrow_mut(|all| {
                    all.push(Box::new(far));
                    all.push(Box::new(task));
                });
                near.write_all(b"x").await.unwrap();
                while !is_finished.is_finished() {
                    sleep(MS).await;
                }

                let waker = Waker::from(Arc::new(Dropper(Waker::noop().clone())));
                let mut nap = Box::pin(sleep(MS));
                let mut cx = Context::from_waker(&waker);
                assert!(nap.as_mut().poll(&mut cx).is_pending());
                TO_DROP.with_borrow_mut(|all| all.push(Box::new(nap)));
                while TO_DROP.with_borrow(|all| !all.is_empty()) {
                    sleep(MS).await;
                }
            }
        });
    });
}

#[test]
fn dropping_a_socket_wakes_the_tasks_that_read_and_write_it() {
    within(60, || {
        run(async {
            let (_near, far) = tcp_pair();
            let shared = Rc::new(RefCell::new(Some(Rc::new(far))));
            let of = |shared: &Rc<RefCell<Option<Rc<_>>>>| {
                let shared = Rc::clone(shared);
                move || shared.borrow().clone()
            };
            let (get, also_get) = (of(&shared), of(&shared));
            let reader = spawn(poll_fn(move |cx| match get() {
                Some(stream) => Pin::new(&mut &*stream).poll_read(cx, &mut [0]).map(drop),
                None => Poll::Ready(()),
            }));
            let writer = spawn(poll_fn(move |cx| match also_get() {
                Some(stream) => {
                    let stream: Rc<AsyncTcpStream> = stream;
                    while Pin::new(&mut &*stream)
                        .poll_write(cx, &[0; 65_536])
                        .is_ready()
                    {}
                    Poll::Pending
                }
                None => Poll::Ready(()),
            }));
            sleep(20 * MS).await;
            assert!(!reader.is_finished() && !writer.is_finished());
            shared.borrow_mut().take();
            timeout(LONG, reader)
                .await
                .expect("the reader is woken")
                .unwrap();
            timeout(LONG, writer)
                .await
                .expect("the writer is woken")
                .unwrap();
        });
    });
}

/// An owner of a descriptor whose `as_fd` calls back into the crate, and may panic.
struct Unreliable(std::os::unix::net::UnixStream, Cell<bool>);

impl AsFd for Unreliable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        drop(spawn(async {}));
        drop(AsyncUdpSocket::bind("127.0.0.1:0"));
        assert!(!self.1.get(), "as_fd panics");
        self.0.as_fd()
    }
}

#[test]
fn as_fd_may_call_back_and_panic() {
    within(60, || {
        run(async {
            let (read, mut write) = std::os::unix::net::UnixStream::pair().unwrap();
            let fd = AsyncFd::new(Unreliable(read, Cell::new(false))).unwrap();
            write.write_all(b"x").unwrap();
            timeout(LONG, fd.readable()).await.unwrap().unwrap();
            fd.get_ref().1.set(true);
            drop(fd);
            let task = spawn(async {
                let (read, _write) = std::os::unix::net::UnixStream::pair().unwrap();
                AsyncFd::new(Unreliable(read, Cell::new(true))).map(drop)
            });
            assert!(task.await.unwrap_err().is_panic());
            sleep(MS).await;
        });
    });
}

#[test]
fn a_task_may_abort_itself_and_drop_its_own_handle() {
    thread_local! {
        static HANDLE: RefCell<Option<fahrenheit::task::JoinHandle<()>>> =
            const { RefCell::new(None) };
        static STEP: Cell<u32> = const { Cell::new(0) };
    }
    within(60, || {
        run(async {
            HANDLE.set(Some(spawn(async {
                HANDLE.with_borrow(|handle| handle.as_ref().unwrap().abort());
                STEP.set(1);
                drop(HANDLE.take());
                STEP.set(2);
                yield_now().await;
                STEP.set(3);
            })));
            sleep(5 * MS).await;
            // It goes on until it waits, and no further.
            assert_eq!(STEP.get(), 2);
        });
    });
}

#[test]
fn a_logger_may_spawn_and_use_sockets() {
    let name = test_name!();
    thread_local! {
        static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
        static N_RECORDS: Cell<usize> = const { Cell::new(0) };
    }
    struct Logger;
    impl log::Log for Logger {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, _: &log::Record<'_>) {
            // What it does below is logged as well.
            if IS_INSIDE.replace(true) {
                return;
            }
            let n = N_RECORDS.get() + 1;
            N_RECORDS.set(n);
            // Not for ever, or its own tasks would keep the loop busy.
            if n < 1_000 {
                drop(spawn(sleep(MS)));
                let socket = AsyncUdpSocket::bind("127.0.0.1:0").unwrap();
                let mut cx = Context::from_waker(Waker::noop());
                assert!(socket.poll_recv(&mut cx, &mut [0]).is_pending());
            }
            IS_INSIDE.set(false);
        }
        fn flush(&self) {}
    }
    alone(name, || {
        log::set_logger(&Logger).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        run(async {
            drop(tenured_pair().await);
            drop(spawn(async { panic!("it is logged") }));
            let aborted = spawn(sleep(LONG));
            aborted.abort();
            assert!(aborted.await.unwrap_err().is_cancelled());
            assert_eq!(fahrenheit::spawn_blocking(|| 3).await.unwrap(), 3);
            assert!(AsyncCommand::new("true").status().await.unwrap().success());
        });
        assert!(N_RECORDS.get() > 1_000);
    });
}

#[test]
fn a_panic_hook_may_spawn() {
    let name = test_name!();
    thread_local! { static N_TASKS: Cell<usize> = const { Cell::new(0) }; }
    alone(name, || {
        std::panic::set_hook(Box::new(|_| {
            drop(spawn(async { N_TASKS.set(N_TASKS.get() + 1) }));
            drop(AsyncUdpSocket::bind("127.0.0.1:0"));
        }));
        run(async {
            drop(spawn(async { panic!("detached") }));
            assert!(spawn(async { panic!("joined") }).await.is_err());
        });
        assert_eq!(N_TASKS.get(), 2);
    });
}

// State of the whole process.

#[test]
fn a_program_that_a_task_executes_inherits_no_descriptor_and_no_blocked_signal() {
    let name = test_name!();
    const SCRIPT: &str = r#"
        for path in /proc/$$/fd/*; do
            fd=${path##*/}
            # The shell has just listed the folder by a descriptor of its own.
            [ -e "$path" ] || continue
            case " $ALLOWED " in *" $fd "*) ;; *) echo "inherits $fd" >&2; exit 1 ;; esac
        done
        # The shell itself blocks signals for moments, but not in what it starts.
        grep -q '^SigBlk:[[:space:]]*0*$' /proc/self/status || exit 2
        echo "$PASSED"
    "#;
    alone(name, || {
        let is_open = |fd: &i32| std::fs::exists(format!("/proc/self/fd/{fd}")).unwrap();
        let before: Vec<_> = (0..256).filter(is_open).map(|fd| fd.to_string()).collect();
        run(async {
            let (_near, _far) = tenured_pair().await;
            let _signals = fahrenheit::signal::Signals::new([Signal::USR1]).unwrap();
            let _event = fahrenheit::Event::new().unwrap();
            let _child = AsyncCommand::new("sleep").arg("0.05").spawn().unwrap();
            let _file = fs::File::open("/dev/null").await.unwrap();
            let mut command = std::process::Command::new("sh");
            command
                .args(["-c", SCRIPT])
                .env("ALLOWED", before.join(" "))
                .env("PASSED", PASSED);
            panic!("{}", command.exec());
        });
    });
}

#[test]
fn a_child_that_is_stopped_has_not_exited() {
    within(60, || {
        run(async {
            let mut child = AsyncCommand::new("sleep").arg("0.05").spawn().unwrap();
            child.signal(Signal::from(libc::SIGSTOP)).unwrap();
            assert!(timeout(100 * MS, child.wait()).await.is_err());
            child.signal(Signal::from(libc::SIGCONT)).unwrap();
            let status = timeout(LONG, child.wait()).await.unwrap().unwrap();
            assert!(status.success());
        });
    });
}

#[test]
fn open_sockets_go_on_when_the_limit_of_descriptors_falls_below_them() {
    let name = test_name!();
    alone(name, || {
        run(async {
            let (mut near, mut far) = tcp_pair();
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
            for _ in 0..20 {
                near.write_all(b"x").await.unwrap();
                far.read_exact(&mut [0]).await.unwrap();
                sleep(MS).await;
            }
            let error = AsyncUdpSocket::bind("127.0.0.1:0").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        });
    });
}

#[test]
fn nothing_that_is_made_takes_the_number_of_a_closed_standard_stream() {
    let name = test_name!();
    alone(name, || {
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = folder.join(format!("low-{}", std::process::id()));
        let path = &path;
        // SAFETY: takes a number. Nothing reads standard input here.
        check(unsafe { libc::close(0) });
        run(async {
            let is_free = |what: &str| {
                let taken = std::fs::read_link("/proc/self/fd/0");
                assert!(taken.is_err(), "{what} has descriptor 0: {taken:?}");
            };
            is_free("the loop");
            let udp = AsyncUdpSocket::bind("127.0.0.1:0").unwrap();
            is_free("a UDP socket");
            let pair = AsyncUnixStream::pair().unwrap();
            is_free("a pair of Unix streams");
            pair.0.send_fds(b"x", &[udp.as_fd()]).await.unwrap();
            let received = pair.1.recv_fds(&mut [0], 1).await.unwrap();
            is_free("a received descriptor");
            let listener = AsyncUnixListener::bind(path).unwrap();
            is_free("a Unix listener");
            std::fs::remove_file(path).unwrap();
            let bound = AsyncUnixDatagram::bind(path).unwrap();
            is_free("a bound Unix socket for datagrams");
            std::fs::remove_file(path).unwrap();
            let unbound = AsyncUnixDatagram::unbound().unwrap();
            is_free("a Unix socket without a name");
            let datagrams = AsyncUnixDatagram::pair().unwrap();
            is_free("a pair of Unix sockets for datagrams");
            let tcp = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
            is_free("a TCP listener");
            let event = fahrenheit::Event::new().unwrap();
            is_free("an event");
            let signals = fahrenheit::signal::Signals::new([Signal::USR1]).unwrap();
            is_free("a listener to signals");
            let file = fs::File::open("/dev/null").await.unwrap();
            is_free("a file");
            let mut command = AsyncCommand::new("cat");
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            is_free("a child");
            let error = fahrenheit::io::stdin().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
            drop(child.stdin.take());
            assert!(child.wait().await.unwrap().success());
            drop((udp, pair, listener, bound, unbound, datagrams, tcp));
            drop((event, signals, file, received));
        });
    });
}

#[test]
fn the_loop_goes_on_when_a_task_closes_every_descriptor_from_3_up() {
    let name = test_name!();
    alone(name, || {
        run(async {
            let (near, mut far) = tenured_pair().await;
            let reader = spawn(async move {
                let error = far.read(&mut [0]).await.unwrap_err();
                // Its number may belong to another descriptor by now.
                std::mem::forget(far);
                error.raw_os_error()
            });
            sleep(5 * MS).await;
            close_all();
            std::mem::forget(near);
            let error = timeout(LONG, reader).await.expect("the reader is woken");
            assert_eq!(error.unwrap(), Some(libc::EBADF));
            let job = fahrenheit::spawn_blocking(|| 7);
            assert_eq!(timeout(LONG, job).await.unwrap().unwrap(), 7);
            let child = AsyncCommand::new("true").status();
            assert!(timeout(LONG, child).await.unwrap().unwrap().success());
            drop(timeout(LONG, tenured_pair()).await.unwrap());
        });
    });
}

#[test]
fn a_child_is_waited_for_although_the_queue_of_exits_is_closed_or_replaced() {
    let name = test_name!();
    alone(name, || {
        run(async {
            for is_replaced in [false, true] {
                let mut child = AsyncCommand::new("sleep").arg("0.3").spawn().unwrap();
                let waits = spawn(async move { child.wait().await.unwrap().success() });
                sleep(50 * MS).await;
                close_all();
                let others: Vec<_> = (0..if is_replaced { 20 } else { 0 })
                    .map(|_| std::fs::File::open("/dev/zero").unwrap())
                    .collect();
                assert!(timeout(LONG, waits).await.unwrap().unwrap());
                // Some of their numbers belong to the loop as well, which may have closed them.
                std::mem::forget(others);
            }
        });
    });
}

#[test]
fn a_signal_writes_nothing_to_a_file_that_has_the_number_of_its_pipe() {
    let name = test_name!();
    alone(name, || {
        run(async {
            let mut signals = Signals::new([Signal::USR1]).unwrap();
            let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
            let path = folder.join(format!("stranger-{}", std::process::id()));
            let mut options = std::fs::OpenOptions::new();
            options.create(true).append(true).read(true);
            sleep(MS).await;
            close_all();
            let files: Vec<_> = (0..20).map(|_| options.open(&path).unwrap()).collect();
            std::fs::remove_file(&path).unwrap();
            // SAFETY: takes a number.
            check(unsafe { libc::raise(libc::SIGUSR1) });
            assert_eq!(files[0].metadata().unwrap().len(), 0, "bytes in the file");
            // What was raised is told all the same.
            let told = timeout(LONG, signals.next()).await.unwrap();
            assert_eq!(told, Some(Signal::USR1));
            std::mem::forget((files, signals));
        });
    });
}

/// Closes every descriptor from 3 up, as a program does that becomes a daemon.
fn close_all() {
    // SAFETY: takes three numbers. What owns these descriptors is leaked, or belongs to the loop,
    // which finds out.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) } as i32);
}
