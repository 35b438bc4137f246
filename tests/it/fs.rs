//! Files and directories.

use crate::util::{Dice, round_trips_in, within};
use fahrenheit::prelude::*;
use fahrenheit::{Builder, fs, run};
use futures_util::poll;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A directory that goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static N: AtomicUsize = AtomicUsize::new(0);
        let n = N.fetch_add(1, Ordering::SeqCst);
        let name = format!("fs-{}-{n}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs `test` with a directory and a watchdog.
fn scratch<R: Send>(test: impl AsyncFnOnce(&Scratch) -> R + Send) -> R {
    within(60, || {
        let scratch = Scratch::new();
        run(test(&scratch))
    })
}

#[test]
fn a_file_is_written_read_copied_renamed_and_removed() {
    scratch(async |scratch| {
        let (a, b, c) = (scratch.path("a"), scratch.path("b"), scratch.path("c"));
        fs::write(&a, "some text").await.unwrap();
        assert_eq!(fs::read(&a).await.unwrap(), b"some text");
        assert_eq!(fs::copy(&a, &b).await.unwrap(), 9);
        fs::rename(&b, &c).await.unwrap();
        assert_eq!(fs::read_to_string(&c).await.unwrap(), "some text");
        assert_eq!(fs::metadata(&c).await.unwrap().len(), 9);
        let there = fs::canonicalize(scratch.path("./a")).await.unwrap();
        assert_eq!(there, std::fs::canonicalize(&a).unwrap());
        fs::remove_file(&a).await.unwrap();
        for gone in [&a, &b] {
            let error = fs::metadata(gone).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
        fs::write(&a, [0xff]).await.unwrap();
        let error = fs::read_to_string(&a).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        std::os::unix::fs::symlink(&c, &b).unwrap();
        assert!(fs::symlink_metadata(&b).await.unwrap().is_symlink());
        assert!(fs::metadata(&b).await.unwrap().is_file());
    });
}

#[test]
fn directories_are_made_and_removed_alone_and_with_all_that_is_in_them() {
    scratch(async |scratch| {
        let deep = scratch.path("one/two/three");
        let error = fs::create_dir(&deep).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        fs::create_dir_all(&deep).await.unwrap();
        fs::create_dir(deep.join("four")).await.unwrap();
        assert!(fs::remove_dir(&deep).await.is_err(), "it is not empty");
        fs::remove_dir(deep.join("four")).await.unwrap();
        fs::write(deep.join("file"), "").await.unwrap();
        fs::remove_dir_all(scratch.path("one")).await.unwrap();
        assert!(fs::metadata(scratch.path("one")).await.is_err());
    });
}

/// The names of the files in `scratch`, which has one directory as well. Each entry is asked for
/// and the question dropped once, if that was pending.
async fn entries(scratch: &Scratch, n_cancelled: &mut usize) -> Vec<String> {
    let mut entries = fs::read_dir(&scratch.0).await.unwrap();
    let mut found = Vec::new();
    loop {
        let first = poll!(Box::pin(entries.next()));
        *n_cancelled += usize::from(first.is_pending());
        let entry = match first {
            std::task::Poll::Ready(entry) => entry,
            std::task::Poll::Pending => entries.next().await,
        };
        let Some(entry) = entry else { break };
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert_eq!(entry.path(), scratch.path(&name));
        if entry.file_type().await.unwrap().is_file() {
            assert_eq!(entry.metadata().await.unwrap().len() as usize, name.len());
            found.push(name);
        } else {
            assert_eq!(name, "directory");
        }
    }
    found
}

#[test]
fn read_dir_gives_every_entry_once_also_if_it_is_cancelled_between() {
    scratch(async |scratch| {
        let names: BTreeSet<String> = (0..300).map(|n| format!("file {n}")).collect();
        for name in &names {
            std::fs::write(scratch.path(name), name).unwrap();
        }
        std::fs::create_dir(scratch.path("directory")).unwrap();
        // A thread of the pool may be so quick that nothing is pending; not a hundred times.
        let mut n_cancelled = 0;
        for _ in 0..100 {
            let found = entries(scratch, &mut n_cancelled).await;
            assert_eq!(found.len(), names.len());
            assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), names);
            if n_cancelled > 0 {
                break;
            }
        }
        assert!(n_cancelled > 0);
        assert!(fs::read_dir(scratch.path("absent")).await.is_err());
    });
}

