//! fahrenheit-top in a terminal: what it shows, what its keys do, and how it leaves the terminal.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(unsafe_code)]

#[path = "pty/screen.rs"]
mod screen;
// To see what a panic leaves behind, which no key causes.
#[allow(dead_code, reason = "the size is not asked for here")]
#[path = "../src/terminal.rs"]
mod terminal;

use fahrenheit::{Builder, diagnostics, task, time};
use nix::libc;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};
use screen::Screen;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a slow machine.
const LIMIT: Duration = Duration::from_secs(100);
/// Set in a process that is to panic in a terminal.
const PANIC: &str = "FAHRENHEIT_TOP_TEST_PANIC";

fn top() -> Command {
    Command::new(env!("CARGO_BIN_EXE_fahrenheit-top"))
}

/// A folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("top-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program with tasks, on a thread of its own.
struct Program {
    is_over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Program {
    fn start(path: &Path) -> Program {
        let is_over = Arc::new(AtomicBool::new(false));
        let path = path.to_owned();
        let (over, (ready, is_ready)) = (Arc::clone(&is_over), std::sync::mpsc::channel());
        let thread = thread::spawn(move || {
            let main = async {
                let _server = diagnostics::serve(path).unwrap();
                let named = |name: &str| task::Builder::new().name(name);
                let often = named("often").spawn(async {
                    loop {
                        time::sleep(Duration::from_millis(1)).await;
                    }
                });
                let long = named("long").spawn(async {
                    loop {
                        thread::sleep(Duration::from_millis(20));
                        time::sleep(Duration::from_millis(30)).await;
                    }
                });
                let hostile = named("\u{1b}[31mred").spawn(std::future::pending::<()>());
                // So that a dump is longer than a screen.
                let others = (0..20).map(|_| task::spawn(std::future::pending::<()>()));
                let others: Vec<_> = others.collect();
                ready.send(()).unwrap();
                while !over.load(Ordering::Relaxed) {
                    time::sleep(Duration::from_millis(50)).await;
                }
                drop((often, long, hostile, others));
            };
            Builder::new().track(true).block_on(main).unwrap();
        });
        is_ready.recv().unwrap();
        Program {
            is_over,
            thread: Some(thread),
        }
    }

    fn end(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// A command in a terminal.
struct Session {
    child: Child,
    master: File,
    slave: OwnedFd,
    screen: Arc<Mutex<Screen>>,
    found: Termios,
}

impl Session {
    /// Starts a command with a terminal of so many lines and columns.
    fn start(command: &mut Command, size: (u16, u16)) -> Session {
        let winsize = Winsize {
            ws_row: size.0,
            ws_col: size.1,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&winsize, None).unwrap();
        let found = tcgetattr(&pty.slave).unwrap();
        let stream = || Stdio::from(pty.slave.try_clone().unwrap());
        command.stdin(stream()).stdout(stream()).stderr(stream());
        let control = || {
            setsid()?;
            // SAFETY: the terminal is open, and the request takes a number.
            match unsafe { libc::ioctl(0, libc::TIOCSCTTY as _, 0) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: both are system calls, which may be made after a fork.
        unsafe { command.pre_exec(control) };
        let child = command.spawn().unwrap();
        let size = (usize::from(size.0), usize::from(size.1));
        let screen = Arc::new(Mutex::new(Screen::new(size)));
        let master = File::from(pty.master);
        let (mut reader, shown) = (master.try_clone().unwrap(), Arc::clone(&screen));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut bytes) {
                shown.lock().unwrap().write(&bytes[..n]);
            }
        });
        Session {
            child,
            master,
            slave: pty.slave,
            screen,
            found,
        }
    }

    fn top(path: &Path, size: (u16, u16)) -> Session {
        let session = Session::start(top().args(["--interval", "0.2"]).arg(path), size);
        session.wait("the first answer", |lines| {
            lines.iter().any(|line| line.contains("    ID "))
        });
        session
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen is as it should be, and returns its lines.
    fn wait(&self, what: &str, is_good: impl Fn(&[String]) -> bool) -> Vec<String> {
        let begin = Instant::now();
        loop {
            let lines = self.screen.lock().unwrap().lines();
            if is_good(&lines) {
                return lines;
            }
            let text = lines.join("\n");
            assert!(begin.elapsed() < LIMIT, "{what} does not come:\n{text}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the name of the task in the first row.
    fn wait_for_first(&self, name: &str) {
        let is_first = |lines: &[String]| {
            let header = lines.iter().position(|line| line.contains("    ID "));
            header.is_some_and(|n| lines[n + 1].contains(name))
        };
        self.wait(name, is_first);
    }

    fn is_restored(&self) -> bool {
        let screen = self.screen.lock().unwrap();
        let modes = tcgetattr(&self.slave).unwrap();
        !screen.is_second && screen.has_cursor && modes == self.found
    }

    /// Waits for the end, and checks that the terminal is as it was found.
    fn end(mut self) -> (ExitStatus, String) {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begin.elapsed() < LIMIT, "it does not end");
            thread::sleep(Duration::from_millis(10));
        };
        // What it has written may still be on its way to the screen.
        while !self.is_restored() {
            assert!(begin.elapsed() < LIMIT, "the terminal is not restored");
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_millis(100));
        assert!(self.is_restored());
        let screen = self.screen.lock().unwrap();
        assert!(screen.complaints.is_empty(), "{:?}", screen.complaints);
        (status, screen.plain.clone())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn keys_sort_dump_and_quit_on_a_screen_of_80_columns() {
    let folder = Folder::new("keys");
    let _program = Program::start(&folder.socket());
    let mut command = top();
    command.args(["--interval", "0.2"]).arg(folder.socket());
    let mut session = Session::start(command.current_dir(&folder.0), (24, 80));
    session.wait_for_first("often");
    let lines = session.wait("rates", |lines| lines[0].contains("% busy"));
    assert!(lines[3].contains("POLLS/S*"), "{lines:?}");
    assert!(lines[23].starts_with("p polls"), "{lines:?}");
    session.press("b");
    session.wait_for_first("long");
    session.wait("the mark", |lines| lines[3].contains("BUSY%*"));
    session.press("a");
    session.wait_for_first("main future");
    let lines = session.wait("the mark", |lines| lines[3].contains("AGE*"));
    assert!(
        lines.iter().any(|line| line.contains(r"\u{1b}[31mred")),
        "{lines:?}"
    );
    assert!(lines.iter().any(|line| line.contains("STUCK")), "{lines:?}");

    session.press("d");
    let is_dump = |lines: &[String]| lines[0].starts_with("main future: waiting, ");
    session.wait("a dump", is_dump);
    // Scrolling stays within the text, which is longer than the screen.
    session.press("\u{1b}[B");
    session.wait("the second line", |lines| {
        lines[0].contains("    waits for a timer")
    });
    session.press("k");
    session.wait("the first line", is_dump);
    session.press("x");
    session.wait("tasks", |lines| lines[3].contains("    ID "));
    for n in 1..=2 {
        session.press("w");
        let name = format!("fahrenheit-{}-{n}.dump", std::process::id());
        session.wait("a message", |lines| {
            lines[23].contains(&format!("written to {name}"))
        });
        let text = fs::read_to_string(folder.0.join(name)).unwrap();
        assert!(text.contains("\"often\""), "{text}");
    }
    session.press("?");
    session.wait("help", |lines| lines[0].starts_with("p  sorts"));
    // The first key leaves the help.
    session.press("qq");
    let (status, plain) = session.end();
    assert_eq!((status.code(), plain.as_str()), (Some(0), ""));
}

#[test]
fn the_screen_follows_the_size_of_the_terminal() {
    let folder = Folder::new("size");
    let _program = Program::start(&folder.socket());
    let mut session = Session::top(&folder.socket(), (24, 80));
    for (lines, columns) in [(40, 132), (6, 30), (24, 80)] {
        // First, as the program may be faster than this thread.
        session.screen.lock().unwrap().resize((lines, columns));
        let mut stty = Command::new("stty");
        stty.args(["rows", &lines.to_string(), "cols", &columns.to_string()]);
        stty.stdin(Stdio::from(session.slave.try_clone().unwrap()));
        assert!(stty.status().unwrap().success());
        let foot = &"p polls  b busy  a age"[..20];
        session.wait("another size", |shown| {
            shown[lines - 1].starts_with(foot) && shown[3].contains("    ID ")
        });
        // What was drawn for the old size may have been outside of the new one.
        session.screen.lock().unwrap().complaints.clear();
    }
    session.press("q");
    assert!(session.end().0.success());
}

#[test]
fn small_terminals_show_what_they_have_room_for() {
    let folder = Folder::new("small");
    let _program = Program::start(&folder.socket());
    for (lines, columns) in [(5, 20), (2, 10), (1, 1)] {
        let mut command = top();
        let mut session = Session::start(command.arg(folder.socket()), (lines, columns));
        session.wait("anything", |lines| {
            lines.iter().any(|line| !line.trim().is_empty())
        });
        session.press("jjdxq");
        assert!(session.end().0.success());
    }
}

/// Whether this process, and so what it starts, ignores a signal. Elsewhere than on Linux, assumes
/// that it does not.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.map_or(0, |bits| u64::from_str_radix(bits.trim(), 16).unwrap());
    ignored & 1 << (signal as i32 - 1) != 0
}

#[test]
fn signals_and_the_end_of_the_program_leave_the_terminal_as_it_was() {
    let folder = Folder::new("ends");
    let mut program = Program::start(&folder.socket());
    // Ctrl-C is a way to quit.
    let mut session = Session::top(&folder.socket(), (24, 80));
    assert!(!session.is_restored());
    session.press("\u{3}");
    assert_eq!(session.end().0.code(), Some(0));
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let session = Session::top(&folder.socket(), (24, 80));
        kill(session.pid(), signal).unwrap();
        // Under nohup(1), which has SIGHUP ignored, it ends all the same, but not by the signal.
        let wanted = (!is_ignored(signal)).then_some(signal as i32);
        assert_eq!(session.end().0.signal(), wanted);
    }
    let session = Session::top(&folder.socket(), (24, 80));
    program.end();
    let (status, plain) = session.end();
    assert_eq!(status.code(), Some(1));
    assert!(
        plain.contains("the program has closed the connection"),
        "{plain}"
    );
    // And there is nothing to connect to any more.
    let output = top().arg(folder.socket()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("fahrenheit-top: cannot connect to "),
        "{text}"
    );
}

#[test]
fn ctrl_z_stops_it_with_the_terminal_as_it_was() {
    let folder = Folder::new("stop");
    let _program = Program::start(&folder.socket());
    let mut session = Session::top(&folder.socket(), (24, 80));
    for _ in 0..2 {
        session.press("\u{1a}");
        let stopped = waitpid(session.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert_eq!(stopped, WaitStatus::Stopped(session.pid(), Signal::SIGSTOP));
        let begin = Instant::now();
        while !session.is_restored() {
            assert!(begin.elapsed() < LIMIT, "the terminal is not restored");
            thread::sleep(Duration::from_millis(10));
        }
        kill(session.pid(), Signal::SIGCONT).unwrap();
        while session.is_restored() {
            assert!(begin.elapsed() < LIMIT, "it does not go on");
            thread::sleep(Duration::from_millis(10));
        }
        session.wait("the tasks", |lines| lines[3].contains("    ID "));
    }
    session.press("q");
    assert!(session.end().0.success());
}

#[test]
fn a_panic_is_reported_on_a_terminal_as_it_was() {
    if std::env::var_os(PANIC).is_some() {
        let _terminal = terminal::Terminal::enter().unwrap();
        panic!("of the test");
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = "a_panic_is_reported_on_a_terminal_as_it_was";
    command.args(["--exact", name, "--nocapture", "--color", "never"]);
    let session = Session::start(command.env(PANIC, "1"), (24, 80));
    let (status, plain) = session.end();
    assert_eq!(status.code(), Some(101), "{plain}");
    assert!(plain.contains("of the test"), "{plain}");
}

/// Accepts one connection and sends an answer to each request.
fn fake(path: &Path, answer: &'static str) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut requests = BufReader::new(stream.try_clone().unwrap()).lines();
        while let Some(Ok(_)) = requests.next() {
            let _ = (&stream).write_all(answer.as_bytes());
        }
    });
}

#[test]
fn a_hostile_program_cannot_disturb_the_terminal() {
    let folder = Folder::new("hostile");
    let answer = "fahrenheit\tprotocol=1\tpid=7\tprogram=\u{1b}]0;x\u{7}\n\
        task\tid=1\tstate=waiting\tname=\u{1b}[31mred\u{9b}1m\u{202e}\u{301}\n\
        wait\ttask=1\tfor=\u{1b}[2J\nwait\ttask=1\tfor=descriptor\tfd=\r\twhat=\u{8}\n\
        loop\tpolls=18446744073709551615\nend\n";
    fake(&folder.socket(), answer);
    let mut session = Session::top(&folder.socket(), (24, 80));
    session.wait("the name", |lines| {
        lines.iter().any(|line| line.contains("?[31mred?1m??"))
    });
    session.press("q");
    assert!(session.end().0.success());
}

#[test]
fn a_program_that_says_nothing_is_reported_and_left() {
    let folder = Folder::new("silent");
    fake(&folder.socket(), "");
    let mut session = Session::start(top().arg(folder.socket()), (24, 80));
    session.wait("a report", |lines| lines[23].starts_with("no answer for "));
    session.press("q");
    assert!(session.end().0.success());
}

#[test]
fn without_a_terminal_and_with_once_the_tasks_are_printed() {
    let folder = Folder::new("once");
    let _program = Program::start(&folder.socket());
    let mut command = top();
    command
        .args(["--interval", "0.3", "--sort", "busy"])
        .arg(folder.socket());
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains('\u{1b}'), "{text}");
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[3].contains("BUSY%*"), "{text}");
    assert!(lines[4].contains("long"), "{text}");
    assert!(text.contains("main future"), "{text}");

    let mut command = top();
    command
        .args(["--once", "--interval", "0.1"])
        .arg(folder.socket());
    let session = Session::start(&mut command, (24, 80));
    let (status, plain) = session.end();
    assert!(status.success(), "{plain}");
    assert!(
        plain.contains("main future") && plain.contains("POLLS/S*"),
        "{plain}"
    );
}

#[test]
fn wrong_arguments_are_an_error_of_their_own() {
    for args in [&[][..], &["--sort", "name", "a"], &["a", "b"]] {
        let output = top().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty());
    }
    let help = top().arg("--help").output().unwrap();
    assert!(
        help.status.success() && help.stdout.starts_with(b"Usage: "),
        "{help:?}"
    );
}

/// The example, ended with the test.
struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_echo_server_under_load_shows_its_connections() {
    let folder = Folder::new("echo");
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    let mut command = Command::new(path.join("observed"));
    command.arg("127.0.0.1:0").arg(folder.socket());
    let mut server = Example(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    let stdout = server.0.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let addr = line.trim().strip_prefix("observed: listening on ").unwrap();
    let mut busy = TcpStream::connect(addr).unwrap();
    let _idle = TcpStream::connect(addr).unwrap();
    let name = format!("echo {}", busy.local_addr().unwrap());
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let load = thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            busy.write_all(b"hello").unwrap();
            busy.read_exact(&mut [0; 5]).unwrap();
        }
    });
    let mut session = Session::top(&folder.socket(), (24, 80));
    session.wait_for_first(&name[..16 - 1]);
    let waits = |lines: &[String]| {
        lines
            .iter()
            .any(|line| line.contains("read tcp 127.0.0.1:"))
    };
    session.wait("what tasks wait for", waits);
    session.press("q");
    assert!(session.end().0.success());
    is_over.store(true, Ordering::Relaxed);
    load.join().unwrap();
}
