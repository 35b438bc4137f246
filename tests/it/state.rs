//! What sockets, sets and intervals tell of their own state.

use crate::util::{go, text};
use fahrenheit::net::TcpSocket;
use fahrenheit::task::JoinSet;
use fahrenheit::time::{MissedTickBehavior, interval};
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

#[test]
fn a_socket_that_is_not_connected_tells_whether_it_gathers_small_writes() {
    let socket = TcpSocket::new_v4().unwrap();
    assert!(!socket.nodelay().unwrap());
    socket.set_nodelay(true).unwrap();
    assert!(socket.nodelay().unwrap());
    socket.set_nodelay(false).unwrap();
    assert!(!socket.nodelay().unwrap());
}

#[test]
fn an_interval_tells_what_it_does_about_missed_ticks() {
    let mut interval = interval(Duration::from_secs(1));
    for missed in [
        MissedTickBehavior::Delay,
        MissedTickBehavior::Skip,
        MissedTickBehavior::Burst,
    ] {
        interval.set_missed_tick_behavior(missed);
        assert_eq!(interval.missed_tick_behavior(), missed);
    }
}

#[test]
fn a_set_is_empty_once_its_last_task_was_joined_and_not_before() {
    go(async {
        let mut set = JoinSet::new();
        assert!(set.is_empty());
        set.spawn(async {});
        assert!(!set.is_empty());
        fahrenheit::yield_now().await;
        assert!(!set.is_empty(), "it has ended, and was not joined");
        set.join_next().await.unwrap().unwrap();
        assert!(set.is_empty());
    });
}

#[test]
fn join_all_panics_with_the_reason_if_a_task_was_aborted() {
    let payload = catch_unwind(AssertUnwindSafe(|| {
        go(async {
            let mut set = JoinSet::new();
            set.spawn(pending::<()>()).abort();
            set.join_all().await
        })
    }));
    let payload = payload.unwrap_err();
    // Not the text of a panic that looked for a payload which an aborted task does not have.
    let text = text(&*payload);
    let is_reason = text.starts_with("task ") && text.ends_with(" was cancelled");
    assert!(is_reason, "{text}");
}

#[test]
#[cfg(all(feature = "unix", target_os = "linux"))]
fn take_error_returns_once_that_a_peer_has_gone_with_unread_bytes() {
    use fahrenheit::prelude::*;
    use fahrenheit::{AsyncUnixSeqpacket, AsyncUnixStream};
    let is_reset = |error: Option<std::io::Error>| {
        error.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
    };
    go(async {
        let (a, b) = AsyncUnixSeqpacket::pair().unwrap();
        a.send(b"unread").await.unwrap();
        assert!(a.take_error().unwrap().is_none());
        drop(b);
        assert!(is_reset(a.take_error().unwrap()));
        assert!(a.take_error().unwrap().is_none());
        let (mut a, b) = AsyncUnixStream::pair().unwrap();
        a.write_all(b"unread").await.unwrap();
        drop(b);
        assert!(is_reset(a.take_error().unwrap()));
        assert!(a.take_error().unwrap().is_none());
    });
}
