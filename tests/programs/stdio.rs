//! The standard streams of a process of its own: on a terminal, a pipe, a socket, a file and
//! /dev/null. They belong to the whole process, so each test starts one: the example
//! `stdin_lines`, which numbers lines, or itself.

use crate::util::{Killed, LIMIT, again, example_path, go, poll_once, watchdog};
use fahrenheit::io::{stderr, stdin, stdout};
use fahrenheit::prelude::*;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, fchmod};
use nix::sys::termios::tcgetattr;
use nix::unistd::Uid;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::task::Poll;
use std::time::Duration;

/// Numbers the lines from `stdin`, on `stdout`. The descriptors are given away.
fn number(stdin: impl Into<OwnedFd>, stdout: impl Into<OwnedFd>) -> Killed {
    let mut command = Command::new(example_path("stdin_lines"));
    command.stdin(stdin.into()).stdout(stdout.into());
    Killed(command.spawn().unwrap())
}

/// The flags of the open file, which other processes that share it see as well.
fn flags(fd: impl AsFd) -> OFlag {
    OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL).unwrap())
}

/// A pipe that blocks, as shells make them; close-on-exec, so that no other child keeps it open.
fn pipe() -> (File, File) {
    let (read, write) = fahrenheit::io::pipe().unwrap();
    let (read, write) = (read.into_blocking_fd(), write.into_blocking_fd());
    (read.unwrap().into(), write.unwrap().into())
}

fn pty() -> (File, OwnedFd) {
    let ends = nix::pty::openpty(None, None).unwrap();
    for end in [&ends.master, &ends.slave] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    }
    (ends.master.into(), ends.slave)
}

/// The state of a terminal that a shell would find afterwards. Not the whole `Termios`: musl leaves
/// the speeds, and the characters beyond Linux's 17, as it found them.
fn state(terminal: &OwnedFd) -> impl PartialEq + Debug + use<> {
    let termios = tcgetattr(terminal).unwrap();
    let ways = (termios.input_flags, termios.output_flags);
    let kinds = (termios.control_flags, termios.local_flags);
    let keys = termios.control_chars[..17].to_vec();
    (flags(terminal), ways, kinds, keys)
}

/// Reads until `wanted` has come.
#[track_caller]
fn expect(screen: &mut File, wanted: &str) {
    let mut bytes = vec![0; wanted.len()];
    screen.read_exact(&mut bytes).unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), wanted);
}

#[test]
fn on_a_terminal_lines_come_one_by_one_and_its_flags_stay() {
    let _dog = watchdog();
    let (mut keyboard, terminal) = pty();
    let before = state(&terminal);
    let copy = || terminal.try_clone().unwrap();
    let mut child = number(copy(), copy());
    for (line, echoed) in [
        ("one\n", "one\r\n1: one\r\n"),
        ("two\n", "two\r\n2: two\r\n"),
    ] {
        keyboard.write_all(line.as_bytes()).unwrap();
        expect(&mut keyboard, echoed);
        assert_eq!(state(&terminal), before, "while it runs");
    }
    // Control-D.
    keyboard.write_all(&[4]).unwrap();
    assert!(child.0.wait().unwrap().success());
    assert_eq!(state(&terminal), before, "after its end");
}

#[test]
fn a_killed_process_leaves_the_terminal_as_it_was() {
    let _dog = watchdog();
    let (mut keyboard, terminal) = pty();
    let before = state(&terminal);
    let copy = || terminal.try_clone().unwrap();
    let mut child = number(copy(), copy());
    keyboard.write_all(b"one\n").unwrap();
    expect(&mut keyboard, "one\r\n1: one\r\n");
    child.0.kill().unwrap();
    assert!(!child.0.wait().unwrap().success());
    assert_eq!(state(&terminal), before);
}