/// Does the same at random to a file of ours and to one of std.
#[test]
fn a_file_is_at_every_moment_what_std_would_have_made_of_it() {
    scratch(async |scratch| {
        let mut options = std::fs::File::options();
        options.read(true).write(true).create_new(true);
        let mut theirs = options.open(scratch.path("theirs")).unwrap();
        let options = fs::OpenOptions::from(options);
        let mut ours = options.open(scratch.path("ours")).await.unwrap();
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        for step in 0..3_000 {
            match dice.below(8) {
                0..=2 => {
                    let bytes = dice.bytes(3_000);
                    ours.write_all(&bytes).await.unwrap();
                    theirs.write_all(&bytes).unwrap();
                }
                3 | 4 => {
                    let n = dice.below(5_000) as usize;
                    let (mut a, mut b) = (Vec::new(), Vec::new());
                    (&mut ours)
                        .take(n as u64)
                        .read_to_end(&mut a)
                        .await
                        .unwrap();
                    Read::take(&theirs, n as u64).read_to_end(&mut b).unwrap();
                    assert!(a == b, "step {step}");
                }
                5 => {
                    let to = match dice.below(3) {
                        0 => SeekFrom::Start(dice.below(100_000)),
                        1 => SeekFrom::Current(dice.below(4_000) as i64 - 2_000),
                        _ => SeekFrom::End(-(dice.below(4_000) as i64)),
                    };
                    let (a, b) = (ours.seek(to).await, theirs.seek(to));
                    assert_eq!(a.ok(), b.ok(), "step {step}: {to:?}");
                }
                6 => {
                    let len = dice.below(200_000);
                    ours.set_len(len).await.unwrap();
                    theirs.set_len(len).unwrap();
                }
                _ => {
                    // A read that is given up half-way must not move anything.
                    let mut bytes = [0; 100];
                    if let std::task::Poll::Ready(n) = poll!(ours.read(&mut bytes)) {
                        let n = n.unwrap();
                        let mut same = vec![0; n];
                        theirs.read_exact(&mut same).unwrap();
                        assert_eq!(same, bytes[..n], "step {step}");
                    }
                    let len = ours.metadata().await.unwrap().len();
                    assert_eq!(len, theirs.metadata().unwrap().len(), "step {step}");
                }
            }
        }
        ours.sync_all().await.unwrap();
        let place = ours.into_std().await.unwrap().stream_position().unwrap();
        assert_eq!(place, theirs.stream_position().unwrap());
        let (a, b) = (scratch.path("ours"), scratch.path("theirs"));
        assert!(fs::read(a).await.unwrap() == fs::read(b).await.unwrap());
    });
}

#[test]
fn small_writes_arrive_in_order_and_small_reads_bring_them_back() {
    scratch(async |scratch| {
        let path = scratch.path("file");
        let mut file = fs::File::create(&path).await.unwrap();
        let mut sent = Vec::new();
        for n in 0..200_000_u32 {
            file.write_all(&n.to_le_bytes()).await.unwrap();
            sent.extend_from_slice(&n.to_le_bytes());
        }
        file.close().await.unwrap();
        assert_eq!(file.metadata().await.unwrap().len(), 800_000);
        let mut file = fs::File::open(&path).await.unwrap();
        let mut word = [0; 4];
        for n in 0..200_000_u32 {
            file.read_exact(&mut word).await.unwrap();
            assert_eq!(u32::from_le_bytes(word), n);
        }
        assert_eq!(file.read(&mut word).await.unwrap(), 0);
        assert!(std::fs::read(&path).unwrap() == sent);
    });
}

#[test]
fn what_a_write_has_returned_is_written_also_if_the_file_is_dropped_at_once() {
    let write = async |scratch: &Scratch| {
        let path = scratch.path("file");
        for round in 0..50_u8 {
            let mut file = fs::File::create(&path).await.unwrap();
            file.write_all(&vec![round; 100_000]).await.unwrap();
            drop(file);
            // There is one thread only, so this comes after it.
            assert!(fs::read(&path).await.unwrap() == vec![round; 100_000]);
        }
    };
    within(60, || {
        let scratch = Scratch::new();
        Builder::new()
            .blocking_threads(1)
            .run(write(&scratch))
            .unwrap();
    });
}

