//! Forks inside of the loop and outside of it. Each test runs in a process of its own, because a
//! forked child of the test harness would be a second harness.
#![cfg(all(target_os = "linux", feature = "signal"))]
#![allow(unsafe_code)]

use crate::util::alone;
use fahrenheit::signal::{Signal, Signals};
use fahrenheit::{
    AsyncFd, AsyncTcpListener, AsyncTcpStream, Builder, Event, Local, Poller, prelude::*, time,
};
use nix::sys::signal::{Signal as Kind, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid};
use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::pin;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn fork_here() -> Option<Pid> {
    // SAFETY: this process has one thread, because `alone` has the harness run the test on its main
    // thread.
    match unsafe { fork() }.expect("a process can fork") {
        ForkResult::Parent { child } => Some(child),
        ForkResult::Child => None,
    }
}

async fn echo(stream: AsyncTcpStream) {
    let _ = futures_util::io::copy(&stream, &mut &stream).await;
}

async fn serve(listener: &AsyncTcpListener) {
    loop {
        let (stream, _) = listener.accept().await.expect("descriptors are left");
        drop(fahrenheit::spawn(echo(stream)));
    }
}

/// One hundred round trips over one connection of std, on a thread of a *new* process.
fn client(addr: SocketAddr) -> Pid {
    let Some(pid) = fork_here() else {
        let mut stream = TcpStream::connect(addr).expect("the server listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a second is not zero");
        for round in 0..100_u8 {
            let mut bytes = [0];
            stream.write_all(&[round]).expect("the server reads");
            stream.read_exact(&mut bytes).expect("the server answers");
            assert_eq!(bytes, [round]);
        }
        exit(7);
    };
    pid
}

fn all_exit_with(pids: Vec<Pid>, code: i32) {
    for pid in pids {
        assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, code)));
    }
}

fn both_serve(poller: Poller) {
    let listener = AsyncTcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    // Every client inherits the end to write, and closes it when it exits: then all are done.
    let (done, not_done) = nix::unistd::pipe().expect("a pipe can be made");
    // One connection is old enough to be tenured when the fork comes.
    let clients: Vec<Pid> = (0..40).map(|_| client(addr)).collect();
    let served = Builder::new().poller(poller).block_on(async {
        let _served_before = time::timeout(Duration::from_millis(50), serve(&listener)).await;
        let child = fork_here();
        // What came before the fork is answered by whichever of the two reads it.
        let more: Vec<Pid> = if child.is_some() {
            (0..20).map(|_| client(addr)).collect()
        } else {
            Vec::new()
        };
        drop(not_done);
        let done = AsyncFd::new(done).expect("a pipe can be watched");
        futures_util::future::select(pin!(serve(&listener)), pin!(done.readable())).await;
        (child, more)
    });
    let (child, more) = served.expect("a pipe can be made");
    let Some(child) = child else { exit(8) };
    all_exit_with(more, 7);
    all_exit_with(clients, 7);
    all_exit_with(vec![child], 8);
}

#[test]
fn parent_and_child_serve_one_listener_after_a_fork_inside_the_loop() {
    let name = test_name!();
    alone(name, || both_serve(Poller::Auto));
}

#[test]
fn parent_and_child_serve_one_listener_in_select_after_a_fork() {
    alone(test_name!(), || both_serve(Poller::Select));
}

/// A connection to itself, so old that it is tenured.
async fn old_pair() -> (AsyncTcpStream, AsyncTcpStream) {
    let listener = AsyncTcpListener::bind("127.0.0.1:0").expect("a port is free");
    let mut a = AsyncTcpStream::connect(listener.local_addr().expect("it is bound"))
        .await
        .expect("it listens");
    let (mut b, _) = listener.accept().await.expect("one is waiting");
    for _ in 0..20 {
        // The read has to wait: only a descriptor that is waited for grows old.
        let late = async {
            time::sleep(Duration::from_millis(1)).await;
            a.write_all(b"x").await.expect("connected");
        };
        let mut byte = [0];
        let (read, ()) = futures_util::join!(b.read_exact(&mut byte), late);
        read.expect("connected");
    }
    let fds = std::fs::read_dir("/proc/self/fd").expect("Linux has it");
    let names = fds.map(|entry| entry.expect("it is readable").file_name());
    let mut numbers = names.filter_map(|name| name.to_str()?.parse().ok());
    assert_eq!(numbers.any(is_queue), has_queue(), "tenured");
    (a, b)
}

/// Whether the loops of this run use the kernel's queue at all.
fn has_queue() -> bool {
    !cfg!(fahrenheit_no_queue) && std::env::var("FAHRENHEIT_POLLER").as_deref() != Ok("select")
}

