//! Child processes: [`AsyncCommand`] starts them as `std::process::Command` does, and
//! [`AsyncChild`] waits for them and talks to them.
//!
//! Below is the `Command` of std: what it promises about starting a program holds here. Starting
//! one blocks the thread for as long as the system needs to copy the process and to find the
//! program, which is about a millisecond.
//!
//! # Whose children
//! Nothing here waits for a child that it has not started or been given: libraries that start
//! processes by themselves keep theirs. A child that is dropped goes on, unless
//! [`kill_on_drop`](AsyncCommand::kill_on_drop) says otherwise, and is reaped when it has ended:
//! by the loop of the thread that dropped it, or of another that has children, whichever turns
//! first, and at the end of `run`. Only if it ends after that, and no loop turns any more, it is a
//! zombie until the program ends.
//!
//! # `SIGCHLD`
//! As long as there are children, this listens to `SIGCHLD`, and every listener of the program goes
//! on hearing it; see [`signal`](crate::signal). If the program **ignores** it when a child is to
//! be started, that is an error, because the system then throws the exit status away. If a handler
//! is put over ours meanwhile, or the thread blocks the signal, children are looked at ten times a
//! second instead.
//!
//! # What a child inherits
//! No descriptor but its standard streams, which block as it expects them to. Signals that were
//! caught have their default action, and `SIGPIPE` too. The mask of blocked signals is that of the
//! thread; the loop never blocks one.
//!
//! # After `fork`
//! The parent's children are not the child's: there, waiting for them is an error, and dropping
//! them does nothing, also if they were to be killed.

mod reaper;
mod stdio;

pub use stdio::{AsyncChildStderr, AsyncChildStdin, AsyncChildStdout};

use crate::event_loop::boundary;
use crate::signal::Signal;
use crate::sys;
use futures_io::AsyncRead;
use futures_util::future::try_join3;
use futures_util::io::AsyncReadExt;
use reaper::Ear;
use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

/// A program to be started, as `std::process::Command`.
///
/// What is missing here, as users, groups and sessions, is set with
/// [`as_std_mut`](AsyncCommand::as_std_mut).
///
/// # Examples
/// ```
/// use fahrenheit::process::AsyncCommand;
///
/// fahrenheit::run(async {
///     let output = AsyncCommand::new("echo").arg("hello").output().await?;
///     assert!(output.status.success());
///     assert_eq!(output.stdout, b"hello\n");
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
#[derive(Debug)]
pub struct AsyncCommand {
    std: Command,
    /// Whether the caller has said what stdin, stdout and stderr are to be.
    is_set: [bool; 3],
    kill_on_drop: bool,
}

