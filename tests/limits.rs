//! At the limit of descriptors, which is set for the whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "test code")]

#[path = "it/net_util.rs"]
mod net_util;

use fahrenheit::prelude::*;
use fahrenheit::time::sleep;
use fahrenheit::{AsyncFd, AsyncTcpListener, AsyncTcpStream, Builder, CreateError, Event};
use net_util::{alone, go, thread_cpu, traced};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Opens descriptors until there are no more, after lowering the limit.
fn exhaust() -> Vec<File> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 96.min(hard), hard).unwrap();
    let mut files = Vec::new();
    loop {
        match File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(nix::libc::EMFILE));
                assert!(files.len() > 20);
                return files;
            }
        }
    }
}

#[test]
fn se3_se4_a_loop_that_cannot_be_created_is_a_typed_error_that_says_why() {
    let name = "se3_se4_a_loop_that_cannot_be_created_is_a_typed_error_that_says_why";
    alone(name, || {
        let mut files = exhaust();
        let polled = Cell::new(false);
        let outcome = Builder::new().run(async { polled.set(true) });
        assert_eq!(outcome, Err(CreateError::TooManyOpenFiles));
        assert!(!polled.get());
        // One is not enough for a pipe, and does not get lost.
        files.pop();
        let error = Builder::new().block_on(async {}).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("cannot create the wake-up pipe: "),
            "{text}"
        );
        assert!(text.ends_with("(EMFILE, errno 24)"), "{text}");
        let error = fahrenheit::turn(Some(Duration::ZERO)).unwrap_err();
        let inner = error.get_ref().unwrap().downcast_ref::<CreateError>();
        assert_eq!(inner, Some(&CreateError::TooManyOpenFiles));
        files.pop();
        assert_eq!(Builder::new().run(async { 7 }), Ok(7));
    });
}

#[test]
fn se3_se4_an_event_that_cannot_be_created_is_a_typed_error_that_says_why() {
    let name = "se3_se4_an_event_that_cannot_be_created_is_a_typed_error_that_says_why";
    alone(name, || {
        let mut files = exhaust();
        // One is not enough for a pipe, and does not get lost.
        for _ in 0..2 {
            let error = Event::new().unwrap_err();
            let inner = error.get_ref().unwrap().downcast_ref::<CreateError>();
            assert_eq!(inner, Some(&CreateError::TooManyOpenFiles));
            assert!(error.to_string().ends_with("(EMFILE, errno 24)"), "{error}");
            files.pop();
        }
        Event::new().unwrap();
    });
}

#[test]
fn se3_run_panics_with_the_same_words_and_works_afterwards() {
    let name = "se3_run_panics_with_the_same_words_and_works_afterwards";
    alone(name, || {
        let files = exhaust();
        let payload = std::panic::catch_unwind(|| fahrenheit::run(async {})).unwrap_err();
        drop(files);
        let text = payload.downcast_ref::<String>().unwrap();
        assert!(
            text.starts_with("cannot create the wake-up pipe: "),
            "{text}"
        );
        fahrenheit::run(async {});
    });
}

/// What is seen of a server that ran into the limit with `N_CLIENTS` waiting.
#[derive(Default)]
struct Seen {
    errors: RefCell<Vec<io::Error>>,
    accepted: RefCell<Vec<AsyncTcpStream>>,
}

const N_CLIENTS: usize = 8;

/// A server at the limit, for 1.3 seconds. Then `relief` frees descriptors, and this returns how
/// long it took until all clients were accepted.
async fn serve_at_the_limit(relief: impl FnOnce(Vec<File>)) -> Duration {
    let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let clients: Vec<_> = (0..N_CLIENTS)
        .map(|_| TcpStream::connect(addr).unwrap())
        .collect();
    let files = exhaust();
    let seen = Rc::new(Seen::default());
    let server = fahrenheit::spawn({
        let seen = Rc::clone(&seen);
        async move {
            let mut incoming = listener.incoming();
            while seen.accepted.borrow().len() < N_CLIENTS {
                match incoming.next().await.expect("incoming never ends") {
                    Ok(stream) => seen.accepted.borrow_mut().push(stream),
                    Err(error) => seen.errors.borrow_mut().push(error),
                }
            }
        }
    });
    let before = thread_cpu();
    sleep(Duration::from_millis(1_300)).await;
    let spent = thread_cpu() - before;
    assert!(spent < Duration::from_millis(26), "{spent:?}");
    assert_eq!(seen.accepted.borrow().len(), 0);
    let errnos: Vec<_> = seen
        .errors
        .borrow()
        .iter()
        .map(io::Error::raw_os_error)
        .collect();
    assert_eq!(errnos, [Some(nix::libc::EMFILE)], "told once");
    relief(files);
    let start = Instant::now();
    server.await.unwrap();
    assert_eq!(seen.errors.borrow().len(), 1);
    drop(clients);
    start.elapsed()
}

#[test]
fn e1_j2_at_the_limit_accept_waits_and_recovers_when_the_crate_closes_a_descriptor() {
    let name = "e1_j2_at_the_limit_accept_waits_and_recovers_when_the_crate_closes_a_descriptor";
    let log = traced(name, &["-e", "trace=accept4"], || {
        let took = go(serve_at_the_limit(|mut files| {
            // One more than there are clients: the loop may take one for the kernel's queue.
            let closing = files.split_off(files.len() - N_CLIENTS - 1);
            let closing: Vec<_> = closing.into_iter().map(AsyncFd::new).collect();
            assert!(closing.iter().all(Result::is_ok));
            std::mem::forget(files);
            drop(closing);
        }));
        // The timer alone, at 10 ms doubling, would come no sooner than after 1.2 s.
        assert!(took < Duration::from_millis(600), "{took:?}");
    });
    let Some(log) = log else { return };
    let n_refused = log.lines().filter(|line| line.contains("EMFILE")).count();
    assert!((1..=110).contains(&n_refused), "{n_refused} calls");
}

#[test]
fn e1_at_the_limit_accept_recovers_by_itself() {
    alone("e1_at_the_limit_accept_recovers_by_itself", || {
        let took = go(serve_at_the_limit(drop));
        // At most a second, by the documentation; the rest is for a machine that is busy.
        assert!(took < Duration::from_secs(5), "{took:?}");
    });
}

#[test]
fn e1_a_listener_that_recovered_reports_the_next_shortage() {
    let name = "e1_a_listener_that_recovered_reports_the_next_shortage";
    alone(name, || {
        go(async {
            let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            for _ in 0..3 {
                let client = TcpStream::connect(addr).unwrap();
                let files = exhaust();
                let error = listener.accept().await.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(nix::libc::EMFILE));
                drop(files);
                let (_, peer) = listener.accept().await.unwrap();
                assert_eq!(peer, client.local_addr().unwrap());
            }
        });
    });
}

#[test]
fn sf3_connecting_at_the_limit_is_an_error_of_that_connection() {
    let name = "sf3_connecting_at_the_limit_is_an_error_of_that_connection";
    alone(name, || {
        go(async {
            let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            let files = exhaust();
            let error = AsyncTcpStream::connect(addr).await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(nix::libc::EMFILE));
            let error = AsyncTcpListener::bind("127.0.0.1:0").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(nix::libc::EMFILE));
            drop(files);
            AsyncTcpStream::connect(addr).await.unwrap();
        });
    });
}