fn is_queue(fd: RawFd) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
    link.is_ok_and(|link| link.to_str() == Some("anon_inode:[eventpoll]"))
}

fn child_drops() {
    fahrenheit::block_on(async {
        let (mut a, mut b) = old_pair().await;
        let Some(child) = fork_here() else {
            // Before the next turn of the loop: the queue is still the parent's.
            drop((a, b));
            fahrenheit::yield_now().await;
            time::sleep(Duration::from_millis(20)).await;
            exit(9);
        };
        all_exit_with(vec![child], 9);
        for _ in 0..20 {
            let read = fahrenheit::spawn(async move {
                b.read_exact(&mut [0]).await.expect("connected");
                b
            });
            time::sleep(Duration::from_millis(2)).await;
            a.write_all(b"x").await.expect("connected");
            let limited = time::timeout(Duration::from_secs(5), read).await;
            b = limited
                .expect("the parent's queue is untouched")
                .expect("no panic");
        }
    });
}

#[test]
fn what_a_child_drops_stays_watched_in_the_parent() {
    alone(test_name!(), child_drops);
}

fn wakes_stay_apart() {
    fahrenheit::block_on(async {
        let (send, receive) = futures_channel::oneshot::channel();
        let child = fork_here();
        // Each wakes itself from a thread of its own; a shared pipe would swap the bells.
        let millis = if child.is_some() { 50 } else { 100 };
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(millis));
            send.send(millis).expect("somebody waits");
        });
        let limited = time::timeout(Duration::from_secs(5), receive).await;
        assert_eq!(limited.expect("woken"), Ok(millis));
        let job = fahrenheit::spawn_blocking(|| 42).await;
        assert_eq!(job.expect("threads can be started"), 42);
        match child {
            Some(child) => all_exit_with(vec![child], 10),
            None => exit(10),
        }
    });
}

#[test]
fn wakes_and_blocking_jobs_of_parent_and_child_stay_apart() {
    alone(test_name!(), wakes_stay_apart);
}

fn job_stays_behind() {
    fahrenheit::block_on(async {
        let job = fahrenheit::spawn_blocking(|| {
            std::thread::sleep(Duration::from_millis(200));
            1
        });
        fahrenheit::yield_now().await;
        let Some(child) = fork_here() else {
            let limited = time::timeout(Duration::from_secs(5), job).await;
            let error = limited
                .expect("it is told")
                .expect_err("the job is the parent's");
            assert!(error.to_string().contains("forked"), "{error}");
            exit(11);
        };
        assert_eq!(job.await.expect("the parent keeps its thread"), 1);
        all_exit_with(vec![child], 11);
    });
}

#[test]
fn a_blocking_job_stays_with_the_parent_and_the_child_is_told() {
    alone(test_name!(), job_stays_behind);
}

async fn is_quiet(event: &Event) -> bool {
    let limited = time::timeout(Duration::from_millis(20), event.wait());
    limited.await.is_err()
}

fn events_stay_apart() {
    fahrenheit::block_on(async {
        let event = Event::new().expect("descriptors are left");
        let notifier = event.notifier();
        // Old enough to be tenured.
        for _ in 0..20 {
            notifier.notify().expect("it is open");
            event.wait().await.expect("it is open");
        }
        let asleep = fahrenheit::spawn(async move {
            event.wait().await.expect("it is open");
            event
        });
        fahrenheit::yield_now().await;
        let Some(child) = fork_here() else {
            // Before the loop has turned, so that the pipe is still the parent's.
            notifier.notify().expect("it is open");
            let event = asleep.await.expect("no panic");
            assert!(is_quiet(&event).await);
            // The number that C code has is now that of the child's pipe.
            assert_eq!(nix::unistd::write(&notifier, b"x"), Ok(1));
            event.wait().await.expect("it is open");
            let thread = std::thread::spawn(move || (notifier.notify(), notifier));
            event.wait().await.expect("it is open");
            let (notified, notifier) = thread.join().expect("no panic");
            notified.and(notifier.notify()).expect("it is open");
            exit(12);
        };
        all_exit_with(vec![child], 12);
        time::sleep(Duration::from_millis(5)).await;
        assert!(!asleep.is_finished(), "the child's signals came here");
        notifier.notify().expect("it is open");
        let event = asleep.await.expect("no panic");
        assert!(is_quiet(&event).await);
    });
}

#[test]
fn signals_of_an_event_in_parent_and_child_stay_apart() {
    alone(test_name!(), events_stay_apart);
}

