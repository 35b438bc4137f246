//! Descriptors that have lived long enough for the kernel's queue.

use fahrenheit::AsyncUnixStream;
use fahrenheit::prelude::*;
use fahrenheit::time::sleep;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// True if the environment keeps every descriptor in `select`.
pub(crate) fn selects_only() -> bool {
    cfg!(fahrenheit_no_queue)
        || std::env::var_os("FAHRENHEIT_POLLER").is_some_and(|name| name == "select")
}

/// A young stream, and its peer.
pub(crate) fn pair() -> (AsyncUnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (AsyncUnixStream::from_std(ours).unwrap(), theirs)
}

/// Takes part in more selects than a young descriptor does.
pub(crate) async fn grow_old(fd: &AsyncUnixStream, peer: &mut UnixStream) {
    let (mut fd, mut bytes) = (fd, [0; 8]);
    for _ in 0..12 {
        let writes = async {
            sleep(Duration::from_millis(1)).await;
            peer.write_all(b"x").unwrap();
        };
        let (n, ()) = futures_util::join!(fd.read(&mut bytes), writes);
        assert_eq!(n.unwrap(), 1);
    }
}
