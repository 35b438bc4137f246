//! The signal handler, and those who listen to it.
//!
//! The handler does what a handler may: for each listener that wants the signal it sets a flag in a
//! table of atomics and writes one byte into the listener's pipe; then it calls the handler that
//! was there before. It takes no lock, allocates nothing, and leaves errno as it was.
//!
//! The pipe is a doorbell, not a letter box. The handler sets the flag, *then* rings; the listener
//! empties the pipe, *then* looks at the flags. So a full pipe is a rung bell, no kind of signal
//! can push another out, and after the last signal of a kind the listener always looks once more.
//!
//! Why not the crate signal-hook-registry: it never puts back what was there before, so after the
//! first listener Ctrl-C would never again end the program by itself.
//!
//! **Invariants.** A node is never freed, so the handler may walk the list at any time. A pipe is
//! closed only when no handler can be about to write to it. What was there before a signal's first
//! listener is back after its last, unless the program has put something else there since.

mod set;

use super::wake_pipe::WakePipe;
use super::{Errno, fork};
use nix::libc::{self, c_int, c_void, siginfo_t};
use set::{N_SIGNALS, N_WORDS, refused};
use std::collections::BTreeMap;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

#[cfg(not(target_os = "haiku"))]
pub(crate) use nix::libc::SIGIO;
/// The name that POSIX has for it, and the only one there.
#[cfg(target_os = "haiku")]
pub(crate) use nix::libc::SIGPOLL as SIGIO;
pub(crate) use nix::libc::{
    SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGQUIT, SIGSTOP, SIGTERM,
    SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGUSR1, SIGUSR2, SIGWINCH,
};
pub(crate) use set::{Set, name};

/// One listener's place in the table that the handler reads. Used again when the listener is gone.
struct Node {
    /// The writing end of the pipe; negative while nobody uses this node.
    bell: AtomicI32,
    wanted: [AtomicU32; N_WORDS],
    raised: [AtomicU32; N_WORDS],
    /// How many forks had been counted when the pipe was made: in a child it is the parent's.
    n_forks: AtomicUsize,
    /// How many handlers are at work here, and may be about to ring.
    n_inside: AtomicUsize,
    next: OnceLock<&'static Node>,
}

static FIRST: OnceLock<&'static Node> = OnceLock::new();

fn nodes() -> impl Iterator<Item = &'static Node> {
    // Looking into a `OnceLock` is one atomic load: a handler may do it.
    std::iter::successors(FIRST.get().copied(), |node| node.next.get().copied())
}

impl Node {
    fn new() -> Node {
        Node {
            bell: AtomicI32::new(-1),
            wanted: [const { AtomicU32::new(0) }; N_WORDS],
            raised: [const { AtomicU32::new(0) }; N_WORDS],
            n_forks: AtomicUsize::new(0),
            n_inside: AtomicUsize::new(0),
            next: OnceLock::new(),
        }
    }

    /// Has the handler tell this node of the signals in `set`.
    fn open(&self, set: Set, pipe: &WakePipe) {
        for index in 0..N_WORDS {
            self.wanted[index].store(set.word(index), Ordering::Relaxed);
            self.raised[index].store(0, Ordering::Relaxed);
        }
        self.n_forks.store(fork::count(), Ordering::Relaxed);
        self.bell.store(pipe.write_fd(), Ordering::SeqCst);
    }

    /// From when this returns, no handler rings the pipe any more.
    fn close(&self) {
        self.bell.store(-1, Ordering::SeqCst);
        // A handler says that it is inside before it looks at the bell, so one of the two sees the
        // other. It cannot be a handler that interrupted this thread: that one would have returned.
        while self.n_inside.load(Ordering::SeqCst) != 0 {
            std::thread::yield_now();
        }
    }

    /// What the handler does for this listener.
    fn tell(&self, index: usize, bit: u32) {
        self.n_inside.fetch_add(1, Ordering::SeqCst);
        let bell = self.bell.load(Ordering::SeqCst);
        if bell >= 0 && self.wanted[index].load(Ordering::Relaxed) & bit != 0 {
            self.raised[index].fetch_or(bit, Ordering::SeqCst);
            if self.n_forks.load(Ordering::Relaxed) == fork::count() {
                ring(bell);
            }
        }
        self.n_inside.fetch_sub(1, Ordering::SeqCst);
    }

    fn take(&self) -> Set {
        let words = (0..N_WORDS).map(|index| {
            let raised = self.raised[index].swap(0, Ordering::SeqCst);
            u128::from(raised) << (32 * index)
        });
        Set(words.sum())
    }
}

/// Writes a byte into a pipe that is open as long as a handler is inside of its node. If the pipe
/// is full, the listener has been told; there is nobody to tell of other errors.
fn ring(bell: c_int) {
    // SAFETY: `Node::close` waits for this handler before the descriptor is closed.
    let bell = unsafe { BorrowedFd::borrow_raw(bell) };
    let _ = super::retry(|| nix::unistd::write(bell, &[1]));
}