fn signals_at_once() {
    fahrenheit::block_on(async {
        let mut signals = Signals::new([Signal::USR1, Signal::USR2]).expect("both can be caught");
        for _ in 0..200 {
            // What the parent was sent before is not the child's.
            kill(getpid(), Kind::SIGUSR2).expect("we may");
            let Some(child) = fork_here() else {
                let next = time::timeout(Duration::from_secs(5), signals.next());
                let code = match next.await {
                    Ok(Some(Signal::USR1)) => 13,
                    Ok(_) => 14,
                    Err(_) => 15,
                };
                exit(code);
            };
            // The child has not run yet, or is about to: it hears this all the same.
            kill(child, Kind::SIGUSR1).expect("it is ours");
            all_exit_with(vec![child], 13);
            assert_eq!(signals.next().await, Some(Signal::USR2));
        }
    });
}

#[test]
fn a_child_hears_a_signal_that_it_is_sent_before_it_has_begun_to_run() {
    alone(test_name!(), signals_at_once);
}

/// Turns the loop until `task`, which has a time limit, has ended; waits outside of it.
fn host(task: &fahrenheit::task::JoinHandle<()>) {
    while !task.is_finished() {
        let left = fahrenheit::interest().time_left();
        assert!(left.is_some(), "there is a limit, or something is queued");
        // A host that has no descriptor to wait for asks again and again.
        std::thread::sleep(left.unwrap_or_default().min(Duration::from_millis(1)));
        fahrenheit::turn(Some(Duration::ZERO)).expect("the pipe can be renewed");
    }
}

fn a_host_forks() {
    let event = Event::new().expect("descriptors are left");
    let notifier = event.notifier();
    let task = fahrenheit::spawn(async move {
        let limited = time::timeout(Duration::from_secs(20), event.wait()).await;
        limited.expect("signalled").expect("it is open");
    });
    fahrenheit::turn(Some(Duration::ZERO)).expect("descriptors are left");
    assert!(!fahrenheit::interest().queued);
    // By the host, between two turns: no task is being polled.
    let child = fork_here();
    assert_eq!(fahrenheit::interest().queued, child.is_none());
    let Some(child) = child else {
        fahrenheit::turn(Some(Duration::ZERO)).expect("the pipe can be renewed");
        let thread = std::thread::spawn(move || notifier.notify());
        host(&task);
        thread.join().expect("no panic").expect("it is open");
        exit(16);
    };
    all_exit_with(vec![child], 16);
    fahrenheit::turn(Some(Duration::ZERO)).expect("the pipe is untouched");
    assert!(!task.is_finished(), "the child's signal came here");
    notifier.notify().expect("it is open");
    host(&task);
}

#[test]
fn a_host_may_fork_between_two_turns_and_both_loops_go_on() {
    let name = test_name!();
    alone(name, a_host_forks);
}

/// Exit codes of a child: it has closed only what is its own, or also something else.
const CLOSED_ITS_OWN: i32 = 17;
const CLOSED_MORE: i32 = 18;

/// Files that a child opens after the fork, one under every free number: if the queue is not
/// inherited, one of them has the queue's number.
struct Strangers(Vec<ManuallyDrop<File>>);

impl Strangers {
    fn open() -> Strangers {
        let is_low = |file: &File| file.as_raw_fd() < 64;
        let files = std::iter::repeat_with(|| File::open("/dev/null").expect("it is there"));
        Strangers(files.take_while(is_low).map(ManuallyDrop::new).collect())
    }

    fn are_open(&self) -> bool {
        let mut links = self.0.iter().map(|file| {
            let fd = file.as_raw_fd();
            std::fs::read_link(format!("/proc/self/fd/{fd}"))
        });
        links.all(|link| link.is_ok_and(|link| link.to_str() == Some("/dev/null")))
    }

    fn exit_code(&self) -> i32 {
        if self.are_open() {
            CLOSED_ITS_OWN
        } else {
            CLOSED_MORE
        }
    }
}

/// Looks at the strangers when the thread ends, and ends the process with what it sees.
struct AtThreadEnd(RefCell<Option<Strangers>>);

impl Drop for AtThreadEnd {
    fn drop(&mut self) {
        if let Some(strangers) = &*self.0.borrow() {
            let code = strangers.exit_code();
            // SAFETY: `_exit` ends the process without touching memory.
            unsafe { nix::libc::_exit(code) };
        }
    }
}

thread_local! {
    static AT_THREAD_END: AtThreadEnd = const { AtThreadEnd(RefCell::new(None)) };
}

