//! `AsyncFd` on descriptors that block: the loop goes on.

use crate::util::go;
use fahrenheit::AsyncFd;
use fahrenheit::prelude::*;
use fahrenheit::time::{sleep, timeout};
use std::cell::Cell;
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// A pipe whose ends block, as those of a shell do.
fn blocking_pipe() -> (File, File) {
    let (read, write) = nix::unistd::pipe().unwrap();
    (read.into(), write.into())
}

/// Writes a mebibyte to `write` in one task and reads it from `read` in another.
async fn a_mebibyte_passes<R, W>(read: R, write: W)
where
    R: std::os::fd::AsFd + 'static,
    W: std::os::fd::AsFd + 'static,
    for<'a> &'a R: Read,
    for<'a> &'a W: Write,
{
    const N: usize = 1 << 20;
    let (mut read, mut write) = (AsyncFd::new(read).unwrap(), AsyncFd::new(write).unwrap());
    let writes = fahrenheit::spawn(async move {
        let bytes: Vec<u8> = (0..N).map(|n| (n / 1_000) as u8).collect();
        let (first, second) = bytes.split_at(N / 2);
        write.write_all(first).await.unwrap();
        // Slices are written one after the other.
        let n = write
            .write_vectored(&[IoSlice::new(&[]), IoSlice::new(second)])
            .await
            .unwrap();
        write.write_all(&second[n..]).await.unwrap();
        write
    });
    let mut bytes = vec![0; N];
    timeout(SOON, read.read_exact(&mut bytes))
        .await
        .expect("it ends")
        .unwrap();
    assert!(
        bytes
            .iter()
            .enumerate()
            .all(|(n, &b)| b == (n / 1_000) as u8)
    );
    drop(writes.await.unwrap());
}

#[test]
fn both_ends_of_a_blocking_pipe_can_be_in_one_loop() {
    go(async {
        let (read, write) = blocking_pipe();
        a_mebibyte_passes(read, write).await;
    });
}

#[test]
fn of_two_readers_of_a_blocking_pipe_the_slower_one_waits_in_the_loop() {
    go(async {
        let (read, mut write) = blocking_pipe();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let mut fd = AsyncFd::new(read.try_clone().unwrap()).unwrap();
                fahrenheit::spawn(async move { fd.read_exact(&mut [0]).await })
            })
            .collect();
        sleep(Duration::from_millis(5)).await;
        // Both are told of this byte. The second must not read, which would block the thread.
        write.write_all(b"1").unwrap();
        while !readers.iter().any(|reader| reader.is_finished()) {
            sleep(Duration::from_millis(1)).await;
        }
        sleep(Duration::from_millis(5)).await;
        assert!(!readers.iter().all(|reader| reader.is_finished()));
        write.write_all(b"2").unwrap();
        for reader in readers {
            reader.await.unwrap().unwrap();
        }
    });
}

#[test]
fn both_ends_of_a_blocking_connection_can_be_in_one_loop() {
    go(async {
        let (read, write) = UnixStream::pair().unwrap();
        a_mebibyte_passes(read, write).await;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let write = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (read, _) = listener.accept().unwrap();
        a_mebibyte_passes(read, write).await;
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_blocking_socket_waits_in_the_loop_after_an_error_too() {
    go(async {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let refusing = std::net::UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        socket.connect(refusing).unwrap();
        socket.send(b"lost").unwrap();
        let socket = AsyncFd::new(socket).unwrap();
        let receive = async || socket.read_with(|s| s.recv(&mut [0; 8])).await;
        let error = receive().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        let limit = Duration::from_millis(100);
        assert!(timeout(limit, receive()).await.is_err(), "nothing was sent");
    });
}

/// A pipe that is full.
fn full_pipe(nonblocking: bool) -> (File, AsyncFd<File>) {
    let (read, write) = blocking_pipe();
    let flags = nix::fcntl::OFlag::from_bits_retain(
        nix::fcntl::fcntl(&write, nix::fcntl::FcntlArg::F_GETFL).unwrap(),
    );
    let set = |flags| nix::fcntl::fcntl(&write, nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
    set(flags | nix::fcntl::OFlag::O_NONBLOCK);
    while (&write).write(&[0; 4096]).is_ok() {}
    if !nonblocking {
        set(flags);
    }
    (read, AsyncFd::new(write).unwrap())
}

#[test]
fn flush_and_close_of_a_full_pipe_and_empty_writes_do_not_wait() {
    go(async {
        for nonblocking in [false, true] {
            let (_read, mut write) = full_pipe(nonblocking);
            let limit = Duration::from_millis(50);
            assert!(timeout(limit, write.write_all(b"x")).await.is_err(), "full");
            timeout(SOON, write.flush()).await.unwrap().unwrap();
            assert_eq!(timeout(SOON, write.write(&[])).await.unwrap().unwrap(), 0);
            let nothing = [IoSlice::new(&[]), IoSlice::new(&[])];
            let written = timeout(SOON, write.write_vectored(&nothing)).await;
            assert_eq!(written.unwrap().unwrap(), 0);
            timeout(SOON, write.close()).await.unwrap().unwrap();
        }
    });
}

#[test]
fn timers_go_on_while_a_task_waits_to_write_to_a_full_blocking_pipe() {
    go(async {
        let (mut read, mut write) = full_pipe(false);
        let n_ticks = Cell::new(0);
        let writes = write.write_all(&[7; 100_000]);
        let ticks = async {
            for _ in 0..5 {
                sleep(Duration::from_millis(5)).await;
                n_ticks.set(n_ticks.get() + 1);
            }
        };
        let limited = timeout(Duration::from_millis(100), writes);
        let (written, ()) = futures_util::join!(limited, ticks);
        assert!(written.is_err() && n_ticks.get() == 5);
        let mut bytes = [0; 4096];
        assert!(read.read(&mut bytes).unwrap() > 0);
    });
}
