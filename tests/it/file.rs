//! `fs::File` and the functions of `fs`: limits, what reaches the system, and the threads that the
//! calls are made on.

use crate::util::within;
use fahrenheit::prelude::*;
use fahrenheit::time::sleep;
use fahrenheit::{fs, run};
use futures_util::poll;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// A path in the folder for tests, which is removed when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let name = format!("file-{name}-{}", std::process::id());
        Scratch(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A file on one end of a connection, which has no position; and the other end.
fn file_without_position() -> (fs::File, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    let file = std::fs::File::from(OwnedFd::from(near));
    (fs::File::from_std(file), far)
}

/// Documented: a write is acknowledged when the bytes are queued, up to 256 KiB.
const MAX_QUEUED: usize = 256 * 1024;

/// Fills a pipe without waiting, and leaves it blocking. Returns the number of bytes.
fn fill(writer: &OwnedFd) -> usize {
    fcntl(writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut n_written = 0;
    while let Ok(n) = nix::unistd::write(writer, &[0; 4_096]) {
        n_written += n;
    }
    fcntl(writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    n_written
}

#[test]
fn a_file_over_a_pipe_that_is_not_read_queues_at_most_twice_256_kib() {
    within(60, || {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        // So that nothing of what the file takes can leave its queue.
        let n_in_pipe = fill(&writer);
        let (n_taken, n_read) = run(async {
            let mut file = fs::File::from_std(writer.into());
            let mut n_taken = 0;
            // Each pause gives the job time to take what is queued.
            for _ in 0..10 {
                while let Poll::Ready(n) = poll!(file.write(&[1; 10_000])) {
                    n_taken += n.unwrap();
                    assert!(n_taken < 64 << 20, "it takes everything");
                }
                sleep(Duration::from_millis(2)).await;
            }
            // So that the job can end, and the loop with it.
            let reading = std::thread::spawn(move || {
                let mut bytes = Vec::new();
                std::fs::File::from(reader).read_to_end(&mut bytes).unwrap();
                bytes.len()
            });
            file.close().await.unwrap();
            drop(file);
            (n_taken, reading.join().unwrap())
        });
        assert_eq!(n_in_pipe + n_taken, n_read);
        assert!(
            (MAX_QUEUED..=2 * MAX_QUEUED).contains(&n_taken),
            "{n_taken}"
        );
    });
}

#[test]
fn one_write_to_a_file_queues_at_most_256_kib() {
    within(60, || {
        let mut options = fs::File::options();
        let n = run(async {
            let mut file = options.write(true).open("/dev/null").await.unwrap();
            file.write(&vec![0; 1 << 20]).await.unwrap()
        });
        assert_eq!(n, MAX_QUEUED);
    });
}

#[test]
fn a_read_ahead_asks_for_64_to_256_kib() {
    within(60, || {
        let (mut file, far) = file_without_position();
        let n = run(async {
            // A regular file would always have enough, so it is seen at the position.
            let path = Scratch::new("ahead");
            std::fs::write(&path.0, vec![7; 1 << 20]).unwrap();
            let opened = std::fs::File::open(&path.0).unwrap();
            let same = opened.try_clone().unwrap();
            let position = || std::io::Seek::stream_position(&mut &same).unwrap();
            let mut file = fs::File::from_std(opened);
            let mut positions = Vec::new();
            file.read_exact(&mut [0]).await.unwrap();
            positions.push(position());
            file.read_exact(&mut [0]).await.unwrap();
            positions.push(position());
            let mut file = fs::File::from_std(file.into_std().await.unwrap());
            let (start, mut all) = (position(), vec![0; 1 << 19]);
            let n = file.read(&mut all).await.unwrap();
            assert_eq!((start, n), (2, MAX_QUEUED));
            positions
        });
        assert_eq!(n, [1, 1 + 64 * 1024]);
        drop(far);
        assert_eq!(run(file.read(&mut [0])).unwrap(), 0);
    });
}

#[test]
fn a_write_after_reading_ahead_goes_through_where_there_is_no_position() {
    within(20, || {
        let (mut file, mut far) = file_without_position();
        far.write_all(b"a question").unwrap();
        run(async {
            for letter in [b'a', b' '] {
                let mut byte = [0];
                file.read_exact(&mut byte).await.unwrap();
                assert_eq!(byte, [letter]);
            }
            // "question" has been read ahead by now.
            file.write_all(b"an answer").await.unwrap();
            file.close().await.unwrap();
        });
        let mut text = [0; 9];
        far.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"an answer");
    });
}

#[test]
fn create_empties_a_file_and_open_does_not() {
    within(20, || {
        let path = Scratch::new("create");
        run(async {
            std::fs::write(&path.0, "what was there before").unwrap();
            drop(fs::File::open(&path.0).await.unwrap());
            assert_eq!(std::fs::metadata(&path.0).unwrap().len(), 21);
            let mut file = fs::File::create(&path.0).await.unwrap();
            assert_eq!(std::fs::metadata(&path.0).unwrap().len(), 0);
            file.write_all(b"new").await.unwrap();
            file.close().await.unwrap();
            assert_eq!(fs::read_to_string(&path.0).await.unwrap(), "new");
        });
    });
}

/// A pipe cannot be written to a disk, and the system says so: that is how it is seen that it was
/// asked.
#[test]
#[cfg(target_os = "linux")]
fn sync_all_and_sync_data_ask_the_system() {
    within(20, || {
        let (_reader, writer) = nix::unistd::pipe().unwrap();
        let mut file = fs::File::from_std(writer.into());
        run(async {
            let errors = [file.sync_all().await, file.sync_data().await];
            for error in errors {
                let errno = error.unwrap_err().raw_os_error();
                assert_eq!(errno, Some(nix::libc::EINVAL));
            }
        });
    });
}

#[test]
fn entries_of_a_folder_do_not_follow_links_and_canonicalize_resolves_them() {
    within(20, || {
        let folder = Scratch::new("links");
        std::fs::create_dir(&folder.0).unwrap();
        let (target, link) = (folder.0.join("target"), folder.0.join("link"));
        std::fs::write(&target, "12345").unwrap();
        std::os::unix::fs::symlink("target", &link).unwrap();
        run(async {
            let mut entries = fs::read_dir(&folder.0).await.unwrap();
            while let Some(entry) = entries.next().await {
                let entry = entry.unwrap();
                let is_link = entry.file_name() == "link";
                assert_eq!(entry.metadata().await.unwrap().is_symlink(), is_link);
                assert_eq!(entry.file_type().await.unwrap().is_symlink(), is_link);
            }
            let resolved = fs::canonicalize(&link).await.unwrap();
            assert_eq!(resolved, std::fs::canonicalize(&target).unwrap());
            assert_ne!(resolved, link);
        });
    });
}

/// Opens a FIFO for writing as soon as another thread has it open for reading, and sends "open".
async fn release(fifo: &Path) {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(nix::libc::O_NONBLOCK);
    let mut writer = loop {
        match options.open(fifo) {
            Ok(writer) => break writer,
            Err(_) => sleep(Duration::from_millis(1)).await,
        }
    };
    writer.write_all(b"open").unwrap();
}

#[test]
fn the_loop_goes_on_while_opening_and_reading_a_file_wait() {
    within(20, || {
        let fifo = Scratch::new("fifo");
        nix::unistd::mkfifo(&fifo.0, nix::sys::stat::Mode::S_IRWXU).unwrap();
        run(async {
            // Neither ends before a task of this loop has opened the other end.
            let (text, ()) = futures_util::join!(fs::read_to_string(&fifo.0), release(&fifo.0));
            assert_eq!(text.unwrap(), "open");
            let (file, ()) = futures_util::join!(fs::File::open(&fifo.0), release(&fifo.0));
            let mut text = String::new();
            file.unwrap().read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "open");
            let (mut file, far) = file_without_position();
            let mut bytes = [0; 4];
            let write = async {
                fahrenheit::yield_now().await;
                (&far).write_all(b"read").unwrap();
            };
            let (read, ()) = futures_util::join!(file.read_exact(&mut bytes), write);
            read.unwrap();
            assert_eq!(&bytes, b"read");
        });
    });
}

#[test]
fn the_loop_goes_on_while_writing_to_a_file_waits() {
    within(20, || {
        let (mut file, far) = file_without_position();
        far.set_nonblocking(true).unwrap();
        run(async {
            // More than the connection has room for.
            let sent = vec![5; 2 << 20];
            let write = async {
                file.write_all(&sent).await.unwrap();
                Pin::new(&mut file).close().await.unwrap();
                drop(file);
            };
            let read = async {
                let mut far = fahrenheit::AsyncUnixStream::from_std(far).unwrap();
                let mut received = Vec::new();
                far.read_to_end(&mut received).await.unwrap();
                received
            };
            let ((), received) = futures_util::join!(write, read);
            assert!(received == sent);
        });
    });
}
