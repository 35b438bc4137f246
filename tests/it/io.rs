//! Pipes, FIFOs and copying both ways.

use crate::util::{tcp_pair, within};
use fahrenheit::io::{PipeReader, PipeWriter, copy_bidirectional, pipe};
use fahrenheit::prelude::*;
use fahrenheit::{AsyncFd, run, spawn};
use futures_util::future::join;
use futures_util::io::{AllowStdIo, BufWriter, Cursor};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::pin::{Pin, pin};
use std::process::{Command, Stdio};
use std::task::{Context, Poll};

/// `n` bytes in which no stretch repeats soon.
fn noise(n: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = vec![0; n];
    for word in bytes.chunks_mut(8) {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        word.copy_from_slice(&state.to_be_bytes()[..word.len()]);
    }
    bytes
}

/// Everything until the end. Not by `read_to_end`, which writes zeroes into all the room that it
/// has each time it waits: under an emulator that takes a minute.
async fn all<R: AsyncRead + Unpin>(reader: &mut R) -> Vec<u8> {
    let (mut all, mut bytes) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let n = reader.read(&mut bytes).await.unwrap();
        if n == 0 {
            return all;
        }
        all.extend_from_slice(&bytes[..n]);
    }
}

#[test]
fn a_pipe_carries_8_mib_in_order_and_ends_with_its_writer() {
    let sent = noise(8 << 20);
    let received = within(60, || {
        run(async {
            let (mut reader, mut writer) = pipe().unwrap();
            let write = async {
                writer.write_all(&sent).await.unwrap();
                drop(writer);
            };
            join(write, all(&mut reader)).await.1
        })
    });
    assert!(sent == received);
}

#[test]
fn a_reader_that_came_first_is_woken_by_each_write() {
    within(20, || {
        run(async {
            let (mut there, mut near) = pipe().unwrap();
            let (mut back, mut far) = pipe().unwrap();
            drop(spawn(async move {
                let mut byte = [0];
                while there.read(&mut byte).await.unwrap() == 1 {
                    far.write_all(&byte).await.unwrap();
                }
            }));
            for round in 0..1_000_u32 {
                near.write_all(&[round as u8]).await.unwrap();
                let mut byte = [0];
                back.read_exact(&mut byte).await.unwrap();
                assert_eq!(byte[0], round as u8);
            }
        });
    });
}

#[test]
fn writing_to_a_pipe_without_reader_is_broken_pipe_also_for_a_task_that_waits() {
    within(20, || {
        run(async {
            let (reader, mut writer) = pipe().unwrap();
            let full = async {
                loop {
                    if let Err(error) = writer.write_all(&[0; 4096]).await {
                        return error;
                    }
                }
            };
            let leave = async {
                // By then the pipe is full, and its writer waits.
                fahrenheit::time::sleep(std::time::Duration::from_millis(20)).await;
                drop(reader);
            };
            let (error, ()) = join(full, leave).await;
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            let again = writer.write(&[0]).await.unwrap_err();
            assert_eq!(again.kind(), ErrorKind::BrokenPipe);
        });
    });
}

#[test]
fn slices_go_through_a_pipe_in_one_call() {
    within(20, || {
        run(async {
            let (reader, writer) = pipe().unwrap();
            let slices = [b"one ".as_slice(), b"", b"two ", b"three"].map(IoSlice::new);
            assert_eq!((&writer).write_vectored(&slices).await.unwrap(), 13);
            let (mut head, mut tail) = ([0; 4], [0; 20]);
            let mut into = [&mut head[..], &mut tail[..]].map(io::IoSliceMut::new);
            assert_eq!((&reader).read_vectored(&mut into).await.unwrap(), 13);
            assert_eq!((&head, &tail[..9]), (b"one ", b"two three".as_slice()));
        });
    });
}

fn is_nonblocking(fd: impl AsFd) -> bool {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = fcntl(fd.as_fd(), FcntlArg::F_GETFL).unwrap();
    OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK)
}

