//! `SIGPIPE` at its default, as programs that embed the crate may have it: the disposition belongs
//! to the process, and the default would end it.
#![cfg(all(feature = "udp", feature = "unix"))]
#![allow(
    unsafe_code,
    reason = "std ignores SIGPIPE, and has no safe way to stop that"
)]

use crate::util::{alone, connected_pair, go};
use fahrenheit::prelude::*;
use fahrenheit::{AsyncTcpStream, AsyncUdpSocket, AsyncUnixDatagram, AsyncUnixStream};
use nix::sys::signal::{SigHandler, Signal, signal};
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::AsFd;

fn with_default_sigpipe(name: &str, body: impl FnOnce()) {
    alone(name, || {
        // SAFETY: the default disposition runs no code of ours.
        unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.unwrap();
        body();
    });
}

/// Whether a write told of the closed peer, in one of the two ways that there are.
fn is_refusal(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    errno == Some(nix::libc::EPIPE) || errno == Some(nix::libc::ECONNRESET)
}

/// A connection whose peer is gone, and that knows.
async fn abandoned() -> AsyncTcpStream {
    let (mut ours, theirs) = connected_pair().await;
    drop(theirs);
    // The first write goes out, and is answered by a reset.
    ours.write_all(b"x").await.unwrap();
    let _ = ours.read(&mut [0]).await;
    let _ = ours.read(&mut [0]).await;
    ours
}

#[test]
fn a_write_to_a_closed_peer_is_an_error_and_no_signal() {
    with_default_sigpipe(test_name!(), || {
        go(async {
            let mut stream = abandoned().await;
            for _ in 0..5 {
                assert!(is_refusal(&stream.write(b"x").await.unwrap_err()));
            }
        });
    });
}

#[test]
fn a_vectored_write_to_a_closed_peer_is_an_error_and_no_signal() {
    let name = test_name!();
    with_default_sigpipe(name, || {
        go(async {
            let mut stream = abandoned().await;
            for _ in 0..5 {
                let slices = [IoSlice::new(b"x"), IoSlice::new(b"y")];
                assert!(is_refusal(
                    &stream.write_vectored(&slices).await.unwrap_err()
                ));
            }
        });
    });
}

#[test]
fn a_write_after_shutdown_and_through_a_half_is_an_error_and_no_signal() {
    let name = test_name!();
    with_default_sigpipe(name, || {
        go(async {
            let (stream, _peer) = connected_pair().await;
            stream.shutdown(Shutdown::Write).unwrap();
            assert!(is_refusal(&(&stream).write(b"x").await.unwrap_err()));
            let (_read, mut write) = stream.into_split();
            assert!(is_refusal(&write.write(b"x").await.unwrap_err()));
            let slices = [IoSlice::new(b"x")];
            assert!(is_refusal(
                &write.write_vectored(&slices).await.unwrap_err()
            ));
        });
    });
}

#[test]
fn a_write_to_a_unix_socket_without_a_peer_is_an_error_and_no_signal() {
    let name = test_name!();
    with_default_sigpipe(name, || {
        go(async {
            let (stream, peer) = AsyncUnixStream::pair().unwrap();
            drop(peer);
            assert!(is_refusal(&(&stream).write(b"x").await.unwrap_err()));
            let slices = [IoSlice::new(b"x"), IoSlice::new(b"y")];
            let error = (&stream).write_vectored(&slices).await.unwrap_err();
            assert!(is_refusal(&error));
            let error = stream.send_fds(b"x", &[stream.as_fd()]).await.unwrap_err();
            assert!(is_refusal(&error));
        });
    });
}

#[test]
fn a_datagram_after_shutdown_is_an_error_and_no_signal() {
    let name = test_name!();
    with_default_sigpipe(name, || {
        go(async {
            let (socket, _peer) = AsyncUnixDatagram::pair().unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
            assert!(is_refusal(&socket.send(b"x").await.unwrap_err()));
            let socket = AsyncUdpSocket::bind("127.0.0.1:0").unwrap();
            let itself = socket.local_addr().unwrap();
            socket.connect(itself).await.unwrap();
            let socket = socket.into_std();
            nix::sys::socket::shutdown(
                std::os::fd::AsRawFd::as_raw_fd(&socket),
                nix::sys::socket::Shutdown::Write,
            )
            .unwrap();
            let socket = AsyncUdpSocket::from_std(socket).unwrap();
            assert!(is_refusal(&socket.send(b"x").await.unwrap_err()));
            assert!(is_refusal(&socket.send_to(b"x", itself).await.unwrap_err()));
        });
    });
}

#[test]
fn std_sockets_that_were_taken_over_are_protected_as_well() {
    with_default_sigpipe(test_name!(), || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut client = AsyncTcpStream::from_std(client).unwrap();
        go(async {
            assert!(is_refusal(&client.write(b"x").await.unwrap_err()));
        });
    });
}

#[test]
fn every_write_to_a_closed_unix_socket_is_an_error_and_no_signal() {
    let name = test_name!();
    with_default_sigpipe(name, || {
        go(async {
            let (mut stream, peer) = AsyncUnixStream::pair().unwrap();
            drop(peer);
            let slices = [IoSlice::new(b"x"), IoSlice::new(b"y")];
            for _ in 0..5 {
                assert!(is_refusal(&stream.write(b"x").await.unwrap_err()));
                let error = stream.write_vectored(&slices).await.unwrap_err();
                assert!(is_refusal(&error));
                let error = stream.send_fds(b"x", &[]).await.unwrap_err();
                assert!(is_refusal(&error));
            }
            let (_read, mut write) = stream.into_split();
            assert!(is_refusal(&write.write(b"x").await.unwrap_err()));
            let error = write.write_vectored(&slices).await.unwrap_err();
            assert!(is_refusal(&error));
            let (datagram, peer) = AsyncUnixDatagram::pair().unwrap();
            drop(peer);
            let errno = datagram.send(b"x").await.unwrap_err().raw_os_error();
            let refused = [nix::libc::ECONNREFUSED, nix::libc::ECONNRESET];
            assert!(refused.map(Some).contains(&errno), "{errno:?}");
        });
    });
}
