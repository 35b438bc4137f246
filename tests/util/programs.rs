//! The examples, as programs that tests start.

use super::LIMIT;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The path of an example. `cargo test` leaves the examples beside the directory of the tests.
pub(crate) fn example_path(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path.push(name);
    assert!(
        path.exists(),
        "{path:?} is missing: `cargo test`, or `cargo build --examples`"
    );
    path
}

/// The command that starts an example, with nothing to read.
pub(crate) fn example(name: &str) -> Command {
    let mut command = Command::new(example_path(name));
    command.stdin(Stdio::null());
    command
}

/// A process that is killed at the end of the test, whatever happens.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Calls `job` on a thread, and fails if it takes longer than `LIMIT`.
pub(crate) fn in_time<T: Send + 'static>(
    what: &str,
    job: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(job()));
    receiver
        .recv_timeout(LIMIT)
        .unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// Waits for the end of a process, and fails if it takes longer than `LIMIT`.
pub(crate) fn end_of(child: &mut Child) -> ExitStatus {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(
            begin.elapsed() < LIMIT,
            "process {} does not end",
            child.id()
        );
        thread::sleep(Duration::from_millis(2));
    }
}

/// Reads a line from the output of a process, and fails if none comes within `LIMIT`. Returns it
/// without its end, and the rest of the output.
pub(crate) fn line_of(mut stdout: BufReader<ChildStdout>) -> (String, BufReader<ChildStdout>) {
    in_time("a line", move || {
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        (line.trim_end().to_owned(), stdout)
    })
}

/// The port in the first line of a server, "NAME: listening on ADDRESS:PORT; HINT".
pub(crate) fn port_in(line: &str) -> u16 {
    let addr = line.split("listening on ").nth(1).unwrap_or_default();
    let port = addr.split([';', ' ']).next().unwrap();
    let port = port.rsplit(':').next().unwrap();
    port.parse()
        .unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

/// Connects to a server of this machine. Reads and writes fail if they take longer than `LIMIT`.
pub(crate) fn connect_to(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// An example that serves on a port of its own choice. It is killed at the end of the test.
pub(crate) struct Server {
    pub(crate) process: Killed,
    pub(crate) port: u16,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Server {
    pub(crate) fn start(name: &str) -> Server {
        Server::start_by(example(name).arg("127.0.0.1:0"))
    }

    pub(crate) fn start_by(command: &mut Command) -> Server {
        let mut process = Killed(command.stdout(Stdio::piped()).spawn().unwrap());
        let stdout = BufReader::new(process.0.stdout.take().unwrap());
        let (line, stdout) = line_of(stdout);
        Server {
            process,
            port: port_in(&line),
            stdout: Some(stdout),
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect_to(self.port)
    }

    #[cfg(feature = "signal")]
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = self.process.0.id().try_into().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    }

    /// Waits for the program, which has to end with success. Returns what it has said meanwhile.
    pub(crate) fn ends_well(mut self) -> String {
        let status = end_of(&mut self.process.0);
        let mut text = String::new();
        let mut stdout = self.stdout.take().unwrap();
        stdout.read_to_string(&mut text).unwrap();
        assert!(status.success(), "{status}: {text}");
        text
    }
}