impl AsyncCommand {
    /// A command to start `program`, which is looked for in `PATH` if it has no `/`. It inherits
    /// arguments (none), environment and working directory as in std.
    pub fn new(program: impl AsRef<OsStr>) -> AsyncCommand {
        AsyncCommand::from(Command::new(program))
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut AsyncCommand {
        self.std.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(
        &mut self,
        args: impl IntoIterator<Item = A>,
    ) -> &mut AsyncCommand {
        self.std.args(args);
        self
    }

    /// Sets a variable of the child's environment.
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut AsyncCommand {
        self.std.env(name, value);
        self
    }

    /// Sets variables of the child's environment.
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        &mut self,
        vars: impl IntoIterator<Item = (N, V)>,
    ) -> &mut AsyncCommand {
        self.std.envs(vars);
        self
    }

    /// Removes a variable from the child's environment.
    pub fn env_remove(&mut self, name: impl AsRef<OsStr>) -> &mut AsyncCommand {
        self.std.env_remove(name);
        self
    }

    /// Has the child inherit no variable.
    pub fn env_clear(&mut self) -> &mut AsyncCommand {
        self.std.env_clear();
        self
    }

    /// Sets the child's working directory.
    pub fn current_dir(&mut self, path: impl AsRef<Path>) -> &mut AsyncCommand {
        self.std.current_dir(path);
        self
    }

    /// Sets the child's standard input. Unless it is set, it is that of this process, and nothing
    /// at all for [`output`](AsyncCommand::output).
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut AsyncCommand {
        self.std.stdin(stdin);
        self.is_set[0] = true;
        self
    }

    /// Sets the child's standard output. Unless it is set, it is that of this process, and a pipe
    /// for [`output`](AsyncCommand::output).
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut AsyncCommand {
        self.std.stdout(stdout);
        self.is_set[1] = true;
        self
    }

    /// Sets the child's standard error, as [`stdout`](AsyncCommand::stdout).
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut AsyncCommand {
        self.std.stderr(stderr);
        self.is_set[2] = true;
        self
    }

    /// Whether a child is killed when its [`AsyncChild`] is dropped before it has ended; also when
    /// the future of [`status`](AsyncCommand::status) or [`output`](AsyncCommand::output) is.
    /// It is not, by default. The child's own children are not killed.
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut AsyncCommand {
        self.kill_on_drop = kill;
        self
    }

    /// The command of std below.
    pub fn as_std(&self) -> &Command {
        &self.std
    }

    /// The command of std below, to set what this type has no method for. Standard streams are set
    /// here instead: [`output`](AsyncCommand::output) does not see those that are set there.
    pub fn as_std_mut(&mut self) -> &mut Command {
        &mut self.std
    }

    /// Starts the program.
    ///
    /// It runs from now on, whether the loop turns or not. The command can be used again.
    ///
    /// # Errors
    /// - If the program cannot be started; nothing is left of the attempt.
    /// - If the program that calls this ignores `SIGCHLD`; see the [module](self).
    /// - If no descriptor is left for pipes, or its number is beyond what this system's `select`
    ///   takes. In the second case a child that has started already is killed.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::{prelude::*, process::AsyncCommand};
    /// use std::process::Stdio;
    ///
    /// fahrenheit::run(async {
    ///     let mut command = AsyncCommand::new("tr");
    ///     command.args(["a-z", "A-Z"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    ///     let mut child = command.spawn()?;
    ///     child.stdin.take().expect("it is piped").write_all(b"shout").await?;
    ///     let output = child.wait_with_output().await?;
    ///     assert_eq!(output.stdout, b"SHOUT");
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    #[track_caller]
    pub fn spawn(&mut self) -> io::Result<AsyncChild> {
        // First, so that it fails before anything is started.
        let ear = Ear::open()?;
        let mut child = AsyncChild::new(self.std.spawn()?, ear, true)?;
        child.kill_on_drop = self.kill_on_drop;
        Ok(child)
    }

    /// Starts the program at once, and waits for its end. Pipes are closed before.
    ///
    /// # Errors
    /// As [`spawn`](AsyncCommand::spawn) and [`AsyncChild::wait`].
    ///
    /// # Cancel safety
    /// Dropping the future drops the child.
    ///
    /// # Examples
    /// ```
    /// # use fahrenheit::process::AsyncCommand;
    /// let status = fahrenheit::run(AsyncCommand::new("false").status())?;
    /// assert_eq!(status.code(), Some(1));
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn status(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + use<> {
        let child = self.spawn();
        async {
            let mut child = child?;
            drop((child.stdout.take(), child.stderr.take()));
            child.wait().await
        }
    }

    /// Starts the program at once, waits for its end, and collects what it writes.
    ///
    /// # Errors
    /// As [`spawn`](AsyncCommand::spawn) and [`AsyncChild::wait_with_output`].
    ///
    /// # Cancel safety
    /// Dropping the future drops the child, and what it has written.
    #[track_caller]
    pub fn output(&mut self) -> impl Future<Output = io::Result<Output>> + use<> {
        let [stdin, stdout, stderr] = self.is_set;
        if !stdin {
            self.std.stdin(Stdio::null());
        }
        if !stdout {
            self.std.stdout(Stdio::piped());
        }
        if !stderr {
            self.std.stderr(Stdio::piped());
        }
        let child = self.spawn();
        self.inherit_what_is_not_set();
        async { child?.wait_with_output().await }
    }

    fn inherit_what_is_not_set(&mut self) {
        let [stdin, stdout, stderr] = self.is_set;
        if !stdin {
            self.std.stdin(Stdio::inherit());
        }
        if !stdout {
            self.std.stdout(Stdio::inherit());
        }
        if !stderr {
            self.std.stderr(Stdio::inherit());
        }
    }
}

/// Standard streams that were set before count as not set for [`AsyncCommand::output`].
impl From<Command> for AsyncCommand {
    fn from(std: Command) -> AsyncCommand {
        AsyncCommand {
            std,
            is_set: [false; 3],
            kill_on_drop: false,
        }
    }
}

/// A child process; made by [`AsyncCommand::spawn`].
///
/// Dropping it leaves the child alone, or kills it if it was started with
/// [`kill_on_drop`](AsyncCommand::kill_on_drop); in both cases no zombie stays, see the
/// [module](self). It belongs to the thread that made it:
///
/// ```compile_fail
/// fn must_be_send<T: Send>() {}
/// must_be_send::<fahrenheit::process::AsyncChild>();
/// ```
#[derive(Debug)]
pub struct AsyncChild {
    /// The child's standard input, if it was set to [`Stdio::piped`] and has not been taken.
    pub stdin: Option<AsyncChildStdin>,
    /// The child's standard output, if it was set to [`Stdio::piped`] and has not been taken.
    pub stdout: Option<AsyncChildStdout>,
    /// The child's standard error, if it was set to [`Stdio::piped`] and has not been taken.
    pub stderr: Option<AsyncChildStderr>,
    /// `None` only while it is dropped.
    child: Option<Child>,
    state: State,
    kill_on_drop: bool,
    ear: Ear,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// As far as we have looked. Its pid is its own: also a child that has ended keeps it, until we
    /// look.
    Running,
    Ended(ExitStatus),
    /// It is no child of this process, or no longer.
    Lost,
}

impl AsyncChild {
    /// Takes over a child that std has started, with its pipes.
    ///
    /// # Errors
    /// As [`AsyncCommand::spawn`]. The pipes are closed then, and the child goes on.
    #[track_caller]
    pub fn from_std(child: Child) -> io::Result<AsyncChild> {
        AsyncChild::new(child, Ear::open()?, false)
    }

    #[track_caller]
    fn new(child: Child, ear: Ear, kill_on_drop: bool) -> io::Result<AsyncChild> {
        let mut this = AsyncChild {
            stdin: None,
            stdout: None,
            stderr: None,
            child: Some(child),
            state: State::Running,
            kill_on_drop,
            ear,
        };
        let std = this.std();
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

    fn std(&mut self) -> &mut Child {
        let child = self.child.as_mut();
        child.expect("a child is there until its handle is dropped")
    }

    /// The number of the process; `None` once its exit status has been taken, because the number
    /// may then be another's.
    pub fn id(&self) -> Option<u32> {
        let is_running = self.state == State::Running;
        self.child.as_ref().filter(|_| is_running).map(Child::id)
    }

    /// Waits for the end of the child, and returns its exit status, again and again if asked.
    ///
    /// Closes the child's stdin first, so that it does not wait for us. If its stdout or stderr is
    /// a pipe that nobody reads, it may never end: see
    /// [`wait_with_output`](AsyncChild::wait_with_output).
    ///
    /// # Errors
    /// If the system does not know the exit status: somebody else has waited for this very process,
    /// `SIGCHLD` was ignored when it ended, or this process is a `fork` of the one that started it.
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
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        loop {
            // Before the look: a ring after it must end the wait below.
            let n_rings = self.ear.n_rings();
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            self.ear.hear(n_rings).await;
        }
    }

    /// The exit status of the child, if it has ended. Leaves stdin alone.
    ///
    /// # Errors
    /// As [`wait`](AsyncChild::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        match self.state {
            State::Ended(status) => return Ok(Some(status)),
            State::Lost => return Err(lost(sys::Errno::ECHILD.into())),
            State::Running => {}
        }
        match sys::retry_io(|| self.std().try_wait()) {
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
    /// As [`wait`](AsyncChild::wait), and those of reading.
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

    /// Ends the child with `SIGKILL`. That is under way when this returns: [`wait`] tells when it
    /// has happened. If it has ended meanwhile, there is nothing to do, and that is no error.
    ///
    /// # Errors
    /// Of kind [`InvalidInput`](io::ErrorKind::InvalidInput) once its exit status has been taken:
    /// its number may be another process's by now, which nothing is sent to. Else that of the
    /// system; and if it is no child of this process any more, as for [`wait`].
    ///
    /// [`wait`]: AsyncChild::wait
    pub fn kill(&mut self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Sends the child a signal, as `SIGTERM` to ask it to end.
    ///
    /// # Errors
    /// As [`kill`](AsyncChild::kill); and of kind [`InvalidInput`](io::ErrorKind::InvalidInput) for
    /// signals without a name, as real-time signals are.
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
        // Looks first: somebody else may have reaped it.
        match self.try_wait()? {
            Some(_) => Ok(()),
            None => sys::signal::send(self.std().id(), signal.as_raw()),
        }
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
    // Not by `read_to_end`, which writes zeroes into all the room that it has each time it waits:
    // so it would take time with the square of what comes.
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
        // Looks first: a process that is not our child is neither killed nor adopted.
        let Ok(None) = self.try_wait() else { return };
        if self.kill_on_drop {
            if let Err(error) = self.std().kill() {
                boundary::warning!("cannot kill child {}: {error}", self.std().id());
            }
        }
        if let Some(child) = self.child.take() {
            self.ear.adopt(child);
        }
    }
}