#[test]
fn a_terminal_that_goes_away_is_the_end_of_input() {
    let _dog = watchdog();
    let (mut keyboard, terminal) = pty();
    let (mut numbered, out) = pipe();
    let mut child = number(terminal, out);
    keyboard.write_all(b"one\n").unwrap();
    expect(&mut numbered, "1: one\n");
    drop(keyboard);
    assert!(child.0.wait().unwrap().success());
}

#[test]
fn two_mib_of_lines_reach_a_slow_reader_whole_and_in_order() {
    let _dog = watchdog();
    let (stdin, mut write) = pipe();
    let (mut read, stdout) = pipe();
    let (stdin, stdout) = (OwnedFd::from(stdin), OwnedFd::from(stdout));
    let before = (flags(&stdin), flags(&stdout));
    let mut child = number(stdin.try_clone().unwrap(), stdout.try_clone().unwrap());
    let text: Vec<String> = (0..40_000).map(|i| format!("{:x<50}{i}", "")).collect();
    let sent = text.join("\n");
    let writer = std::thread::spawn(move || write.write_all(sent.as_bytes()).unwrap());
    let mut received = Vec::new();
    let mut bytes = [0; 3_000];
    // As long as we have a copy of its stdout, we do not see its end.
    let mut left: usize = (1..)
        .zip(&text)
        .map(|(n, l)| format!("{n}: {l}\n").len())
        .sum();
    left -= 1;
    while left > 0 {
        std::thread::sleep(std::time::Duration::from_micros(200));
        let n = read.read(&mut bytes).unwrap();
        received.extend_from_slice(&bytes[..n]);
        left -= n;
        if left % 50 == 0 {
            assert_eq!((flags(&stdin), flags(&stdout)), before);
        }
    }
    writer.join().unwrap();
    assert!(child.0.wait().unwrap().success());
    assert_eq!((flags(&stdin), flags(&stdout)), before);
    let received = String::from_utf8(received).unwrap();
    for ((n, line), received) in (1..).zip(&text).zip(received.split('\n')) {
        assert_eq!(received, format!("{n}: {line}"));
    }
}