/// The one handler.
extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let errno = Errno::last_raw();
    fork::notice();
    let number = usize::try_from(signal).unwrap_or(0) % N_SIGNALS;
    for node in nodes() {
        node.tell(number / 32, 1 << (number % 32));
    }
    PREVIOUS[number].call(signal, info, context);
    Errno::set_raw(errno);
}

/// The handler that was there before ours, by what it takes; zero if it was none.
struct Previous {
    plain: AtomicUsize,
    full: AtomicUsize,
}

static PREVIOUS: [Previous; N_SIGNALS] = [const {
    Previous {
        plain: AtomicUsize::new(0),
        full: AtomicUsize::new(0),
    }
}; N_SIGNALS];

impl Previous {
    fn set(&self, action: &libc::sigaction) {
        let handler = match action.sa_sigaction {
            libc::SIG_DFL | libc::SIG_IGN => 0,
            handler => handler,
        };
        let full = action.sa_flags & libc::SA_SIGINFO != 0;
        self.plain
            .store(if full { 0 } else { handler }, Ordering::SeqCst);
        self.full
            .store(if full { handler } else { 0 }, Ordering::SeqCst);
    }

    fn call(&self, signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
        type Full = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
        type Plain = extern "C" fn(c_int);
        let (full, plain) = (
            self.full.load(Ordering::SeqCst),
            self.plain.load(Ordering::SeqCst),
        );
        if full != 0 {
            // SAFETY: the system had this as the handler, installed with SA_SIGINFO, so it is a
            // function of this type; we pass on what the system has given us.
            let handler = unsafe { std::mem::transmute::<usize, Full>(full) };
            handler(signal, info, context);
        } else if plain != 0 {
            // SAFETY: the same, installed without SA_SIGINFO.
            let handler = unsafe { std::mem::transmute::<usize, Plain>(plain) };
            handler(signal);
        }
    }
}

/// Sends a signal to one process, and to no group.
pub(crate) fn send(pid: u32, signal: c_int) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| Errno::ESRCH)?;
    if pid < 1 {
        return Err(Errno::ESRCH.into());
    }
    let signal = nix::sys::signal::Signal::try_from(signal)?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal)?;
    Ok(())
}

/// Whether the system throws the exit statuses of children away, as the program wants it.
pub(crate) fn children_are_ignored() -> io::Result<bool> {
    let action = current(SIGCHLD)?;
    #[cfg(not(target_os = "hurd"))]
    let flag = libc::SA_NOCLDWAIT;
    // It has no such flag.
    #[cfg(target_os = "hurd")]
    let flag = 0;
    Ok(action.sa_sigaction == libc::SIG_IGN || action.sa_flags & flag != 0)
}

/// Whether listeners to `signal` can rely on hearing of it: nobody has taken our handler away, and
/// this thread does not block it. Another thread may let it through; nobody can ask about that.
pub(crate) fn is_heard(signal: c_int) -> bool {
    let ours = current(signal).is_ok_and(|action| handler_of(&action) == Handler::Ours);
    let blocked = || {
        let mask = nix::sys::signal::SigSet::thread_get_mask()?;
        Ok::<_, Errno>(mask.contains(nix::sys::signal::Signal::try_from(signal)?))
    };
    ours && blocked() == Ok(false)
}

/// Who handles a signal now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handler {
    Ours,
    /// The default action, or none.
    Nobody,
    Somebody,
}

fn handler_of(action: &libc::sigaction) -> Handler {
    match action.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => Handler::Nobody,
        handler if handler == ours() => Handler::Ours,
        _ => Handler::Somebody,
    }
}

fn ours() -> usize {
    handle as *const () as usize
}

fn current(signal: c_int) -> nix::Result<libc::sigaction> {
    replace(signal, None)
}

/// Returns the action of a signal, and sets another if one is given.
fn replace(signal: c_int, new: Option<&libc::sigaction>) -> nix::Result<libc::sigaction> {
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: all zeroes is a valid `sigaction`.
    let mut old: libc::sigaction = unsafe { zeroed() };
    // SAFETY: `new` is null or points to an action of the caller, with a handler that may run at
    // any time; `old` is ours to write to.
    Errno::result(unsafe { libc::sigaction(signal, new, &mut old) })?;
    Ok(old)
}

/// Puts our handler in place, and returns what was there.
fn install(signal: c_int) -> nix::Result<libc::sigaction> {
    let number = usize::try_from(signal).unwrap_or(0) % N_SIGNALS;
    // Asked before it is replaced: a signal in between must find the way to the previous handler.
    let expected = current(signal)?;
    let mut action = expected;
    action.sa_sigaction = ours();
    // On the alternate stack, which matters to programs whose own stacks are small.
    action.sa_flags = libc::SA_RESTART | libc::SA_SIGINFO | libc::SA_ONSTACK;
    if handler_of(&expected) != Handler::Ours {
        PREVIOUS[number].set(&expected);
    }
    let mut old = replace(signal, Some(&action))?;
    if handler_of(&old) == Handler::Ours {
        // Somebody has put back what he found when there were listeners. What was before that is
        // not known any more; that ours should follow itself must not happen.
        old.sa_sigaction = libc::SIG_DFL;
    } else {
        PREVIOUS[number].set(&old);
    }
    Ok(old)
}

