//! What a loop waits for: seen from outside, added while it sleeps, and taken in which order.

use crate::util::{Trace, tcp_pair, within};
use fahrenheit::prelude::*;
use fahrenheit::time::sleep;
use fahrenheit::{AsyncTcpStream, Builder, Event, Poller, block_on, interest, spawn, turn};
use futures_channel::mpsc;
use std::collections::HashSet;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

const NO_WAIT: Option<Duration> = Some(Duration::ZERO);

#[test]
fn what_is_pending_is_visible_by_kind_and_gone_when_no_task_waits() {
    within(30, || {
        // With a queue of the kernel's, what has moved there is one descriptor, however many wait.
        let select = Builder::new().poller(Poller::Select);
        select.block_on(async {}).unwrap();
        let ((near, far), event) = (tcp_pair(), Event::new().unwrap());
        let (far_fd, event_fd) = (far.as_raw_fd(), event.as_raw_fd());
        let (reader, mut writer) = far.into_split();
        let start = Instant::now();
        let tasks = [
            spawn(async move {
                let mut reader = reader;
                reader.read_exact(&mut [0]).await.unwrap();
            }),
            // Fills what the system keeps for a peer that does not read.
            spawn(async move { while writer.write(&[0; 65536]).await.is_ok() {} }),
            spawn(async move { event.wait().await.unwrap() }),
            spawn(sleep(Duration::from_secs(70))),
            spawn(sleep(Duration::from_secs(60))),
            spawn(async {}),
        ];
        assert!(interest().queued);
        while interest().write.is_empty() || interest().queued {
            turn(NO_WAIT).unwrap();
        }
        let now = interest();
        let read: HashSet<_> = now.read.iter().collect();
        assert!(read.contains(&far_fd) && read.contains(&event_fd));
        // The third is the wake-up pipe.
        assert_eq!(
            (read.len(), now.write, now.except),
            (3, vec![far_fd], vec![])
        );
        let left = now.deadline.unwrap() - start;
        assert!(left >= Duration::from_secs(60) && left < Duration::from_secs(70));
        let ended: Vec<_> = tasks.iter().map(|task| task.is_finished()).collect();
        assert_eq!(ended, [false, false, false, false, false, true]);
        for task in tasks {
            task.abort();
        }
        turn(NO_WAIT).unwrap();
        let now = interest();
        assert_eq!(
            (now.read.len(), now.write.len(), now.deadline),
            (1, 0, None)
        );
        drop(near);
    });
}

#[test]
fn a_thread_adds_a_descriptor_to_a_loop_that_sleeps_without_limit() {
    within(30, || {
        let (send, mut sockets) = mpsc::unbounded::<TcpStream>();
        let thread = thread::spawn(move || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            for byte in 0..50 {
                let theirs = TcpStream::connect(addr).unwrap();
                let (mut ours, _) = listener.accept().unwrap();
                send.unbounded_send(theirs).unwrap();
                ours.write_all(&[byte]).unwrap();
            }
        });
        let read = block_on(async {
            let mut read = Vec::new();
            while let Some(socket) = sockets.next().await {
                let mut byte = [0];
                let mut socket = AsyncTcpStream::from_std(socket).unwrap();
                socket.read_exact(&mut byte).await.unwrap();
                read.extend(byte);
            }
            read
        });
        assert_eq!(read, (0..50).collect::<Vec<_>>());
        thread.join().unwrap();
    });
}

#[test]
fn a_turn_takes_the_queue_first_and_then_descriptors_before_timers() {
    within(30, || {
        let trace = Trace::default();
        let says = |what: &'static str| {
            let trace = trace.clone();
            move || trace.add(what)
        };
        let event = Event::new().unwrap();
        let notifier = event.notifier();
        // Far enough away for a slow machine to come to the wait below before it.
        let deadline = Instant::now() + Duration::from_millis(500);
        drop(spawn(fahrenheit::time::sleep_until(deadline).map({
            let timer = says("timer");
            move |()| timer()
        })));
        let descriptor = says("descriptor");
        drop(spawn(async move {
            event.wait().await.unwrap();
            descriptor();
        }));
        assert_eq!(turn(NO_WAIT).unwrap(), 0);
        notifier.notify().unwrap();
        let left = deadline.saturating_duration_since(Instant::now());
        thread::sleep(left + Duration::from_millis(1));
        let (queued, yields) = (says("queued"), says("yielded"));
        drop(spawn(async move {
            queued();
            fahrenheit::yield_now().await;
            yields();
        }));
        // Both are woken by the turn that polled the queue, and polled by the next.
        assert_eq!(turn(None).unwrap(), 2);
        assert_eq!(trace.take(), ["queued", "yielded"]);
        assert_eq!(turn(NO_WAIT).unwrap(), 0);
        assert_eq!(trace.take(), ["descriptor", "timer"]);
        assert!(interest().deadline.is_none());
    });
}

#[test]
fn no_two_of_20_000_tasks_have_the_same_id() {
    within(60, || {
        block_on(async {
            let mut ids = HashSet::new();
            for _ in 0..200 {
                let tasks: Vec<_> = (0..100).map(|_| spawn(async {})).collect();
                for task in tasks {
                    assert!(ids.insert(task.id()), "{} is not new", task.id());
                    task.await.unwrap();
                }
            }
            assert_eq!(ids.len(), 20_000);
        });
    });
}