/// Forks when the loop has a queue, before the child's loop has turned, and checks what the child
/// closes when it ends: `inside` runs in the loop, and `outside` once the loop has been left.
fn child_ends_by(inside: fn(), outside: fn()) {
    let thread = std::thread::spawn(move || {
        // Before the loop's: destructors of a thread run in the reverse order of registration.
        AT_THREAD_END.with(|_| ());
        let child = fahrenheit::block_on(async {
            let (mut a, mut b) = old_pair().await;
            let child = fork_here();
            if child.is_none() {
                AT_THREAD_END.with(|at_end| at_end.0.replace(Some(Strangers::open())));
                inside();
            } else {
                all_exit_with(child.into_iter().collect(), CLOSED_ITS_OWN);
                a.write_all(b"x").await.expect("connected");
                b.read_exact(&mut [0]).await.expect("connected");
            }
            child
        });
        if child.is_none() {
            outside();
        }
        // Here a child that has not ended yet ends with its thread.
        child.is_some()
    });
    assert!(thread.join().expect("the parent does not panic"));
}

#[test]
fn a_child_that_exits_before_its_first_turn_closes_only_its_own() {
    let name = test_name!();
    alone(name, || child_ends_by(|| exit(CLOSED_ITS_OWN), || ()));
}

#[test]
fn a_child_that_exits_outside_its_loop_before_the_first_turn_closes_only_its_own() {
    let name = test_name!();
    alone(name, || child_ends_by(|| (), || exit(CLOSED_ITS_OWN)));
}

#[test]
fn a_child_that_panics_before_its_first_turn_closes_only_its_own() {
    let name = test_name!();
    alone(name, || {
        child_ends_by(|| panic!("this panic is expected"), || ())
    });
}

#[test]
fn a_child_whose_thread_ends_before_its_first_turn_closes_only_its_own() {
    let name = test_name!();
    alone(name, || child_ends_by(|| (), || ()));
}

fn child_changes_the_poller() {
    let child = fahrenheit::block_on(async {
        old_pair().await;
        fork_here()
    });
    let Some(child) = child else {
        let strangers = Strangers::open();
        let builder = Builder::new().poller(Poller::Select);
        let slept = builder.block_on(time::sleep(Duration::from_millis(1)));
        slept.expect("descriptors are left");
        exit(strangers.exit_code());
    };
    all_exit_with(vec![child], CLOSED_ITS_OWN);
}

#[test]
fn a_child_that_changes_the_poller_before_its_first_turn_closes_only_its_own() {
    let name = test_name!();
    alone(name, child_changes_the_poller);
}

fn child_asks_for_the_interest() {
    let (a, mut b) = fahrenheit::block_on(old_pair());
    let task = fahrenheit::spawn(async move {
        let limited = time::timeout(Duration::from_secs(20), b.read_exact(&mut [0])).await;
        limited.expect("sent").expect("connected");
    });
    fahrenheit::turn(Some(Duration::ZERO)).expect("descriptors are left");
    let before = fahrenheit::interest().read;
    let queues: Vec<RawFd> = before.into_iter().filter(|&fd| is_queue(fd)).collect();
    assert_eq!(queues.len(), usize::from(has_queue()));
    let Some(child) = fork_here() else {
        let named = |queue| fahrenheit::interest().read.contains(queue);
        assert!(!queues.iter().any(named), "the parent's queue is named");
        assert!(fahrenheit::interest().queued, "the loop has to turn first");
        exit(19);
    };
    all_exit_with(vec![child], 19);
    assert!(
        (&a).write_all(b"x")
            .now_or_never()
            .is_some_and(|w| w.is_ok())
    );
    host(&task);
}

#[test]
fn after_a_fork_the_interest_does_not_name_the_queue_of_the_parent() {
    let name = test_name!();
    alone(name, child_asks_for_the_interest);
}

/// Counts how often one of its kind is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Drops `local` on another thread, turns the loop, and returns the count.
fn count_after_return(local: Local<Counted>) -> usize {
    let count = Arc::clone(&local.0);
    let thread = std::thread::spawn(move || drop(local));
    thread.join().expect("dropping it does not panic");
    fahrenheit::run(async {});
    count.load(Ordering::SeqCst)
}

fn locals_come_home() {
    let counted = || Local::new(Counted(Arc::default()));
    let (for_child, for_parent) = (counted(), counted());
    let Some(child) = fork_here() else {
        assert_eq!(count_after_return(for_child), 1);
        assert_eq!(count_after_return(counted()), 1);
        exit(16);
    };
    assert_eq!(count_after_return(for_parent), 1);
    all_exit_with(vec![child], 16);
}

#[test]
fn after_a_fork_locals_come_home_in_parent_and_child() {
    alone(test_name!(), locals_come_home);
}
