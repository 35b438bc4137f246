//! Operations of `fs::File` take effect in their order, also if their futures were dropped, and
//! what was acknowledged is in the file. Calls are made slow by strace, so that a dropped operation
//! is still under way when the next one begins.
#![cfg(all(target_os = "linux", feature = "fs"))]

use crate::util::{Dice, alone, traced};
use fahrenheit::prelude::*;
use fahrenheit::{Builder, block_on, fs, time::sleep};
use futures_util::poll;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

/// Longer than it takes a thread of the pool to begin with a job, and less than strace delays it.
const A_WHILE: Duration = Duration::from_millis(200);

/// A path for the file of a test, where no file is yet.
fn scratch(name: &str) -> PathBuf {
    let name = format!("{name}-{}", std::process::id());
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_file(&path);
    path
}

async fn create(path: &PathBuf) -> fs::File {
    let mut options = fs::File::options();
    options.read(true).write(true).create_new(true);
    options.open(path).await.unwrap()
}

#[test]
fn a_dropped_set_len_takes_effect_before_later_writes() {
    let name = test_name!();
    let delay = ["-e", "inject=ftruncate:delay_enter=600000"];
    let log = traced(name, &delay, || {
        let path = scratch(name);
        block_on(async {
            let mut file = create(&path).await;
            file.write_all(b"0123456789").await.unwrap();
            file.flush().await.unwrap();
            {
                let mut set_len = pin!(file.set_len(0));
                assert!(poll!(set_len.as_mut()).is_pending());
                sleep(A_WHILE).await;
            }
            file.seek(SeekFrom::Start(0)).await.unwrap();
            file.write_all(b"hello").await.unwrap();
            file.flush().await.unwrap();
        });
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "hello");
        std::fs::remove_file(path).unwrap();
    });
    assert!(log.is_none_or(|log| log.contains("DELAYED")));
}

#[test]
fn a_dropped_sync_does_not_keep_the_file() {
    let name = test_name!();
    let log = traced(name, &["-e", "inject=fsync:delay_enter=600000"], || {
        let path = scratch(name);
        block_on(async {
            let mut file = create(&path).await;
            file.write_all(b"hello").await.unwrap();
            {
                let mut sync = pin!(file.sync_all());
                // Once for the write, and once for the sync.
                while poll!(sync.as_mut()).is_pending() {
                    sleep(A_WHILE).await;
                    if std::fs::read(&path).unwrap() == b"hello" {
                        assert!(poll!(sync.as_mut()).is_pending());
                        break;
                    }
                }
                sleep(A_WHILE / 4).await;
            }
            let mut file = file.into_std().await.unwrap();
            assert_eq!(file.stream_position().unwrap(), 5);
        });
        std::fs::remove_file(path).unwrap();
    });
    assert!(log.is_none_or(|log| log.contains("DELAYED")));
}

