//! Pipes and pairs of sockets: what has gone through them, and their ends, registered or not.

use crate::script::Wrap;
use fahrenheit::{AsyncFd, AsyncUnixStream, prelude::*};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{setsockopt, sockopt};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// What goes from one side of a link to the other: bytes that say where they belong.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    salt: usize,
    pub(crate) n_sent: Cell<usize>,
    pub(crate) n_received: Cell<usize>,
    /// A byte came that is not the next one.
    pub(crate) corrupt: Cell<bool>,
}

impl Flow {
    pub(crate) fn new(salt: usize) -> Rc<Flow> {
        Rc::new(Flow {
            salt,
            ..Flow::default()
        })
    }

    fn byte(&self, position: usize) -> u8 {
        (position ^ (position >> 7) ^ (self.salt * 37)) as u8
    }

    /// The next bytes to send.
    pub(crate) fn next(&self, len: usize) -> Vec<u8> {
        let from = self.n_sent.get();
        (from..from + len).map(|at| self.byte(at)).collect()
    }

    pub(crate) fn sent(&self, n: usize) {
        self.n_sent.set(self.n_sent.get() + n);
    }

    pub(crate) fn receive(&self, bytes: &[u8]) {
        let from = self.n_received.get();
        let right = (from..).zip(bytes).all(|(at, &byte)| byte == self.byte(at));
        self.corrupt.set(self.corrupt.get() || !right);
        self.n_received.set(from + bytes.len());
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.n_sent.get() - self.n_received.get()
    }
}

/// A descriptor, as it is held.
pub(crate) enum End {
    Raw(File),
    Fd(Rc<AsyncFd<File>>),
    Stream(AsyncUnixStream),
}

impl End {
    pub(crate) fn is_raw(&self) -> bool {
        matches!(self, End::Raw(_))
    }

    pub(crate) fn fd(&self) -> RawFd {
        match self {
            End::Raw(file) => file.as_raw_fd(),
            End::Fd(fd) => fd.as_raw_fd(),
            End::Stream(stream) => stream.as_raw_fd(),
        }
    }

    pub(crate) fn register(file: File, wrap: Wrap, is_pipe: bool) -> End {
        if is_pipe || wrap == Wrap::AsyncFd {
            End::Fd(Rc::new(AsyncFd::new(file).expect("it is open")))
        } else {
            let stream = UnixStream::from(OwnedFd::from(file));
            End::Stream(AsyncUnixStream::from_std(stream).expect("it is open"))
        }
    }

    /// Ends the registration. `Err` if a task waits that holds it as well.
    pub(crate) fn unregister(self) -> Result<File, End> {
        match self {
            End::Raw(file) => Ok(file),
            End::Fd(fd) => Ok(Rc::try_unwrap(fd).map_err(End::Fd)?.into_inner()),
            End::Stream(stream) => Ok(File::from(OwnedFd::from(stream.into_std()))),
        }
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            End::Raw(_) => unreachable!("it was registered when the task began"),
            End::Fd(fd) => fd.poll_read_with(cx, |mut file| file.read(bytes)),
            End::Stream(stream) => Pin::new(stream).poll_read(cx, bytes),
        }
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            End::Raw(_) => unreachable!("it was registered when the task began"),
            End::Fd(fd) => fd.poll_write_with(cx, |mut file| file.write(bytes)),
            End::Stream(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    pub(crate) fn duplicate(&self) -> File {
        let file = match self {
            End::Raw(file) => file.try_clone(),
            End::Fd(fd) => fd.get_ref().try_clone(),
            End::Stream(stream) => nix::unistd::dup(stream)
                .map(File::from)
                .map_err(io::Error::from),
        };
        file.expect("descriptors are left")
    }

    pub(crate) fn shutdown(&self) {
        let socket = UnixStream::from(OwnedFd::from(self.duplicate()));
        // The peer may be gone.
        let _ = socket.shutdown(Shutdown::Write);
    }
}

/// An end as tasks share it. They do not hold the descriptor, but look here in every poll.
pub(crate) struct Slot {
    pub(crate) end: Option<End>,
    /// Counts up whenever the end is registered or is no longer.
    pub(crate) registration: usize,
}

pub(crate) type Shared = Rc<RefCell<Slot>>;

/// One of the descriptors of a side of a link.
pub(crate) struct Place {
    pub(crate) link: usize,
    pub(crate) side: usize,
    pub(crate) slot: Shared,
    /// By direction: a task was dropped that may have waited here.
    pub(crate) abandoned: [Cell<bool>; 2],
}

impl Place {
    pub(crate) fn new(link: usize, side: usize, file: File) -> Place {
        Place {
            link,
            side,
            slot: Rc::new(RefCell::new(Slot {
                end: Some(End::Raw(file)),
                registration: 0,
            })),
            abandoned: Default::default(),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.slot.borrow().end.is_some()
    }

    pub(crate) fn is_registered(&self) -> bool {
        let slot = self.slot.borrow();
        slot.end.as_ref().is_some_and(|end| !end.is_raw())
    }

    /// Exchanges what is there; whoever waits through it finds out.
    pub(crate) fn put(&self, end: Option<End>) {
        let mut slot = self.slot.borrow_mut();
        slot.registration += 1;
        slot.end = end;
        self.abandoned.iter().for_each(|flag| flag.set(false));
    }

    pub(crate) fn take(&self) -> Option<End> {
        self.slot.borrow_mut().end.take()
    }
}

pub(crate) struct Link {
    /// From side 0 to side 1, and back.
    pub(crate) flows: [Rc<Flow>; 2],
    pub(crate) is_pipe: bool,
    /// By side: nothing will be sent any more.
    pub(crate) shut: [bool; 2],
}

/// Two non-blocking descriptors; of a pipe, the first reads.
pub(crate) fn open(pipe: bool, small: bool) -> [File; 2] {
    let pair: [OwnedFd; 2] = if pipe {
        nix::unistd::pipe().expect("descriptors are left").into()
    } else {
        let (a, b) = UnixStream::pair().expect("descriptors are left");
        [a, b].map(OwnedFd::from)
    };
    for fd in &pair {
        fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("it is open");
        if small && !pipe {
            setsockopt(fd, sockopt::SndBuf, &4_096).expect("any size will do");
        }
    }
    pair.map(File::from)
}

/// Whether the other side is gone, and has left something unread.
pub(crate) fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected
    )
}
