//! Starting child processes: [`AsyncCommand`].

use super::child::AsyncChild;
use super::exits;
use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus, Output, Stdio};

/// A program to be started; the async version of `std::process::Command`.
///
/// What has no method here (users, groups, sessions) is set with
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
#[doc(alias = "Command")]
#[derive(Debug)]
pub struct AsyncCommand {
    std: Command,
    /// True for each of stdin, stdout and stderr that the caller has set.
    is_set: [bool; 3],
    /// Passed on to the children.
    kill_on_drop: bool,
}

impl AsyncCommand {
    /// Returns a command that starts `program`, without arguments, in the environment and the
    /// working directory of this process. The program is searched for in `PATH` if it has no `/`.
    pub fn new(program: impl AsRef<OsStr>) -> AsyncCommand {
        AsyncCommand::from(Command::new(program))
    }

    /// Adds an argument for the program.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut AsyncCommand {
        self.std.arg(arg);
        self
    }

    /// Adds several arguments for the program.
    pub fn args<A: AsRef<OsStr>>(
        &mut self,
        args: impl IntoIterator<Item = A>,
    ) -> &mut AsyncCommand {
        self.std.args(args);
        self
    }

    /// Sets a variable of the child's environment.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::process::AsyncCommand;
    /// use std::process::Stdio;
    ///
    /// fahrenheit::run(async {
    ///     let mut command = AsyncCommand::new("/bin/sh");
    ///     command.args(["-c", "echo $A $B; pwd; exit 3"]);
    ///     command.env_clear().env("A", "1").envs([("B", "2"), ("C", "3")]).env_remove("C");
    ///     command.current_dir("/").stderr(Stdio::null()).kill_on_drop(true);
    ///     command.as_std_mut();
    ///     assert_eq!(command.as_std().get_program(), "/bin/sh");
    ///     let output = command.output().await?;
    ///     assert_eq!(output.stdout, b"1 2\n/\n");
    ///     assert_eq!(output.status.code(), Some(3));
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
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

    /// Clears the child's environment, so that it inherits no variable.
    pub fn env_clear(&mut self) -> &mut AsyncCommand {
        self.std.env_clear();
        self
    }

    /// Sets the child's working directory.
    pub fn current_dir(&mut self, path: impl AsRef<Path>) -> &mut AsyncCommand {
        self.std.current_dir(path);
        self
    }

    /// Sets the child's standard input. The default is to inherit that of this process, and
    /// `/dev/null` for [`output`](AsyncCommand::output).
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut AsyncCommand {
        self.std.stdin(stdin);
        self.is_set[0] = true;
        self
    }

    /// Sets the child's standard output. The default is to inherit that of this process, and a pipe
    /// for [`output`](AsyncCommand::output).
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut AsyncCommand {
        self.std.stdout(stdout);
        self.is_set[1] = true;
        self
    }

    /// Sets the child's standard error. The default is to inherit that of this process, and a pipe
    /// for [`output`](AsyncCommand::output).
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut AsyncCommand {
        self.std.stderr(stderr);
        self.is_set[2] = true;
        self
    }

    /// Sets whether a child is killed when its [`AsyncChild`] is dropped before it has exited, or
    /// when the future of [`status`](AsyncCommand::status) or [`output`](AsyncCommand::output) is
    /// dropped. The default is not to. The child's own children are not killed.
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut AsyncCommand {
        self.kill_on_drop = kill;
        self
    }

    /// Returns the command of std that this one is built on.
    pub fn as_std(&self) -> &Command {
        &self.std
    }

    /// Returns the command of std that this one is built on, to set what this type has no method
    /// for. Do not set standard streams there: [`output`](AsyncCommand::output) would not know.
    pub fn as_std_mut(&mut self) -> &mut Command {
        &mut self.std
    }

    /// Starts the program.
    ///
    /// It runs from now on, whether the loop turns or not. The command can be used again.
    ///
    /// # Errors
    /// - If the program cannot be started, with the errno of `execve(2)` or `fork(2)`; nothing is
    ///   left of the attempt.
    /// - If this process ignores `SIGCHLD`; see the [module](super).
    /// - EMFILE if no descriptor is left for the pipes; or if the number of one is beyond what this
    ///   system's `select` takes: then the child, which has started already, is killed.
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
        exits::check_not_ignored()?;
        // Killed, should it fail: the caller gets no handle to do it by.
        let mut child = AsyncChild::new(self.std.spawn()?, true)?;
        child.kill_on_drop = self.kill_on_drop;
        Ok(child)
    }

    /// Starts the program at once, closes its pipes, and waits until it has exited.
    ///
    /// # Errors
    /// The errno of `execve(2)` or `fork(2)` if the program cannot be started: ENOENT if there is
    /// no such program, EACCES if it may not be executed. Otherwise ECHILD of `waitpid(2)` if other
    /// code takes the exit status.
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

    /// Starts the program at once, collects what it writes, and waits until it has exited.
    ///
    /// # Errors
    /// The errno of `execve(2)` or `fork(2)` if the program cannot be started: ENOENT if there is
    /// no such program, EACCES if it may not be executed. EMFILE if no descriptor is left for the
    /// pipes. Otherwise ECHILD of `waitpid(2)` if other code takes the exit status, or the error of
    /// `read(2)` if a pipe cannot be read.
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
        // A later `spawn` of this command has other defaults.
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
