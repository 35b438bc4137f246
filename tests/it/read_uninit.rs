//! `poll_read_uninit`, on every type that is read from.

use crate::unix::Folder;
use crate::util::{tcp_pair, text, within};
use fahrenheit::prelude::*;
use fahrenheit::process::AsyncCommand;
use fahrenheit::{AsyncFd, AsyncUnixStream, Local, fs, io, run};
use std::future::poll_fn;
use std::io::Result;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Stdio;
use std::task::{Context, Poll, Waker};

/// One call of `poll_read_uninit`, which returns a copy of what it has read.
type Read<'a> = dyn FnMut(&mut Context<'_>) -> Poll<Result<Vec<u8>>> + 'a;

/// Reads from that stream into 7 bytes, and checks that it returns their beginning.
macro_rules! read {
    ($stream:expr) => {
        &mut |cx: &mut Context<'_>| {
            let mut buffer = [MaybeUninit::uninit(); 7];
            let start = buffer.as_ptr().cast();
            $stream.poll_read_uninit(cx, &mut buffer).map_ok(|filled| {
                assert_eq!(filled.as_ptr(), start);
                filled.to_vec()
            })
        }
    };
}

/// Reads to the end.
async fn read_all(read: &mut Read<'_>) -> String {
    let mut all = Vec::new();
    loop {
        let part = poll_fn(&mut *read).await.unwrap();
        if part.is_empty() {
            return String::from_utf8(all).unwrap();
        }
        assert!(part.len() <= 7);
        all.extend(part);
    }
}

const TEXT: &str = "longer than the buffer of seven bytes";

/// Writes the text to `writer` and closes it; returns what `read` finds.
async fn passed(mut writer: impl AsyncWrite + Unpin, read: &mut Read<'_>) -> String {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(read(&mut cx).is_pending(), "nothing has arrived");
    writer.write_all(TEXT.as_bytes()).await.unwrap();
    writer.close().await.unwrap();
    drop(writer);
    read_all(read).await
}

#[test]
fn connections_halves_and_pipes_read_into_uninitialised_memory() {
    within(60, || {
        run(async {
            let (a, b) = tcp_pair();
            assert_eq!(passed(a, read!(b)).await, TEXT);
            let (a, b) = AsyncUnixStream::pair().unwrap();
            assert_eq!(passed(a, read!(b)).await, TEXT);
            let (a, b) = tcp_pair();
            let (b, _kept) = b.into_split();
            assert_eq!(passed(a.into_split().1, read!(b)).await, TEXT);
            let (a, b) = AsyncUnixStream::pair().unwrap();
            let (b, _kept) = b.into_split();
            assert_eq!(passed(a.into_split().1, read!(b)).await, TEXT);
            let (b, a) = io::pipe().unwrap();
            assert_eq!(passed(a, read!(b)).await, TEXT);
            let (b, a) = io::pipe().unwrap();
            let b = AsyncFd::new(std::fs::File::from(b.into_nonblocking_fd())).unwrap();
            assert_eq!(passed(a, read!(b)).await, TEXT);
            let polled = b.poll_read_uninit(&mut Context::from_waker(Waker::noop()), &mut []);
            assert!(matches!(polled, Poll::Ready(Ok([]))));
        });
    });
}

#[test]
fn files_and_the_output_of_children_are_read_into_uninitialised_memory() {
    within(60, || {
        run(async {
            let folder = Folder::new();
            fs::write(folder.at("text"), TEXT).await.unwrap();
            let mut file = fs::File::open(folder.at("text")).await.unwrap();
            assert_eq!(read_all(read!(file)).await, TEXT);
            let mut command = AsyncCommand::new("sh");
            command.args(["-c", "cat; echo done >&2"]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
            let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
            assert_eq!(passed(input, read!(output)).await, TEXT);
            let errors = child.stderr.take().unwrap();
            assert_eq!(read_all(read!(errors)).await, "done\n");
            assert!(child.wait().await.unwrap().success());
        });
    });
}

#[test]
fn a_local_reads_into_uninitialised_memory_on_its_own_thread_only() {
    within(60, || {
        run(async {
            let (a, b) = tcp_pair();
            let b = Local::new(b);
            assert_eq!(passed(Local::new(a), read!(b)).await, TEXT);
            std::thread::scope(|scope| {
                let read = || {
                    let mut cx = Context::from_waker(Waker::noop());
                    let read = || drop(b.poll_read_uninit(&mut cx, &mut []));
                    let payload = catch_unwind(AssertUnwindSafe(read)).unwrap_err();
                    assert!(text(&*payload).contains("another thread"));
                };
                scope.spawn(read).join().unwrap();
            });
        });
    });
}

/// Copies standard input to standard output if it is run with that variable set, as the child of
/// the next test: first a line, by which the rest is read ahead, and then what that has left.
#[test]
fn copy_of_standard_input() {
    if std::env::var_os("FAHRENHEIT_TEST_COPY_INPUT").is_none() {
        return;
    }
    run(async {
        let mut stdin = io::stdin().unwrap();
        let mut line = String::new();
        stdin.read_line(&mut line).await.unwrap();
        let rest = read_all(read!(stdin)).await;
        let mut out = io::stderr().unwrap();
        out.write_all(format!("{rest}{line}").as_bytes())
            .await
            .unwrap();
    });
}

#[test]
fn standard_input_is_read_into_uninitialised_memory_also_what_was_read_ahead() {
    within(60, || {
        run(async {
            let mut command = AsyncCommand::new(std::env::current_exe().unwrap());
            let name = "read_uninit::copy_of_standard_input";
            command.args(["--exact", name, "--nocapture"]);
            command.env("FAHRENHEIT_TEST_COPY_INPUT", "1");
            command.stdin(Stdio::piped()).stdout(Stdio::null());
            let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
            let mut input = child.stdin.take().unwrap();
            input.write_all(b"first\nread ahead, ").await.unwrap();
            input.write_all(TEXT.as_bytes()).await.unwrap();
            drop(input);
            let output = child.wait_with_output().await.unwrap();
            let copied = String::from_utf8(output.stderr).unwrap();
            assert_eq!(copied, format!("read ahead, {TEXT}first\n"));
        });
    });
}
