//! Answers requests on a Unix socket: [`serve`].
//!
//! **Invariant.** Clients cannot hold up the loop. There are at most [`MAX_CLIENTS`], each with one
//! answer of bounded length at a time and with time limits for reading and writing; and all of them
//! together use at most a tenth of the loop's time.

use super::protocol::{self, Form, Request};
use super::socket_file::SocketFile;
use crate::event_loop::boundary;
use crate::event_loop::survey::dump_first;
use crate::net::{AsyncUnixListener, AsyncUnixStream};
use crate::task::{AbortOnDrop, Builder};
use crate::time::{self, sleep, timeout};
use futures_util::future::FutureExt;
use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Maximum number of clients at a time.
const MAX_CLIENTS: usize = 4;
/// Maximum length of a request with the end of its line.
const MAX_LINE: usize = 64;
/// A client that sends no request for this long makes room for others.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// A client that has not read an answer after this long is cut off.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// After an answer the next one waits this many times as long as it took.
const PAUSE_FACTOR: u32 = 9;
/// The time between attempts to accept after an error, and their maximum number.
const ACCEPT_DELAY: Duration = Duration::from_secs(1);
const MAX_ACCEPT_ERRORS: u32 = 10;

/// Serves diagnostics until it is dropped; see [`serve`].
#[derive(Debug)]
#[must_use = "dropping it removes the socket and ends the service"]
pub struct Server {
    // Before the task, which may end later: it is dropped at the next turn of the loop.
    file: RemoveOnDrop,
    task: AbortOnDrop<()>,
}

impl Server {
    /// Has the service go on for as long as the thread lives. The socket is removed when the
    /// thread ends, and stays if the process is killed or exits elsewhere.
    ///
    /// # Examples
    /// ```
    /// # let path = std::env::temp_dir().join(format!("detached-{}", std::process::id()));
    /// fahrenheit::run(async {
    ///     fahrenheit::diagnostics::serve(&path)?.detach();
    ///     std::io::Result::Ok(())
    /// })?;
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn detach(mut self) {
        self.file.0 = None;
        self.task.into_handle().detach();
    }
}

/// Removes the socket when the server is dropped, which may be after the last turn of the loop.
#[derive(Debug)]
struct RemoveOnDrop(Option<Rc<SocketFile>>);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            file.remove();
        }
    }
}

/// Lets other programs of the same user look into the loop of this thread, by a Unix socket at
/// `path`: `fahrenheit-top PATH` shows its tasks live. Feature `diagnostics`.
///
/// The [module](super) describes the protocol. A daemon task serves up to four clients at a time,
/// so `run` does not wait for it. It answers between polls: a program that is stuck inside a poll
/// says nothing. Answers together take at most a tenth of the loop's time. Each has at most 1000
/// tasks; a client that sends no request for a minute, or does not read its answer within ten
/// seconds, is cut off.
///
/// Dropping the [`Server`] ends the service and removes the socket. A socket that was left by a
/// process that has ended is replaced; one on which a process listens is not. Two processes that
/// replace the same one at the same moment may both succeed, and only one is found by clients.
/// Only the same user and root may connect: the file has the mode 0600, and the system is asked
/// who the peer is. A forked child serves nothing, and leaves the file alone.
///
/// Ages and times are in the answers after [`Builder::track`](crate::Builder::track). A loop that
/// is served is never reported as [stuck](crate::Builder::panic_when_stuck), because a client may
/// come; the answers say which tasks are.
///
/// # Errors
/// `InvalidInput` if the path is too long or contains a NUL. Otherwise the error of `bind(2)`:
/// `NotFound` if the folder does not exist, `PermissionDenied` if no file may be made in it,
/// `AddrInUse` if a process listens there, or if the file is not a socket.
///
/// # Examples
/// ```
/// # let folder = std::env::temp_dir();
/// let path = folder.join(format!("example-{}.diagnostics", std::process::id()));
/// fahrenheit::run(async {
///     let _server = fahrenheit::diagnostics::serve(&path)?;
///     // ... the program
///     std::io::Result::Ok(())
/// })?;
/// assert!(!path.exists());
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn serve(path: impl AsRef<Path>) -> io::Result<Server> {
    let (listener, file) = SocketFile::listen(path.as_ref())?;
    let file = Rc::new(file);
    let task = Builder::new().name("diagnostics").daemon(true);
    let task = task.spawn(accept_clients(listener, Rc::clone(&file)));
    Ok(Server {
        file: RemoveOnDrop(Some(file)),
        task: AbortOnDrop::new(task),
    })
}

