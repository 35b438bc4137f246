//! What a child process inherits: nothing of ours. Other tests would open descriptors meanwhile.
#![cfg(all(
    target_os = "linux",
    feature = "fs",
    feature = "process",
    feature = "udp",
    feature = "unix"
))]

use crate::util::{alone, connected_pair, go};
use fahrenheit::AsyncUdpSocket;
use fahrenheit::prelude::*;
use fahrenheit::process::AsyncCommand;
use fahrenheit::signal::{Signal, Signals};
use fahrenheit::{AsyncTcpListener, AsyncUnixDatagram, AsyncUnixListener, AsyncUnixStream};
use std::collections::BTreeSet;
use std::os::fd::AsFd;
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
fn a_child_inherits_no_descriptor_of_ours() {
    alone(test_name!(), || {
        let before = of_a_child();
        go(async {
            let n_open = crate::util::open_fds().len();
            let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
            let (connected, accepted) = connected_pair().await;
            let unix = AsyncUnixStream::pair().unwrap();
            unix.0.send_fds(b"x", &[listener.as_fd()]).await.unwrap();
            let received = unix.1.recv_fds(&mut [0], 1).await.unwrap();
            assert_eq!(received.fds.len(), 1);
            let folder = std::path::Path::new("/tmp");
            let path = folder.join(format!("fahrenheit-cloexec-{}", std::process::id()));
            let unix_listener = AsyncUnixListener::bind(&path).unwrap();
            let unix_client = AsyncUnixStream::connect(&path).await.unwrap();
            let unix_server = unix_listener.accept().await.unwrap();
            std::fs::remove_file(&path).unwrap();
            let datagrams = AsyncUnixDatagram::unbound().unwrap();
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
            assert!(crate::util::open_fds().len() >= n_open + 10);
            assert_eq!(of_a_child(), before);
            drop((read, write, unix, received, datagrams));
            drop((unix_listener, unix_client, unix_server));
        });
    });
}

#[test]
fn a_child_inherits_no_pipe_no_file_no_event_and_no_end_of_another_child() {
    let name = test_name!();
    alone(name, || {
        let before = of_a_child();
        let n_open = crate::util::open_fds().len();
        go(async {
            let own = std::env::current_exe().unwrap();
            let file = fahrenheit::fs::File::open(own).await.unwrap();
            let (read, write) = fahrenheit::io::pipe().unwrap();
            let udp = AsyncUdpSocket::bind("127.0.0.1:0").unwrap();
            let event = fahrenheit::Event::new().unwrap();
            let signals = Signals::new([Signal::HUP]).unwrap();
            let mut cat = AsyncCommand::new("cat");
            let cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
            // Long enough that somebody is tenured, and the loop has the kernel's queue.
            let (_peer, stream) = connected_pair().await;
            let idle = fahrenheit::spawn(async move { (&stream).read(&mut [0]).await });
            for _ in 0..8 {
                fahrenheit::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            assert!(crate::util::open_fds().len() >= n_open + 13);
            assert_eq!(of_a_child(), before);
            idle.abort();
            drop((file, read, write, udp, event, signals, cat));
        });
    });
}