#[test]
fn a_write_that_fails_comes_out_of_flush_and_the_file_goes_on() {
    scratch(async |scratch| {
        let path = scratch.path("file");
        std::fs::write(&path, "as it was").unwrap();
        let mut file = fs::File::open(&path).await.unwrap();
        // It is open to be read only; the write itself cannot know yet.
        file.write_all(b"different").await.unwrap();
        assert!(file.flush().await.is_err());
        // A program that goes on all the same is told once more.
        assert!(file.flush().await.is_err());
        file.flush().await.unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "as it was");
        let error = file.seek(SeekFrom::Current(-10)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error_of_close() {
    scratch(async |_| {
        let mut options = fs::File::options();
        let mut file = options.write(true).open("/dev/full").await.unwrap();
        file.write_all(&[0; 100_000]).await.unwrap();
        assert_eq!(
            file.close().await.unwrap_err().kind(),
            ErrorKind::StorageFull
        );
    });
}

#[test]
fn options_say_how_a_file_is_opened() {
    scratch(async |scratch| {
        let path = scratch.path("file");
        let mut options = fs::File::options();
        options.append(true).create_new(true).mode(0o600);
        let mut file = options.open(&path).await.unwrap();
        file.write_all(b"one ").await.unwrap();
        file.close().await.unwrap();
        let error = options.open(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        options.create_new(false);
        let mut file = options.open(&path).await.unwrap();
        file.write_all(b"two").await.unwrap();
        file.close().await.unwrap();
        assert_eq!(fs::read_to_string(&path).await.unwrap(), "one two");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(
            fs::metadata(&path).await.unwrap().permissions().mode() & 0o777,
            0o600
        );
        let error = fs::File::open(scratch.path("absent")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn the_loop_goes_on_while_a_file_is_copied() {
    scratch(async |scratch| {
        std::fs::write(scratch.path("a"), vec![1; 8 << 20]).unwrap();
        let copy = async {
            let mut from = fs::File::open(scratch.path("a")).await?;
            let mut to = fs::File::create(scratch.path("b")).await?;
            let n = futures_util::io::copy(&mut from, &mut to).await?;
            to.close().await?;
            io::Result::Ok(n)
        };
        let others = round_trips_in(Duration::from_millis(20));
        let (n, n_trips) = futures_util::future::join(copy, others).await;
        assert_eq!(n.unwrap(), 8 << 20);
        assert!(n_trips > 0);
        let same = fs::read(scratch.path("b")).await.unwrap() == vec![1; 8 << 20];
        assert!(same);
    });
}

#[test]
fn without_threads_every_function_of_fs_is_an_error_that_says_so() {
    within(20, || {
        let scratch = Scratch::new();
        std::fs::write(scratch.path("a"), "text").unwrap();
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(scratch.path("a"));
        let mut file = fs::File::from_std(file.unwrap());
        let errors = Builder::new().blocking_threads(0).run(async {
            // Taken in, as every write, and refused by what waits for it.
            file.write_all(b"TEXT").await.unwrap();
            [
                fs::read(scratch.path("a")).await.map(drop).unwrap_err(),
                fs::File::open(scratch.path("a"))
                    .await
                    .map(drop)
                    .unwrap_err(),
                fs::read_dir(&scratch.0).await.map(drop).unwrap_err(),
                file.flush().await.unwrap_err(),
                file.read(&mut [0]).await.map(drop).unwrap_err(),
                file.seek(SeekFrom::Start(0)).await.map(drop).unwrap_err(),
            ]
        });
        for error in errors.unwrap() {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(
                error
                    .to_string()
                    .contains("`Builder::blocking_threads` is 0")
            );
        }
        assert_eq!(std::fs::read_to_string(scratch.path("a")).unwrap(), "text");
    });
}

#[test]
fn links_and_permissions_are_made_changed_and_read() {
    scratch(async |scratch| {
        let [file, hard, soft] = ["file", "hard", "soft"].map(|name| scratch.path(name));
        assert!(!fs::try_exists(&file).await.unwrap());
        fs::symlink("file", &soft).await.unwrap();
        assert!(!fs::try_exists(&soft).await.unwrap(), "it leads nowhere");
        fs::write(&file, "text").await.unwrap();
        assert!(fs::try_exists(&soft).await.unwrap());
        fs::hard_link(&file, &hard).await.unwrap();
        let error = fs::hard_link(&file, &hard).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        fs::remove_file(&file).await.unwrap();
        assert_eq!(fs::read_to_string(&hard).await.unwrap(), "text");
        assert_eq!(fs::read_link(&soft).await.unwrap(), PathBuf::from("file"));
        let error = fs::read_link(&hard).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let mut permissions = fs::metadata(&hard).await.unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&hard, permissions).await.unwrap();
        assert!(std::fs::metadata(&hard).unwrap().permissions().readonly());
        let error = fs::try_exists(hard.join("below")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotADirectory);
    });
}