/// Serves clients until it is dropped.
async fn accept_clients(listener: AsyncUnixListener, file: Rc<SocketFile>) {
    let pace = Rc::new(Pace::new());
    let mut clients = Vec::new();
    let mut n_errors = 0;
    while let Some(accepted) = next_client(&listener, &file, &mut clients).await {
        match accepted {
            Ok(stream) if !file.admits(&stream) => {
                boundary::warning!("diagnostics: another user has connected, and was turned away");
            }
            Ok(mut stream) if clients.len() >= MAX_CLIENTS => {
                let text = protocol::error("there are four clients already");
                // The buffer of a new connection has room for that; if not, it matters little.
                let _ = stream.write_all(text.as_bytes()).now_or_never();
            }
            Ok(stream) => {
                let task = Builder::new().name("diagnostics client").daemon(true);
                let task = task.spawn(serve_client(stream, Rc::clone(&pace)));
                clients.push(AbortOnDrop::new(task));
                n_errors = 0;
            }
            Err(error) => {
                n_errors += 1;
                boundary::warning!("diagnostics: cannot accept: {error}");
                if n_errors == MAX_ACCEPT_ERRORS {
                    return;
                }
                sleep(ACCEPT_DELAY).await;
            }
        }
    }
}

/// Waits for the next client, and meanwhile forgets those that have ended. `None` in a forked
/// child: the connection is its parent's.
async fn next_client(
    listener: &AsyncUnixListener,
    file: &SocketFile,
    clients: &mut Vec<AbortOnDrop<()>>,
) -> Option<io::Result<AsyncUnixStream>> {
    poll_fn(|cx| {
        if file.is_of_parent() {
            return Poll::Ready(None);
        }
        clients.retain_mut(|client| Pin::new(client).poll(cx).is_pending());
        let accepted = listener.poll_accept(cx);
        accepted.map(|accepted| Some(accepted.map(|(stream, _)| stream)))
    })
    .await
}

/// Answers the requests of one client until it goes away, errs or is too slow.
async fn serve_client(mut stream: AsyncUnixStream, pace: Rc<Pace>) {
    let mut input = Input::default();
    loop {
        let line = timeout(IDLE_LIMIT, input.read_line(&mut stream)).await;
        // Silence, a failed connection, or its end.
        let Ok(Ok(Some(line))) = line else {
            return;
        };
        let (answer, is_last) = match line {
            Line::Whole(line) => match Request::parse(&line) {
                Ok(request) => (pace.answer(request).await, false),
                Err(text) => (protocol::error(&text), false),
            },
            Line::TooLong => (protocol::error("the request is too long"), true),
        };
        let written = timeout(WRITE_LIMIT, stream.write_all(answer.as_bytes())).await;
        if is_last || !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}

/// Keeps the answers of all clients apart in time.
struct Pace {
    begin: Instant,
    /// No answer before this.
    next: Cell<Instant>,
}

impl Pace {
    fn new() -> Pace {
        let now = time::now();
        Pace {
            begin: now,
            next: Cell::new(now),
        }
    }

    /// Waits until it is time for the next answer, and makes it.
    async fn answer(&self, request: Request) -> String {
        // Another client may have had its answer meanwhile.
        while let Some(left) = self.next.get().checked_duration_since(time::now()) {
            if left.is_zero() {
                break;
            }
            sleep(left).await;
        }
        // By the real clock: a virtual one stands still while the answer is made.
        let begin = Instant::now();
        let (dump, n_omitted) = dump_first(request.first, request.max_tasks);
        let time = time::now().saturating_duration_since(self.begin);
        let answer = match request.form {
            Form::Records => protocol::snapshot(&dump, n_omitted, time),
            Form::Text => protocol::text(dump, n_omitted),
        };
        self.next.set(time::now() + PAUSE_FACTOR * begin.elapsed());
        answer
    }
}

/// A request as it comes from a client.
enum Line {
    Whole(String),
    TooLong,
}

/// What was read from a client and not taken yet.
#[derive(Default)]
struct Input {
    bytes: Vec<u8>,
}

impl Input {
    /// Takes the next line without its end; `None` at the end of the stream.
    async fn read_line(&mut self, stream: &mut AsyncUnixStream) -> io::Result<Option<Line>> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line = self.bytes.drain(..=end).collect::<Vec<_>>();
                let line = String::from_utf8_lossy(&line[..end]).into_owned();
                return Ok(Some(Line::Whole(line)));
            }
            if self.bytes.len() >= MAX_LINE {
                return Ok(Some(Line::TooLong));
            }
            let mut buffer = [0; MAX_LINE];
            match stream.read(&mut buffer[self.bytes.len()..]).await? {
                0 => return Ok(None),
                n => {
                    let begin = self.bytes.len();
                    self.bytes.extend_from_slice(&buffer[begin..begin + n]);
                }
            }
        }
    }
}