#[test]
fn a_child_gets_blocking_ends_and_talks_through_them() {
    within(60, || {
        run(async {
            let (theirs, mut ours) = pipe().unwrap();
            let (mut back, there) = pipe().unwrap();
            assert!(is_nonblocking(&theirs) && is_nonblocking(&ours));
            let theirs = theirs.into_blocking_fd().unwrap();
            let there = there.into_blocking_fd().unwrap();
            assert!(!is_nonblocking(&theirs) && !is_nonblocking(&there));
            let mut command = Command::new("cat");
            let mut child = command
                .stdin(Stdio::from(theirs))
                .stdout(Stdio::from(there))
                .spawn()
                .unwrap();
            // It has copies of our ends of the child's pipes.
            drop(command);
            let sent = noise(300_000);
            let write = async {
                ours.write_all(&sent).await.unwrap();
                drop(ours);
            };
            let mut received = Vec::new();
            let ((), n) = join(write, back.read_to_end(&mut received)).await;
            n.unwrap();
            assert!(received == sent);
            assert!(child.wait().unwrap().success());
        });
    });
}

/// A path that goes with the value.
struct Fifo(std::path::PathBuf);

impl Drop for Fifo {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_fifo_is_waited_for_through_async_fd() {
    let name = format!("fifo-{}", std::process::id());
    let fifo = Fifo(std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
    nix::unistd::mkfifo(&fifo.0, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let text = within(20, || {
        run(async {
            let nonblocking = nix::libc::O_NONBLOCK;
            let mut options = OpenOptions::new();
            let read = options.read(true).custom_flags(nonblocking).open(&fifo.0);
            let mut read = AsyncFd::new(read.unwrap()).unwrap();
            let write = File::options().write(true).open(&fifo.0).unwrap();
            let writer = std::thread::spawn(move || {
                for word in ["these ", "come ", "late"] {
                    (&write).write_all(word.as_bytes()).unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
            });
            let mut text = String::new();
            read.read_to_string(&mut text).await.unwrap();
            writer.join().unwrap();
            text
        })
    });
    assert_eq!(text, "these come late");
}

/// Reads from one pipe and writes to another.
struct Duplex(PipeReader, Option<PipeWriter>);

impl Duplex {
    fn pair() -> (Duplex, Duplex) {
        let (there, back) = (pipe().unwrap(), pipe().unwrap());
        let near = Duplex(back.0, Some(there.1));
        (near, Duplex(there.0, Some(back.1)))
    }
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, bytes)
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.1.as_mut().unwrap()).poll_write(cx, bytes)
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.1 = None;
        Poll::Ready(Ok(()))
    }
}

#[test]
fn copy_bidirectional_moves_4_mib_both_ways_at_once_between_kinds() {
    let (asked, answered) = (noise(4 << 20), noise((4 << 20) + 1));
    within(60, || {
        run(async {
            let (near, mut middle) = tcp_pair();
            let (mut there, mut far) = Duplex::pair();
            let copy = spawn(async move { copy_bidirectional(&mut middle, &mut there).await });
            // Each side writes all and reads all at the same time.
            let mut got_near = vec![0; answered.len()];
            let client = async {
                let write = async { (&near).write_all(&asked).await.unwrap() };
                let read = async { (&near).read_exact(&mut got_near).await.unwrap() };
                join(write, read).await;
                (&near).close().await.unwrap();
            };
            let server = async {
                let mut writer = far.1.take().unwrap();
                let write = async {
                    writer.write_all(&answered).await.unwrap();
                    drop(writer);
                };
                join(write, all(&mut far.0)).await.1
            };
            let ((), got_far) = join(client, server).await;
            let counts = copy.await.unwrap().unwrap();
            assert_eq!(counts, (asked.len() as u64, answered.len() as u64));
            assert!(got_far == asked && got_near == answered);
        });
    });
}

#[test]
fn copy_bidirectional_passes_a_half_close_on_and_lets_the_other_way_go_on() {
    within(20, || {
        run(async {
            let (mut client, mut a) = tcp_pair();
            let (mut b, mut server) = tcp_pair();
            let copy = spawn(async move { copy_bidirectional(&mut a, &mut b).await });
            client.write_all(b"question").await.unwrap();
            client.close().await.unwrap();
            let mut text = String::new();
            // Ends only because the close came through.
            server.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "question");
            server.write_all(b"the answer").await.unwrap();
            drop(server);
            text.clear();
            client.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "the answer");
            assert_eq!(copy.await.unwrap().unwrap(), (8, 10));
        });
    });
}

