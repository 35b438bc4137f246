//! A child process and what is done with it: [`AsyncChild`].

use super::exits::{self, ExitListener};
use super::stdio::{AsyncChildStderr, AsyncChildStdin, AsyncChildStdout};
use crate::event_loop::boundary;
use crate::signal::Signal;
use crate::sys;
use futures_io::AsyncRead;
use futures_util::future::try_join3;
use futures_util::io::AsyncReadExt;
use std::io;
#[cfg(doc)]
use std::process::Stdio;
use std::process::{Child, ExitStatus, Output};

/// A child process; made by [`AsyncCommand::spawn`](super::AsyncCommand::spawn).
///
/// Dropping it leaves the child alone, or kills it if it was started with
/// [`kill_on_drop`](super::AsyncCommand::kill_on_drop). In both cases its exit status is taken when
/// it has exited, so that it does not stay a zombie; see the [module](super). The handle belongs to
/// the thread that made it:
///
/// ```compile_fail
/// fn must_be_send<T: Send>() {}
/// must_be_send::<fahrenheit::process::AsyncChild>();
/// ```
#[doc(alias = "Child")]
#[derive(Debug)]
pub struct AsyncChild {
    /// The child's standard input, if it was set to [`Stdio::piped`] and has not been taken.
    pub stdin: Option<AsyncChildStdin>,
    /// The child's standard output, if it was set to [`Stdio::piped`] and has not been taken.
    pub stdout: Option<AsyncChildStdout>,
    /// The child's standard error, if it was set to [`Stdio::piped`] and has not been taken.
    pub stderr: Option<AsyncChildStderr>,
    /// `None` only while it is dropped.
    process: Option<Process>,
    state: State,
    /// True if the child is killed when it is dropped while it is running.
    pub(super) kill_on_drop: bool,
}

#[derive(Debug)]
struct Process {
    /// std's handle, without its pipes.
    child: Child,
    /// What hears of its exit.
    exit: ExitListener,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its exit status has not been taken. So its number is its own, even if it has exited.
    Running,
    /// Its exit status has been taken by this handle.
    Ended(ExitStatus),
    /// Its exit status has been taken by other code, or it is the child of another process.
    Lost,
}

impl AsyncChild {
    /// Takes over a child that std has started, with its pipes.
    ///
    /// # Errors
    /// If this process ignores `SIGCHLD` (see the [module](super)), or a
    /// [`RegisterError`](crate::RegisterError) if a pipe is beyond what this system's `select`
    /// takes. The pipes are closed then, and the child goes on.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::process::AsyncChild;
    /// use std::process::Command;
    ///
    /// fahrenheit::run(async {
    ///     let mut child = AsyncChild::from_std(Command::new("sleep").arg("1000").spawn()?)?;
    ///     println!("started as process {:?}", child.id());
    ///     assert!(child.try_wait()?.is_none(), "it is still running");
    ///     child.kill()?;
    ///     child.wait().await?;
    ///     assert_eq!(child.id(), None);
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    #[track_caller]
    pub fn from_std(mut child: Child) -> io::Result<AsyncChild> {
        exits::check_not_ignored()?;
        // If std has taken its exit status, its number may be another process's by now.
        let known = sys::retry_io(|| child.try_wait()).unwrap_or(None);
        let mut this = AsyncChild::new(child, false)?;
        if let Some(status) = known {
            this.state = State::Ended(status);
        }
        Ok(this)
    }

    #[track_caller]
    pub(super) fn new(child: Child, kill_on_drop: bool) -> io::Result<AsyncChild> {
        let exit = ExitListener::new(child.id());
        let mut this = AsyncChild {
            stdin: None,
            stdout: None,
            stderr: None,
            process: Some(Process { child, exit }),
            state: State::Running,
            kill_on_drop,
        };
        let std = &mut this.process().child;
        let (stdin, stdout, stderr) = (std.stdin.take(), std.stdout.take(), std.stderr.take());
        if let Some(pipe) = stdin {
            this.stdin = Some(AsyncChildStdin::from_std(pipe)?);
        }
        if let Some(pipe) = stdout {
            this.stdout = Some(AsyncChildStdout::from_std(pipe)?);
        }
        if let Some(pipe) = stderr {
            this.stderr = Some(AsyncChildStderr::from_std(pipe)?);
        }
        Ok(this)
    }

    fn process(&mut self) -> &mut Process {
        let process = self.process.as_mut();
        process.expect("the process is there until its handle is dropped")
    }

    /// The number of the process; `None` once its exit status has been taken, because the number
    /// may then be another process's.
    pub fn id(&self) -> Option<u32> {
        let is_running = self.state == State::Running;
        let process = self.process.as_ref().filter(|_| is_running);
        process.map(|process| process.child.id())
    }

