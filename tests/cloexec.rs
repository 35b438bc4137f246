//! What a child process inherits: nothing of ours. Other tests would open descriptors meanwhile.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "test code")]

#[path = "it/net_util.rs"]
mod net_util;

use fahrenheit::AsyncTcpListener;
use net_util::{alone, go, tcp_pair};
use std::collections::BTreeSet;
use std::process::{Command, Stdio};

/// What a child has open. `ls` itself opens one more each time, in the lowest free place.
fn of_a_child() -> BTreeSet<String> {
    let output = Command::new("ls")
        .arg("/proc/self/fd")
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn d4_a_child_inherits_no_descriptor_of_ours() {
    alone("d4_a_child_inherits_no_descriptor_of_ours", || {
        let before = of_a_child();
        go(async {
            let n_open = net_util::open_fds().len();
            let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
            let (connected, accepted) = tcp_pair().await;
            // A name has been looked up, a thread has waited, and another loop has its own pipe.
            let mut found = fahrenheit::net::lookup_host("localhost:1").await.unwrap();
            assert!(found.next().is_some());
            fahrenheit::spawn_blocking(|| fahrenheit::block_on(async {}))
                .await
                .unwrap();
            let waits = fahrenheit::time::timeout(
                std::time::Duration::from_millis(1),
                futures_util::future::select(
                    Box::pin(listener.accept()),
                    Box::pin(accepted.readable()),
                ),
            );
            assert!(waits.await.is_err());
            let (read, write) = connected.into_split();
            assert!(net_util::open_fds().len() >= n_open + 3);
            assert_eq!(of_a_child(), before);
            drop((read, write));
        });
    });
}