/// What is to be put back. On Haiku it holds a pointer, which is for the handler's eyes.
struct Action(libc::sigaction);

// SAFETY: nobody here follows the pointer, which goes back to the system as it came; the system
// itself calls the handler, and hands it the pointer, on any thread.
unsafe impl Send for Action {}

/// What to put back for a signal, and how many listen to it.
struct Installed {
    old: Action,
    n_listeners: usize,
}

/// What is not for the handler's eyes.
struct Registry {
    installed: BTreeMap<c_int, Installed>,
    free: Vec<&'static Node>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    installed: BTreeMap::new(),
    free: Vec::new(),
});

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    fn node(&mut self) -> &'static Node {
        if let Some(node) = self.free.pop() {
            return node;
        }
        let node: &'static Node = Box::leak(Box::new(Node::new()));
        let end = nodes().last().map_or(&FIRST, |last| &last.next);
        let set = end.set(node);
        debug_assert!(set.is_ok(), "only one thread adds nodes at a time");
        node
    }

    fn listen(&mut self, signal: c_int) -> io::Result<()> {
        let Some(known) = self.installed.get_mut(&signal) else {
            let old = Action(install(signal)?);
            let n_listeners = 1;
            self.installed
                .insert(signal, Installed { old, n_listeners });
            return Ok(());
        };
        match handler_of(&current(signal)?) {
            Handler::Ours => {}
            // Somebody has taken our handler away, and hears nothing of it himself.
            Handler::Nobody => known.old = Action(install(signal)?),
            // Above ours, and calling it, as far as one can know.
            Handler::Somebody if known.n_listeners > 0 => {}
            // To call the one that may call us would never end.
            Handler::Somebody => {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "a handler that the program has put over ours is in the way",
                ));
            }
        }
        known.n_listeners += 1;
        Ok(())
    }

    fn unlisten(&mut self, signal: c_int) {
        let Some(known) = self.installed.get_mut(&signal) else {
            return;
        };
        known.n_listeners -= 1;
        if known.n_listeners > 0 {
            return;
        }
        match current(signal).map(|action| handler_of(&action)) {
            Ok(Handler::Ours) => {
                // Cannot fail: the same call has put ours there.
                let _ = replace(signal, Some(&known.old.0));
            }
            // Not ours to replace. It may call ours, which goes on calling what was before.
            Ok(Handler::Somebody) => return,
            Ok(Handler::Nobody) | Err(_) => {}
        }
        self.installed.remove(&signal);
    }
}

/// Hears of some signals, from when it is made until it is dropped. As a descriptor, it is readable
/// whenever there may be something to [`take`](Listener::take).
pub(crate) struct Listener {
    node: &'static Node,
    /// Those for which the handler is in place because of this listener.
    heard: Set,
    pipe: WakePipe,
}

impl Listener {
    pub(crate) fn new(set: Set) -> io::Result<Listener> {
        fork::watch();
        fork::set_in_child(in_child);
        let pipe = WakePipe::new()?;
        let node = registry().node();
        // Before the handler is in place, so that nothing is lost in between.
        node.open(set, &pipe);
        let mut listener = Listener {
            node,
            heard: Set::default(),
            pipe,
        };
        for signal in set {
            match registry().listen(signal) {
                Ok(()) => listener.heard.insert(signal)?,
                // A number that this system does not have, or keeps to itself.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    return Err(refused(signal));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(listener)
    }

    /// All signals that have been raised since the last time; `WouldBlock` if none has.
    pub(crate) fn take(&self) -> io::Result<Set> {
        // In this order. The other way round, a signal in between would set the flag and lose its
        // byte, and nobody would look.
        self.pipe.drain();
        let raised = self.node.take();
        if raised == Set::default() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(raised)
    }

    /// In a child of `fork`: makes the pipe its own, for the one that it has is its parent's. What
    /// the child was sent meanwhile is kept; call [`take`](Listener::take) next.
    ///
    /// Returns whether there has been a fork.
    pub(crate) fn renew_after_fork(&self) -> io::Result<bool> {
        let n_forks = fork::count();
        if self.node.n_forks.load(Ordering::Relaxed) == n_forks {
            return Ok(false);
        }
        self.pipe.renew()?;
        self.node.n_forks.store(n_forks, Ordering::SeqCst);
        Ok(true)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut registry = registry();
        for signal in self.heard {
            registry.unlisten(signal);
        }
        self.node.close();
        registry.free.push(self.node);
        // The pipe is closed after this.
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// The first thing in a child of `fork`: what was raised before was for the parent, and handlers
/// that were at work on other threads are not there. Does only what a handler may do.
fn in_child() {
    for node in nodes() {
        node.n_inside.store(0, Ordering::SeqCst);
        for word in &node.raised {
            word.store(0, Ordering::SeqCst);
        }
    }
}