#[test]
fn the_first_read_moves_the_shared_offset_only_by_what_it_returns() {
    let path = scratch("shared_offset");
    std::fs::write(&path, vec![7; 200_000]).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let mut duplicate = file.try_clone().unwrap();
    block_on(async {
        let mut file = fs::File::from_std(file);
        let mut ten = [0; 10];
        file.read_exact(&mut ten).await.unwrap();
        assert_eq!(duplicate.stream_position().unwrap(), 10);
        file.seek(SeekFrom::Start(1_000)).await.unwrap();
        file.read_exact(&mut ten).await.unwrap();
        assert_eq!(duplicate.stream_position().unwrap(), 1_010);
        // Reading goes on, so it is read ahead from here on, and back at the end.
        file.read_exact(&mut ten).await.unwrap();
        file.read_exact(&mut ten).await.unwrap();
        assert!(duplicate.stream_position().unwrap() > 60_000);
        file.into_std().await.unwrap();
        assert_eq!(duplicate.stream_position().unwrap(), 1_030);
    });
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_file_can_be_used_again_after_a_read_without_threads() {
    let path = scratch("without_threads");
    std::fs::write(&path, vec![7; 300_000]).unwrap();
    let mut file = fs::File::from_std(std::fs::File::open(&path).unwrap());
    // With a buffer that was read ahead and is used up.
    block_on(async {
        let mut bytes = vec![0; 1_000];
        file.read_exact(&mut bytes).await.unwrap();
        file.read_exact(&mut vec![0; 64 * 1_024]).await.unwrap();
    });
    let none = Builder::new().blocking_threads(0);
    let error = none.block_on(async { file.read(&mut [0; 10]).await.unwrap_err() });
    assert_eq!(error.unwrap().kind(), ErrorKind::Unsupported);
    let some = Builder::new().blocking_threads(4);
    let rest = some.block_on(async {
        let mut rest = Vec::new();
        file.read_to_end(&mut rest).await.unwrap();
        rest.len()
    });
    assert_eq!(rest.unwrap(), 300_000 - 1_000 - 64 * 1_024);
    std::fs::remove_file(path).unwrap();
}

#[test]
#[allow(unsafe_code)]
fn a_read_that_stays_with_the_parent_of_a_fork_is_an_error_once() {
    use nix::sys::wait::{WaitStatus, waitpid};
    let name = test_name!();
    alone(name, || {
        let (read, write) = nix::unistd::pipe().unwrap();
        let mut file = fs::File::from_std(read.into());
        let mut write = std::fs::File::from(write);
        let read_five = async |file: &mut fs::File| {
            let mut bytes = [0; 5];
            file.read_exact(&mut bytes).await.map(|()| bytes)
        };
        block_on(async {
            write.write_all(b"first").unwrap();
            assert_eq!(&read_five(&mut file).await.unwrap(), b"first");
            // Nothing is left, so a thread of the pool waits in `read`.
            assert!(poll!(pin!(file.read(&mut [0; 5]))).is_pending());
            sleep(A_WHILE).await;
        });
        // SAFETY: the child uses only what this crate promises after a fork, and leaves by `_exit`.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {
                let child = async {
                    let error = read_five(&mut file).await.is_err();
                    // The next read is made, and waits, as the parent takes what comes first.
                    let waits = poll!(pin!(file.read(&mut [0; 5]))).is_pending();
                    let mut options = fs::File::options();
                    let zeros = options.read(true).open("/dev/zero").await;
                    let read = zeros.unwrap().read(&mut [1; 5]).await;
                    error && waits && read.unwrap() == 5
                };
                // A panic must not get to the test harness, whose main thread is not here.
                let is_right = catch_unwind(AssertUnwindSafe(|| block_on(child)));
                // SAFETY: ends the process.
                unsafe { nix::libc::_exit(if is_right.unwrap_or(false) { 0 } else { 1 }) }
            }
            nix::unistd::ForkResult::Parent { child } => {
                let status = waitpid(child, None).unwrap();
                assert_eq!(status, WaitStatus::Exited(child, 0));
                write.write_all(b"again").unwrap();
                assert_eq!(&block_on(read_five(&mut file)).unwrap(), b"again");
            }
        }
    });
}

/// Errors of a full disk, in the order of the operations that return them.
fn kinds_on_a_full_disk(operations: &[&str]) -> Vec<Option<ErrorKind>> {
    block_on(async {
        let mut options = fs::File::options();
        let full = options.read(true).write(true).open("/dev/full").await;
        let mut file = full.unwrap();
        file.write_all(b"lost").await.unwrap();
        let mut kinds = Vec::new();
        for operation in operations {
            let outcome = match *operation {
                "flush" => file.flush().await,
                "close" => file.close().await,
                "sync" => file.metadata().await.map(drop),
                "read" => file.read(&mut [0]).await.map(drop),
                "seek" => file.seek(SeekFrom::Start(0)).await.map(drop),
                other => unreachable!("{other}"),
            };
            kinds.push(outcome.err().map(|error| error.kind()));
        }
        kinds
    })
}

#[test]
fn a_failed_write_is_returned_by_the_next_operation_and_once_each_by_flush_and_close() {
    const FULL: Option<ErrorKind> = Some(ErrorKind::StorageFull);
    for next in ["read", "sync", "seek"] {
        let operations = [next, "flush", "close", "flush", "close", next];
        let kinds = kinds_on_a_full_disk(&operations);
        assert_eq!(kinds, [FULL, FULL, FULL, None, None, None], "{next}");
    }
    let kinds = kinds_on_a_full_disk(&["flush", "flush", "close", "flush", "close"]);
    assert_eq!(kinds, [FULL, FULL, FULL, None, None]);
    let kinds = kinds_on_a_full_disk(&["close", "close", "flush", "close", "flush"]);
    assert_eq!(kinds, [FULL, FULL, FULL, None, None]);
}

/// A file of ours, a file of std that goes through the same operations, and how much the position
/// of ours is unknown because a seek was dropped.
struct Pair {
    ours: fs::File,
    theirs: std::fs::File,
    /// The position after a dropped seek, if that has taken effect.
    maybe_at: Option<u64>,
}

impl Pair {
    /// Finds out whether a dropped seek has taken effect, and does the same to the file of std.
    async fn settle_position(&mut self) {
        let at = self.ours.stream_position().await.unwrap();
        let was = self.theirs.stream_position().unwrap();
        assert!(at == was || Some(at) == self.maybe_at, "{at} from {was}");
        self.theirs.seek(SeekFrom::Start(at)).unwrap();
        self.maybe_at = None;
    }

