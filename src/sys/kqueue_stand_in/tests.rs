//! What the stand-in promises.

use super::EventFilter::{EVFILT_READ, EVFILT_WRITE};
use super::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

const ZERO: libc::timespec = libc::timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

fn change(queue: &Kqueue, fd: RawFd, filter: EventFilter, flags: EvFlags) -> nix::Result<()> {
    let change = KEvent::new(fd as usize, filter, flags, FilterFlag, 0, 7);
    queue.kevent(&[change], &mut [], None).map(drop)
}

/// What the queue has to say now: filter and whether EV_EOF is set.
fn pending(queue: &Kqueue) -> Vec<(EventFilter, bool)> {
    let mut events = [KEvent::new(0, EVFILT_READ, EvFlags::empty(), FilterFlag, 0, 0); 8];
    let n = queue.kevent(&[], &mut events, Some(ZERO)).unwrap();
    let seen = events[..n]
        .iter()
        .inspect(|event| assert_eq!(event.udata(), 7));
    seen.map(|event| (event.kind(), event.flags().intersects(EvFlags::EV_EOF)))
        .collect()
}

#[test]
fn the_filters_of_a_descriptor_are_separate() {
    let queue = Kqueue::new().unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let fd = ours.as_raw_fd();
    change(&queue, fd, EVFILT_READ, EvFlags::EV_ADD).unwrap();
    let delete = |filter| change(&queue, fd, filter, EvFlags::EV_DELETE);
    assert_eq!(delete(EVFILT_WRITE), Err(Errno::ENOENT));
    assert_eq!(pending(&queue), []);
    theirs.write_all(b"x").unwrap();
    assert_eq!(pending(&queue), [(EVFILT_READ, false)]);
    let edge = EvFlags::EV_ADD | EvFlags::EV_CLEAR;
    change(&queue, fd, EVFILT_WRITE, edge).unwrap();
    assert_eq!(
        pending(&queue),
        [(EVFILT_READ, false), (EVFILT_WRITE, false)]
    );
    assert_eq!(delete(EVFILT_READ), Ok(()));
    assert_eq!(delete(EVFILT_READ), Err(Errno::ENOENT));
    assert_eq!(pending(&queue), [], "the edge has been reported");
}

#[test]
fn the_end_of_a_stream_is_said_by_the_filter_concerned() {
    let queue = Kqueue::new().unwrap();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let edge = EvFlags::EV_ADD | EvFlags::EV_CLEAR;
    change(&queue, ours.as_raw_fd(), EVFILT_READ, edge).unwrap();
    change(&queue, ours.as_raw_fd(), EVFILT_WRITE, EvFlags::EV_ADD).unwrap();
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(
        pending(&queue),
        [(EVFILT_READ, true), (EVFILT_WRITE, false)]
    );
    assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    drop(theirs);
    assert_eq!(pending(&queue), [(EVFILT_READ, true), (EVFILT_WRITE, true)]);
}

#[test]
fn a_knote_ends_with_its_descriptor_even_if_the_file_lives_on() {
    let queue = Kqueue::new().unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let _lives_on = ours.try_clone().unwrap();
    let (other, mut peer) = UnixStream::pair().unwrap();
    let fd = ours.as_raw_fd();
    change(&queue, fd, EVFILT_READ, EvFlags::EV_ADD).unwrap();
    theirs.write_all(b"x").unwrap();
    drop(ours);
    assert_eq!(pending(&queue), [], "no event of a closed descriptor");
    let delete = change(&queue, fd, EVFILT_READ, EvFlags::EV_DELETE);
    assert!(matches!(delete, Err(Errno::EBADF | Errno::ENOENT)));
    // The file that lives on is not reported for ever: the outer epoll has nothing to say.
    assert_eq!(queue.wait(Some(ZERO)), Ok([false; 4]));
    change(&queue, other.as_raw_fd(), EVFILT_READ, EvFlags::EV_ADD).unwrap();
    peer.write_all(b"x").unwrap();
    assert_eq!(pending(&queue), [(EVFILT_READ, false)]);
}