    /// Waits for the end of the child, and returns its exit status, again and again if asked.
    ///
    /// Closes the child's stdin first, so that it does not wait for us. If its stdout or stderr is
    /// a pipe that no task reads, it may never exit: see
    /// [`wait_with_output`](AsyncChild::wait_with_output).
    ///
    /// # Errors
    /// If the exit status is lost: other code of this program has waited for this very child, or
    /// for any child; `SIGCHLD` was ignored when it exited; or this process is a `fork` of the one
    /// that started it.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future; stdin stays closed.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::{process::AsyncCommand, time::timeout};
    /// use std::time::Duration;
    ///
    /// fahrenheit::run(async {
    ///     let mut child = AsyncCommand::new("sleep").arg("1000").spawn()?;
    ///     let soon = Duration::from_millis(10);
    ///     if timeout(soon, child.wait()).await.is_err() {
    ///         child.kill()?;
    ///     }
    ///     assert!(!child.wait().await?.success());
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    #[doc(alias = "waitpid")]
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        loop {
            // Before the look: a signal after it must end the wait below.
            let mark = self.process().exit.mark();
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            self.process().exit.changed(mark).await;
        }
    }

    /// Returns the exit status of the child if it has exited. Does not close its stdin.
    ///
    /// # Errors
    /// ECHILD of `waitpid(2)` if other code has taken the exit status, or if this process ignores
    /// `SIGCHLD`: the status is then lost, and each further call says so.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        match self.state {
            State::Ended(status) => return Ok(Some(status)),
            State::Lost => return Err(lost(sys::Errno::ECHILD.into())),
            State::Running => {}
        }
        let Process { child, exit } = self.process();
        match exit.try_wait(child) {
            Ok(None) => Ok(None),
            Ok(Some(status)) => {
                self.state = State::Ended(status);
                Ok(Some(status))
            }
            Err(error) => {
                self.state = State::Lost;
                Err(lost(error))
            }
        }
    }

    /// Waits for the end of the child, and collects what it writes to pipes that were not taken.
    ///
    /// # Errors
    /// ECHILD of `waitpid(2)` if the exit status is lost, as for [`wait`](AsyncChild::wait). The
    /// error of `read(2)` if a pipe cannot be read: EBADF if other code closed it.
    ///
    /// # Cancel safety
    /// Dropping the future drops the child, and what it has written.
    pub async fn wait_with_output(mut self) -> io::Result<Output> {
        let stdout = read_all(self.stdout.take());
        let stderr = read_all(self.stderr.take());
        let (status, stdout, stderr) = try_join3(self.wait(), stdout, stderr).await?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }

    /// Ends the child with `SIGKILL`. The child may still be there when this returns; [`wait`]
    /// returns when it has gone. If it has exited by itself, that is no error.
    ///
    /// # Errors
    /// - Of kind [`InvalidInput`](io::ErrorKind::InvalidInput) once its exit status has been taken:
    ///   its number may be another process's by now, which is sent nothing.
    /// - EPERM of `kill(2)` if the child has become another user's.
    /// - If the exit status is lost, as for [`wait`].
    ///
    /// [`wait`]: AsyncChild::wait
    pub fn kill(&mut self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Sends the child a signal, for example `SIGTERM` to ask it to end.
    ///
    /// # Errors
    /// - Of kind [`InvalidInput`](io::ErrorKind::InvalidInput) for signals without a name, such as
    ///   real-time signals; and once the exit status of the child has been taken: its number may be
    ///   another process's by now, which is sent nothing.
    /// - EPERM of `kill(2)` if the child has become another user's.
    /// - ECHILD if the exit status is lost, as for [`wait`](AsyncChild::wait).
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::{process::AsyncCommand, signal::Signal};
    /// use std::os::unix::process::ExitStatusExt;
    ///
    /// fahrenheit::run(async {
    ///     let mut child = AsyncCommand::new("sleep").arg("1000").spawn()?;
    ///     child.signal(Signal::TERM)?;
    ///     assert_eq!(child.wait().await?.signal(), Some(Signal::TERM.as_raw()));
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if let State::Ended(status) = self.state {
            let text = format!("cannot send {signal} to a child process that has ended ({status})");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        // Other code may have reaped it, and its number may be another process's.
        match self.try_wait()? {
            Some(_) => Ok(()),
            None => self.process().send(signal),
        }
    }
}

impl Process {
    /// Sends a signal. The caller has found that the process has not been waited for.
    fn send(&self, signal: Signal) -> io::Result<()> {
        self.exit.send(&self.child, signal.as_raw())
    }
}

fn lost(error: io::Error) -> io::Error {
    let text = format!("the exit status of the child process is lost: {error}");
    io::Error::new(error.kind(), text)
}

async fn read_all(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(mut pipe) = pipe else {
        return Ok(bytes);
    };
    // Not by `read_to_end`, which writes zeroes into all spare capacity each time it waits: its
    // time grows with the square of the output.
    let mut piece = vec![0; 1 << 16];
    loop {
        match pipe.read(&mut piece).await? {
            0 => return Ok(bytes),
            n => bytes.extend_from_slice(&piece[..n]),
        }
    }
}

impl TryFrom<Child> for AsyncChild {
    type Error = io::Error;

    #[track_caller]
    fn try_from(child: Child) -> io::Result<AsyncChild> {
        AsyncChild::from_std(child)
    }
}

impl Drop for AsyncChild {
    fn drop(&mut self) {
        // A process that is not, or no longer, our child is neither killed nor adopted.
        let Ok(None) = self.try_wait() else { return };
        if self.kill_on_drop {
            let process = self.process();
            if let Err(error) = process.send(Signal::KILL) {
                boundary::warning!("cannot kill child {}: {error}", process.child.id());
            }
        }
        if let Some(Process { child, exit }) = self.process.take() {
            exit.adopt(child);
        }
    }
}