    /// One random operation on both files.
    async fn step(&mut self, dice: &mut Dice) {
        match dice.below(12) {
            0..=2 => {
                let bytes = dice.bytes(600);
                self.ours.write_all(&bytes).await.unwrap();
                self.theirs.write_all(&bytes).unwrap();
            }
            3 | 4 => {
                let n = dice.below(900);
                let (mut a, mut b) = (Vec::new(), Vec::new());
                let ours = (&mut self.ours).take(n);
                pin!(ours).read_to_end(&mut a).await.unwrap();
                Read::take(&self.theirs, n).read_to_end(&mut b).unwrap();
                assert!(a == b, "{} and {} bytes are read", a.len(), b.len());
            }
            5 | 6 => {
                let to = match dice.below(3) {
                    0 => SeekFrom::Start(dice.below(5_000)),
                    1 => SeekFrom::Current(dice.below(800) as i64 - 400),
                    _ => SeekFrom::End(-(dice.below(800) as i64)),
                };
                let (a, b) = (self.ours.seek(to).await, self.theirs.seek(to));
                assert_eq!(a.ok(), b.ok(), "{to:?}");
            }
            7 => {
                let len = dice.below(6_000);
                self.ours.set_len(len).await.unwrap();
                self.theirs.set_len(len).unwrap();
            }
            8 => self.ours.sync_data().await.unwrap(),
            9 => {
                // Dropped after its first poll: what was read is kept.
                let mut bytes = [0; 50];
                if let std::task::Poll::Ready(n) = poll!(self.ours.read(&mut bytes)) {
                    let mut same = vec![0; n.unwrap()];
                    self.theirs.read_exact(&mut same).unwrap();
                    assert_eq!(same, bytes[..same.len()]);
                }
            }
            10 => {
                let to = dice.below(5_000);
                match poll!(self.ours.seek(SeekFrom::Start(to))) {
                    std::task::Poll::Ready(at) => {
                        self.theirs.seek(SeekFrom::Start(at.unwrap())).unwrap();
                    }
                    std::task::Poll::Pending => self.maybe_at = Some(to),
                }
                self.settle_position().await;
            }
            _ => {
                let (was, len) = (self.theirs.metadata().unwrap().len(), dice.below(6_000));
                let is_pending = poll!(pin!(self.ours.set_len(len))).is_pending();
                let now = self.ours.metadata().await.unwrap().len();
                assert!(
                    now == len || is_pending && now == was,
                    "{was}, {len}: {now}"
                );
                self.theirs.set_len(now).unwrap();
            }
        }
    }
}

async fn open_pair(ours: &PathBuf, theirs: &PathBuf) -> Pair {
    let mut options = std::fs::File::options();
    options.read(true).write(true).create(true);
    let ours = fs::OpenOptions::from(options.clone()).open(ours).await;
    Pair {
        ours: ours.unwrap(),
        theirs: options.open(theirs).unwrap(),
        maybe_at: None,
    }
}

/// How many sequences of operations are tried. The documented count is tried by
/// `FAHRENHEIT_FILE_SEQUENCES=10000 cargo test --release --test files`.
fn n_sequences() -> u64 {
    let wanted = std::env::var("FAHRENHEIT_FILE_SEQUENCES").ok();
    wanted.map_or(300, |n| n.parse().unwrap())
}

#[test]
fn random_operations_over_two_handles_do_what_those_of_std_do() {
    let (ours, theirs) = (scratch("random-ours"), scratch("random-theirs"));
    let n_sequences = n_sequences();
    for seed in 1..=n_sequences {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        block_on(async {
            let mut pairs = [
                open_pair(&ours, &theirs).await,
                open_pair(&ours, &theirs).await,
            ];
            for pair in &mut pairs {
                pair.ours.set_len(0).await.unwrap();
                pair.theirs.set_len(0).unwrap();
            }
            for _ in 0..10 {
                let turn = dice.below(2) as usize;
                for _ in 0..1 + dice.below(4) {
                    pairs[turn].step(&mut dice).await;
                }
                // The other handle sees what was flushed, once it has forgotten what it has read
                // ahead.
                pairs[turn].ours.flush().await.unwrap();
                let other = &mut pairs[1 - turn];
                let at = other.theirs.stream_position().unwrap();
                other.ours.seek(SeekFrom::Start(at)).await.unwrap();
            }
            for pair in pairs {
                let mut file = pair.ours.into_std().await.unwrap();
                let mut theirs = pair.theirs;
                let at = theirs.stream_position().unwrap();
                assert_eq!(file.stream_position().unwrap(), at, "seed {seed}");
            }
        });
        assert!(
            std::fs::read(&ours).unwrap() == std::fs::read(&theirs).unwrap(),
            "seed {seed}"
        );
    }
    println!("{n_sequences} sequences kept to std");
    std::fs::remove_file(ours).unwrap();
    std::fs::remove_file(theirs).unwrap();
}
