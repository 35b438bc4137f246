//! The reactor of steps 3 to 5: which task waits for which descriptor, and the one place that
//! sleeps.

use nix::errno::Errno;
use nix::sys::select::{FdSet, select};
use nix::sys::time::{TimeVal, TimeValLike};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

thread_local! {
    static REACTOR: RefCell<Reactor> = RefCell::default();
}

/// Who waits for which descriptor: one map for reading and one for writing. Each entry holds the
/// socket, so that its number cannot become another's while a task waits for it.
#[derive(Default)]
struct Reactor {
    reads: BTreeMap<RawFd, (Rc<dyn AsFd>, Waker)>,
    writes: BTreeMap<RawFd, (Rc<dyn AsFd>, Waker)>,
}

/// Calls `call` until it does not say `WouldBlock`; in between, the task waits until it can read.
pub async fn readable<F: AsFd + 'static, T>(
    fd: &Rc<F>,
    mut call: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    poll_fn(|cx| match call() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            let entry = (Rc::clone(fd) as Rc<dyn AsFd>, cx.waker().clone());
            let number = fd.as_fd().as_raw_fd();
            REACTOR.with_borrow_mut(|reactor| reactor.reads.insert(number, entry));
            Poll::Pending
        }
        result => Poll::Ready(result),
    })
    .await
}

/// Calls `call` until it does not say `WouldBlock`; in between, the task waits until it can write.
pub async fn writable<F: AsFd + 'static, T>(
    fd: &Rc<F>,
    mut call: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    poll_fn(|cx| match call() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            let entry = (Rc::clone(fd) as Rc<dyn AsFd>, cx.waker().clone());
            let number = fd.as_fd().as_raw_fd();
            REACTOR.with_borrow_mut(|reactor| reactor.writes.insert(number, entry));
            Poll::Pending
        }
        result => Poll::Ready(result),
    })
    .await
}

/// Sleeps until a descriptor is ready or `limit` has passed, and wakes the tasks concerned.
pub fn wait(limit: Option<Duration>) -> io::Result<()> {
    // The sockets are cloned out of the maps, because `FdSet` borrows them during the call.
    let (reads, writes) = REACTOR.with_borrow(|reactor| {
        let sockets = |map: &BTreeMap<RawFd, (Rc<dyn AsFd>, Waker)>| -> Vec<Rc<dyn AsFd>> {
            map.values().map(|(fd, _waker)| Rc::clone(fd)).collect()
        };
        (sockets(&reactor.reads), sockets(&reactor.writes))
    });
    let (mut read_set, mut write_set) = (FdSet::new(), FdSet::new());
    reads.iter().for_each(|fd| read_set.insert(fd.as_fd()));
    writes.iter().for_each(|fd| write_set.insert(fd.as_fd()));
    // Rounded up: a sleep must not end before its time.
    let mut limit = limit.map(|limit| TimeVal::microseconds(limit.as_micros() as i64 + 1));
    match select(None, &mut read_set, &mut write_set, None, &mut limit) {
        Ok(_) => {}
        // A signal: the sets say nothing, and the loop looks again.
        Err(Errno::EINTR) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    }
    // Taken out before they are woken. An entry that stayed would end the next `select` at once,
    // for as long as the task does not read.
    let mut woken = Vec::new();
    REACTOR.with_borrow_mut(|reactor| {
        for fd in read_set.fds(None) {
            woken.extend(reactor.reads.remove(&fd.as_raw_fd()));
        }
        for fd in write_set.fds(None) {
            woken.extend(reactor.writes.remove(&fd.as_raw_fd()));
        }
    });
    // With nothing borrowed: a waker may run any code, and that may register again.
    woken.into_iter().for_each(|(_fd, waker)| waker.wake());
    Ok(())
}