#[test]
fn copy_bidirectional_flushes_what_lies_in_a_buffer_when_nothing_more_comes() {
    within(20, || {
        run(async {
            let (mut client, mut a) = tcp_pair();
            let (b, mut server) = tcp_pair();
            let mut b = BufWriter::new(b);
            drop(spawn(async move {
                let _ = copy_bidirectional(&mut a, &mut b).await;
            }));
            client.write_all(b"short").await.unwrap();
            let mut bytes = [0; 5];
            // Neither end is closed: it comes only if it was flushed.
            server.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"short");
        });
    });
}

#[test]
fn copy_bidirectional_returns_the_first_error_of_either_way() {
    within(20, || {
        run(async {
            let (near, mut a) = tcp_pair();
            let (there, mut b) = tcp_pair();
            near.set_linger(Some(std::time::Duration::ZERO)).unwrap();
            let copy = spawn(async move { copy_bidirectional(&mut a, &mut b).await });
            fahrenheit::yield_now().await;
            // Reset, while the other side is silent.
            drop(near);
            let error = copy.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            drop(there);
        });
    });
}

#[test]
fn copying_between_streams_that_never_wait_lets_other_tasks_run() {
    struct Endless;
    impl Read for Endless {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
    }
    impl Write for Endless {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    within(20, || {
        run(async {
            let (mut a, mut b) = (AllowStdIo::new(Endless), AllowStdIo::new(Endless));
            let copy = spawn(async move { copy_bidirectional(&mut a, &mut b).await.map(drop) });
            for _ in 0..100 {
                fahrenheit::yield_now().await;
            }
            copy.abort();
            assert!(copy.await.unwrap_err().is_cancelled());
        });
    });
}

#[test]
fn copy_bidirectional_says_write_zero_when_a_side_takes_nothing() {
    within(20, || {
        run(async {
            let mut none = [0; 0];
            let (mut a, mut b) = (Cursor::new(b"abc".to_vec()), Cursor::new(&mut none[..]));
            // A cursor over a vector reads what is behind its place, and would write there.
            let copy = pin!(copy_bidirectional(&mut a, &mut b));
            assert_eq!(copy.await.unwrap_err().kind(), ErrorKind::WriteZero);
        });
    });
}

/// A terminal gives one line to a read, however much more there is, and no edge tells of the rest.
#[test]
fn lines_that_came_at_once_are_read_one_by_one_also_by_a_tenured_descriptor() {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    within(20, || {
        run(async {
            let ends = nix::pty::openpty(None, None).unwrap();
            let flags = fcntl(&ends.slave, FcntlArg::F_GETFL).unwrap();
            let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
            fcntl(&ends.slave, FcntlArg::F_SETFL(flags)).unwrap();
            let mut keyboard = File::from(ends.master);
            let mut terminal = AsyncFd::new(File::from(ends.slave)).unwrap();
            let mut line = [0; 64];
            for _ in 0..20 {
                // It has to wait for the first line, and must not for the second.
                let typing = async {
                    fahrenheit::yield_now().await;
                    fahrenheit::time::sleep(std::time::Duration::from_millis(1)).await;
                    keyboard.write_all(b"one\ntwo\n").unwrap();
                };
                let (n, ()) = join(terminal.read(&mut line), typing).await;
                assert_eq!(&line[..n.unwrap()], b"one\n");
                let n = terminal.read(&mut line).await.unwrap();
                assert_eq!(&line[..n], b"two\n");
            }
        });
    });
}
