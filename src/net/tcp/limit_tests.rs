//! What happens where `select` has a limit, with a limit of our own: Linux has none.

use crate::event_loop::with;
use crate::prelude::*;
use crate::{AsyncFd, AsyncTcpListener, AsyncTcpStream, RegisterError};
use futures_util::future::join;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

const LIMIT: usize = 256;

/// Another descriptor of the same socket, whose number is beyond the limit.
fn beyond(io: impl AsFd) -> OwnedFd {
    let mut below = Vec::new();
    loop {
        let fd = io.as_fd().try_clone_to_owned().unwrap();
        if fd.as_raw_fd() as usize >= LIMIT {
            return fd;
        }
        below.push(fd);
    }
}

fn cause(error: &io::Error) -> RegisterError {
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    *error.get_ref().unwrap().downcast_ref().unwrap()
}

/// Sends a word to the connection accepted by `listener`, and expects it back.
async fn echo(listener: &AsyncTcpListener) -> io::Result<()> {
    let client = async {
        let mut stream = AsyncTcpStream::connect(listener.local_addr()?).await?;
        stream.write_all(b"word").await?;
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).await?;
        assert_eq!(&bytes, b"word");
        io::Result::Ok(())
    };
    let server = async {
        let (mut stream, _) = listener.accept().await?;
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).await?;
        stream.write_all(&bytes).await
    };
    let (client, server) = join(client, server).await;
    client.and(server)
}

#[test]
fn beyond_the_limit_of_select_is_a_typed_error_and_the_others_go_on() {
    with(|l| l.reactor.set_limit(Some(LIMIT)));
    crate::block_on(async {
        let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
        let low = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        for _ in 0..3 {
            let high = beyond(&low);
            let fd = high.as_raw_fd();
            let expected = RegisterError::OverSelectLimit { fd, limit: LIMIT };
            let (high, error) = AsyncFd::try_new(high).unwrap_err();
            assert_eq!(error, expected);
            let error = AsyncTcpStream::from_std(TcpStream::from(high)).unwrap_err();
            assert_eq!(cause(&error), expected);
            assert!(error.to_string().contains(&LIMIT.to_string()), "{error}");
            echo(&listener).await.unwrap();
        }
        // What was refused is closed: once `low` is, too, the peer reads the end.
        drop(low);
        assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
    });
    with(|l| l.reactor.set_limit(None));
}
