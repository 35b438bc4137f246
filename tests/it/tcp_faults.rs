//! TCP connections that are reset, closed, cancelled, dropped or stuck.

use super::tcp::{PERIOD, pattern};
use crate::util::{connected_pair, echo, go, poll_once, talk};
use fahrenheit::prelude::*;
use fahrenheit::time::{sleep, timeout};
use fahrenheit::{AsyncTcpListener, AsyncTcpStream, yield_now};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Closes a connection so that the peer gets a reset.
fn reset(stream: AsyncTcpStream) {
    stream.set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

#[test]
fn a_reset_before_accept_harms_no_other_connection() {
    go(async {
        let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        reset(AsyncTcpStream::connect(addr).await.unwrap());
        let good = AsyncTcpStream::connect(addr).await.unwrap();
        let good_addr = good.local_addr().unwrap();
        let mut n_accepted = 0;
        // Systems differ in whether the dead one is handed out; none may hide the living.
        loop {
            let (mut stream, peer) = listener.accept().await.unwrap();
            n_accepted += 1;
            if peer == good_addr {
                break;
            }
            assert!(is_gone(&stream.read(&mut [0]).await.unwrap_err()));
        }
        assert!(n_accepted <= 2);
    });
}

#[test]
fn a_reset_after_accept_and_during_a_read_is_an_error_of_that_read() {
    go(async {
        let (mut a, b) = connected_pair().await;
        reset(b);
        assert!(is_gone(&a.read(&mut [0]).await.unwrap_err()));
        let (mut a, b) = connected_pair().await;
        let read = fahrenheit::spawn(async move { a.read(&mut [0]).await });
        sleep(Duration::from_millis(5)).await;
        reset(b);
        assert!(is_gone(&read.await.unwrap().unwrap_err()));
    });
}

#[test]
fn a_reset_during_a_write_is_an_error_of_that_write() {
    go(async {
        let (mut a, b) = connected_pair().await;
        let write = fahrenheit::spawn(async move {
            let block = vec![0; 1 << 20];
            loop {
                if let Err(error) = a.write_all(&block).await {
                    return error;
                }
            }
        });
        sleep(Duration::from_millis(20)).await;
        assert!(!write.is_finished(), "the writer waits for room");
        reset(b);
        assert!(is_gone(&write.await.unwrap()));
    });
}

#[test]
fn closing_ends_the_request_and_the_reply_still_comes() {
    go(async {
        let (mut client, mut server) = connected_pair().await;
        let serve = fahrenheit::spawn(async move {
            let mut request = String::new();
            server.read_to_string(&mut request).await.unwrap();
            server
                .write_all(request.to_uppercase().as_bytes())
                .await
                .unwrap();
        });
        client.write_all(b"request").await.unwrap();
        client.close().await.unwrap();
        client.close().await.unwrap();
        assert!(client.write(b"more").await.is_err());
        let mut reply = String::new();
        client.read_to_string(&mut reply).await.unwrap();
        assert_eq!(reply, "REQUEST");
        serve.await.unwrap();
        client.close().await.unwrap();
    });
}

#[test]
fn closing_after_a_reset_is_no_error() {
    go(async {
        let (mut a, b) = connected_pair().await;
        reset(b);
        assert!(a.read(&mut [0]).await.is_err());
        a.close().await.unwrap();
        a.close().await.unwrap();
    });
}

#[test]
fn ten_thousand_cancelled_reads_lose_no_byte() {
    const READS: usize = 10_000;
    go(async {
        let (a, b) = connected_pair().await;
        let done = Rc::new(Cell::new(false));
        let cancelled = Rc::new(Cell::new(0));
        let write = fahrenheit::spawn({
            let (done, cancelled) = (Rc::clone(&done), Rc::clone(&cancelled));
            async move {
                let pattern = pattern();
                let (mut written, mut seen) = (0, 0);
                while !done.get() {
                    let n = 1 + written % 13;
                    let from = written % PERIOD;
                    (&b).write_all(&pattern[from..from + n]).await.unwrap();
                    written += n;
                    // At times the reader waits, at times it finds something.
                    if written % 3 == 0 {
                        sleep(Duration::from_micros(50)).await;
                    }
                    // On a slow machine the reader never waits, but for this.
                    while written % 13 == 0 && cancelled.get() == seen && !done.get() {
                        yield_now().await;
                    }
                    seen = cancelled.get();
                    yield_now().await;
                }
                written
            }
        });
        let pattern = pattern();
        let mut n_read = 0;
        let mut bytes = [0; 7];
        for _ in 0..READS {
            match timeout(Duration::from_micros(1), (&a).read(&mut bytes)).await {
                Ok(n) => {
                    let n = n.unwrap();
                    assert_eq!(bytes[..n], pattern[n_read % PERIOD..][..n]);
                    n_read += n;
                }
                Err(_) => cancelled.set(cancelled.get() + 1),
            }
        }
        done.set(true);
        let n_written = write.await.unwrap();
        let n_cancelled = cancelled.get();
        assert!(n_cancelled > 0 && n_read > 0, "{n_cancelled}, {n_read}");
        while n_read < n_written {
            let n = (&a).read(&mut bytes).await.unwrap();
            assert_eq!(bytes[..n], pattern[n_read % PERIOD..][..n]);
            n_read += n;
        }
        assert_eq!((&a).read(&mut bytes).await.unwrap(), 0);
    });
}

#[test]
fn a_cancelled_accept_loses_no_connection() {
    go(async {
        let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        {
            let mut accept = pin!(listener.accept());
            assert!(poll_once(&mut accept).is_pending());
        }
        let client = AsyncTcpStream::connect(addr).await.unwrap();
        let (_, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    });
}

#[test]
fn a_listener_dropped_while_a_task_waits_wakes_it() {
    let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let number = listener.as_raw_fd();
    let slot = Rc::new(RefCell::new(Some(listener)));
    go(async {
        let accept = fahrenheit::spawn({
            let slot = Rc::clone(&slot);
            poll_fn(move |cx| match &*slot.borrow() {
                Some(listener) => listener.poll_accept(cx).map(|_| false),
                None => Poll::Ready(true),
            })
        });
        sleep(Duration::from_millis(5)).await;
        assert!(fahrenheit::interest().read.contains(&number));
        drop(slot.take());
        // Else it would be found to be closed, and the task woken by that.
        assert!(!fahrenheit::interest().read.contains(&number));
        assert!(accept.await.unwrap(), "woken, and the listener is gone");
        let error = AsyncTcpStream::connect(addr).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn dropping_streams_and_incoming_removes_their_interests() {
    go(async {
        let (mut a, _b) = connected_pair().await;
        let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
        let numbers = [a.as_raw_fd(), listener.as_raw_fd()];
        let interest = |number| fahrenheit::interest().read.contains(number);
        let read = fahrenheit::spawn(async move { a.read(&mut [0]).await });
        let next = fahrenheit::spawn(async move { listener.incoming().next().await.is_some() });
        sleep(Duration::from_millis(5)).await;
        assert!(numbers.iter().all(interest));
        read.abort();
        next.abort();
        assert!(read.await.unwrap_err().is_cancelled());
        assert!(next.await.unwrap_err().is_cancelled());
        assert!(!numbers.iter().any(interest));
    });
}

#[test]
fn one_stuck_connection_of_a_hundred_does_not_slow_the_others() {
    go(async {
        let (stuck, _silent_peer) = connected_pair().await;
        let stuck = fahrenheit::spawn(async move {
            let block = vec![0; 1 << 20];
            loop {
                (&stuck).write_all(&block).await.unwrap();
            }
        });
        let mut clients = Vec::new();
        for _ in 0..99 {
            let (client, server) = connected_pair().await;
            clients.push(fahrenheit::spawn(async move {
                let serve = fahrenheit::spawn(echo(server));
                talk(&client, 10).await.unwrap();
                drop(client);
                serve.await.unwrap().unwrap()
            }));
        }
        for client in clients {
            assert_eq!(client.await.unwrap(), 40);
        }
        assert!(!stuck.is_finished());
        stuck.abort();
    });
}