#[test]
fn a_pipe_that_another_process_made_non_blocking_is_waited_for_and_stays_so() {
    let _dog = watchdog();
    let (stdin, mut write) = pipe();
    let (mut read, stdout) = pipe();
    let stdin = OwnedFd::from(stdin);
    fcntl(&stdin, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut child = number(stdin.try_clone().unwrap(), stdout);
    for n in 1..=10 {
        // The answer shows that the line was read, so the next one finds the child waiting.
        write.write_all(b"x\n").unwrap();
        expect(&mut read, &format!("{n}: x\n"));
    }
    drop(write);
    assert!(child.0.wait().unwrap().success());
    assert!(flags(&stdin).contains(OFlag::O_NONBLOCK));
}

#[test]
fn a_socket_is_read_and_written_as_inetd_gives_it() {
    let _dog = watchdog();
    let (mut near, far) = UnixStream::pair().unwrap();
    let far = OwnedFd::from(far);
    let before = flags(&far);
    let mut child = number(far.try_clone().unwrap(), far.try_clone().unwrap());
    let sent = "a line of text\n".repeat(50_000);
    let mut theirs = near.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        theirs.write_all(sent.as_bytes()).unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let lines = (1..=50_000).map(|n| format!("{n}: a line of text\n"));
    let wanted: String = lines.collect();
    let mut received = vec![0; wanted.len()];
    near.read_exact(&mut received).unwrap();
    assert!(received == wanted.as_bytes());
    writer.join().unwrap();
    assert!(child.0.wait().unwrap().success());
    assert_eq!(flags(&far), before);
}

/// What `sh` prints when it runs `script`, in which `$1` is the example and `$2` a file of lines.
fn shell(name: &str, script: &str) -> (String, String) {
    let _dog = watchdog();
    let path =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::write(&path, "first\nsecond\nlast without newline").unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh"])
        .arg(example_path("stdin_lines"))
        .arg(&path);
    let output = command.stdin(Stdio::null()).output().unwrap();
    std::fs::remove_file(&path).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

const NUMBERED: &str = "1: first\n2: second\n3: last without newline";

#[test]
fn a_file_is_read_to_its_end_and_written() {
    let script = r#"echo before >"$2.out"; "$1" <"$2" >>"$2.out"; cat "$2.out"; rm "$2.out""#;
    assert_eq!(
        shell("file", script),
        (format!("before\n{NUMBERED}"), String::new())
    );
}

#[test]
fn dev_null_is_empty_and_takes_everything() {
    let script = r#""$1" </dev/null && "$1" <"$2" >/dev/null && echo good"#;
    assert_eq!(shell("null", script), ("good\n".to_owned(), String::new()));
}

#[test]
fn cat_example_head_1_gives_one_line_and_ends_without_a_complaint() {
    let script = r#"cat "$2" | { "$1"; echo "code $?" >&2; } | head -n 1"#;
    let (out, errors) = shell("head", script);
    assert_eq!((out.as_str(), errors.as_str()), ("1: first\n", "code 0\n"));
    // Input without end: it ends because its output is not read any more.
    let (out, errors) = shell("yes", r#"yes | { "$1"; echo "code $?" >&2; } | head -n 1"#);
    assert_eq!((out.as_str(), errors.as_str()), ("1: y\n", "code 0\n"));
}

#[test]
#[cfg(target_os = "linux")]
fn waiting_for_input_takes_no_thread() {
    let _dog = watchdog();
    let (stdin, mut write) = pipe();
    let (mut read, stdout) = pipe();
    let mut child = number(stdin, stdout);
    write.write_all(b"x\n").unwrap();
    expect(&mut read, "1: x\n");
    let tasks = format!("/proc/{}/task", child.0.id());
    assert_eq!(std::fs::read_dir(tasks).unwrap().count(), 1);
    drop(write);
    assert!(child.0.wait().unwrap().success());
}

#[test]
fn what_was_read_ahead_goes_to_the_next_stdin_and_there_is_one_at_a_time() {
    let name = test_name!();
    let body = || {
        go(async {
            let mut first = stdin().unwrap();
            assert_eq!(stdin().unwrap_err().kind(), io::ErrorKind::ResourceBusy);
            let mut line = String::new();
            first.read_line(&mut line).await.unwrap();
            assert_eq!(line, "one\n");
            drop(first);
            // Bytes that lie in the buffer come before those of the pipe, and no more than asked.
            let mut second = stdin().unwrap();
            let mut bytes = [0; 6];
            second.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"two\nth");
            drop(second);
            // Also on another thread.
            let rest = std::thread::spawn(|| {
                fahrenheit::run(async {
                    let mut rest = String::new();
                    stdin().unwrap().read_to_string(&mut rest).await.unwrap();
                    rest
                })
            });
            assert_eq!(rest.join().unwrap(), "ree\n");
        });
    };
    if crate::util::is_alone(name) {
        crate::util::alone(name, body);
        return;
    }
    let (stdin, mut write) = pipe();
    write.write_all(b"one\ntwo\nthree\n").unwrap();
    drop(write);
    let mut command = again(name);
    command.stdin(OwnedFd::from(stdin));
    crate::util::finish(name, command);
}

#[test]
fn reading_lines_takes_at_most_8_kib_ahead_and_reading_bytes_nothing() {
    let name = test_name!();
    const N_SENT: usize = 30_000;
    if crate::util::is_alone(name) {
        crate::util::alone(name, || {
            go(async {
                let mut input = stdin().unwrap();
                input.read_exact(&mut [0; 10]).await.unwrap();
                let mut line = String::new();
                input.read_line(&mut line).await.unwrap();
                assert_eq!(line, "end\n");
                // What is left in the pipe, past the buffer.
                let mut rest = Vec::new();
                let mut pipe = File::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
                pipe.read_to_end(&mut rest).unwrap();
                assert_eq!(rest.len(), N_SENT - 10 - 8 * 1024);
            });
        });
        return;
    }
    let (stdin, mut write) = pipe();
    let mut text = b"0123456789end\n".to_vec();
    text.resize(N_SENT, b'x');
    write.write_all(&text).unwrap();
    drop(write);
    let mut command = again(name);
    command.stdin(OwnedFd::from(stdin));
    crate::util::finish(name, command);
}

/// What the process below writes: more than a terminal, a pipe or a socket holds, and no newline.
fn long_text() -> Vec<u8> {
    let words = (0..50_000_u32).map(|i| format!("{i:06}."));
    words.collect::<String>().into_bytes()
}

/// Gives up the right to reopen the standard output, as `su` does when it starts a program.
fn become_another_user() {
    if Uid::effective().is_root() {
        nix::unistd::setuid(Uid::from_raw(65_534)).unwrap();
    }
    if cfg!(target_os = "linux") {
        let reopened = File::options().write(true).open("/proc/self/fd/1");
        assert!(reopened.is_err(), "this can still be reopened");
    }
}

/// The most that fits into a page of a pipe without filling it.
const PAGE_LESS_ONE_BYTE: usize = 4_095;

/// Writes to a standard output that is not read until "ticked" appears on the standard error.
async fn write_to_a_full_stdout(piece: usize) {
    let mut out = stdout().unwrap();
    let slices = [IoSlice::new(&[]), IoSlice::new(b"<")];
    assert_eq!(out.write_vectored(&slices).await.unwrap(), 1);
    let writer = fahrenheit::spawn(async move {
        for piece in long_text().chunks(piece) {
            out.write_all(piece).await.unwrap();
        }
        out.write_all(b">").await.unwrap();
    });
    for _ in 0..100 {
        fahrenheit::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!writer.is_finished());
    // What has nothing to write does not wait for room, and what has nothing to read not for input.
    let mut full = stdout().unwrap();
    assert!(matches!(poll_once(&mut full.write(&[7])), Poll::Pending));
    assert!(matches!(
        poll_once(&mut full.write(&[])),
        Poll::Ready(Ok(0))
    ));
    assert!(matches!(poll_once(&mut full.flush()), Poll::Ready(Ok(()))));
    assert!(matches!(poll_once(&mut full.close()), Poll::Ready(Ok(()))));
    let mut silent = stdin().unwrap();
    assert!(matches!(
        poll_once(&mut silent.read(&mut [0])),
        Poll::Pending
    ));
    assert!(matches!(
        poll_once(&mut silent.read(&mut [])),
        Poll::Ready(Ok(0))
    ));
    stderr().unwrap().write_all(b"ticked").await.unwrap();
    writer.await.unwrap();
}

/// Runs test `name` again with `stdout`, and reads what it wrote from `screen` once its timers have
/// shown that its loop goes on although its output is stuck.
fn check_that_stuck_output_leaves_timers_alone(name: &str, stdout: OwnedFd, mut screen: File) {
    let (silent, _peer) = UnixStream::pair().unwrap();
    let (mut report, stderr) = pipe();
    let mut command = again(name);
    command
        .stdin(OwnedFd::from(silent))
        .stdout(stdout)
        .stderr(stderr);
    let mut child = Killed(command.spawn().unwrap());
    // It keeps the descriptors of the child, and their end would not be seen.
    drop(command);
    let limit = PollTimeout::try_from(LIMIT / 2).unwrap();
    let mut said = [PollFd::new(report.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut said, limit).unwrap(), 1, "the loop stands still");
    let mut word = [0; 6];
    report.read_exact(&mut word).unwrap();
    let mut written = Vec::new();
    let mut bytes = [0; 4_096];
    // EIO is how a terminal ends.
    while let Ok(n @ 1..) = screen.read(&mut bytes) {
        written.extend_from_slice(&bytes[..n]);
    }
    let mut errors = String::from_utf8_lossy(&word).into_owned();
    report.read_to_string(&mut errors).unwrap();
    assert!(child.0.wait().unwrap().success(), "{errors}");
    assert_eq!(errors, "ticked");
    // The test harness of the child prints before and after.
    let begin = written.iter().position(|&byte| byte == b'<').unwrap();
    let end = written.iter().position(|&byte| byte == b'>').unwrap();
    assert!(written[begin + 1..end] == long_text());
}

#[test]
fn output_to_a_terminal_of_another_user_does_not_stop_the_loop() {
    let name = test_name!();
    if crate::util::is_alone(name) {
        become_another_user();
        // A terminal counts each write in units of 256 bytes: those of a page would fill its 64 KiB
        // exactly, and none would ever meet too little room.
        return go(write_to_a_full_stdout(3_001));
    }
    let _dog = watchdog();
    let (screen, terminal) = pty();
    fchmod(&terminal, Mode::empty()).unwrap();
    check_that_stuck_output_leaves_timers_alone(name, terminal, screen);
}

#[test]
fn output_to_a_pipe_of_another_user_does_not_stop_the_loop() {
    let name = test_name!();
    if crate::util::is_alone(name) {
        become_another_user();
        return go(write_to_a_full_stdout(PAGE_LESS_ONE_BYTE));
    }
    let _dog = watchdog();
    let (read, write) = pipe();
    fchmod(&write, Mode::empty()).unwrap();
    check_that_stuck_output_leaves_timers_alone(name, write.into(), read);
}

#[test]
fn output_to_an_inherited_socket_does_not_stop_the_loop() {
    let name = test_name!();
    if crate::util::is_alone(name) {
        return go(write_to_a_full_stdout(PAGE_LESS_ONE_BYTE));
    }
    let _dog = watchdog();
    let (near, far) = UnixStream::pair().unwrap();
    let near = File::from(OwnedFd::from(near));
    check_that_stuck_output_leaves_timers_alone(name, far.into(), near);
}

#[test]
fn closed_standard_streams_are_ebadf_and_their_numbers_stay_free() {
    let name = test_name!();
    crate::util::alone(name, || {
        let (mut read, write) = pipe();
        let copy = |stream: &dyn AsFd| stream.as_fd().try_clone_to_owned().unwrap();
        let saved = [copy(&io::stdin()), copy(&io::stdout()), copy(&io::stderr())];
        // No assertion until they are open again: its message would be lost.
        let (errors, is_free, written) = go(async {
            for fd in 0..3 {
                nix::unistd::close(fd).unwrap();
            }
            let errors = [
                stdin().map(drop).map_err(|e| e.raw_os_error()),
                stdout().map(drop).map_err(|e| e.raw_os_error()),
                stderr().map(drop).map_err(|e| e.raw_os_error()),
            ];
            nix::unistd::dup2_stdout(&write).unwrap();
            // A pipe is reopened, and `open` returns the lowest number that is free.
            let mut out = stdout().unwrap();
            let is_free = nix::unistd::close(0).is_err() && nix::unistd::close(2).is_err();
            (
                errors,
                is_free,
                out.write(b"out").await.map_err(|e| e.to_string()),
            )
        });
        nix::unistd::dup2_stdin(&saved[0]).unwrap();
        nix::unistd::dup2_stdout(&saved[1]).unwrap();
        nix::unistd::dup2_stderr(&saved[2]).unwrap();
        assert_eq!(errors, [Err(Some(nix::errno::Errno::EBADF as i32)); 3]);
        assert!(
            is_free,
            "one of our descriptors has become a standard stream"
        );
        assert_eq!(written, Ok(3));
        let mut bytes = [0; 3];
        read.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"out");
    });
}
