//! `Local`: used on its own thread and on others, and dropped on others.

#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
use crate::util::skip;
use crate::util::{OnDrop, counted, tcp_pair, text, within};
use fahrenheit::{Local, block_on, prelude::*, run, spawn, time::sleep};
use futures_channel::oneshot;
use futures_util::io::{AllowStdIo, BufReader, Cursor};
use futures_util::stream;
use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::future::{Ready, pending, ready};
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

/// Calls `f` with `local` on another thread, and returns the message of its panic.
#[track_caller]
fn panic_elsewhere<T>(mut local: Local<T>, f: impl FnOnce(&mut Local<T>) + Send) -> String {
    let message = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let panicked = catch_unwind(AssertUnwindSafe(|| f(&mut local)));
            text(&*panicked.expect_err("it is used elsewhere")).to_owned()
        });
        thread.join().unwrap()
    });
    assert!(local.is_here());
    message
}

/// Calls the function with `local` and a context on another thread, and expects it to panic with a
/// message that helps.
macro_rules! panics {
    ($local:expr, $type:literal, |$name:ident, $cx:ident| $call:expr) => {
        let line = line!();
        let message = panic_elsewhere($local, |$name| {
            let $cx = &mut Context::from_waker(Waker::noop());
            let _ = ($call, $cx);
        });
        for part in [concat!("`Local<", $type), file!(), "channel"] {
            assert!(
                message.contains(part),
                "line {line}: no {part} in: {message}"
            );
        }
    };
}

fn cursor() -> Local<Cursor<Vec<u8>>> {
    Local::new(Cursor::new(vec![1, 2, 3]))
}

#[test]
fn local_is_send_and_sync_whatever_it_holds() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<Local<Rc<()>>>();
    is_send_and_sync::<Local<*mut ()>>();
    is_send_and_sync::<Local<fahrenheit::AsyncTcpStream>>();
}

#[test]
fn every_method_of_a_local_panics_on_another_thread() {
    let rc = || Local::new(Rc::new(7));
    assert!(rc().is_here());
    panics!(rc(), "alloc::rc::Rc<i32>", |l, cx| l.as_pin_mut());
    let takes: [fn(Local<Rc<i32>>); 2] = [|l| drop(l.into_inner()), |l| drop(l.into_pin())];
    for take in takes {
        let local = rc();
        let thread = thread::spawn(move || {
            assert!(!local.is_here());
            take(local);
        });
        let payload = thread.join().unwrap_err();
        assert!(text(&*payload).contains("`Local<alloc::rc::Rc<i32>>`"));
    }
    assert_eq!(*rc().into_inner(), 7);
    assert_eq!(**rc().into_pin(), 7);
    assert_eq!(**rc().as_pin_mut(), 7);
}

#[test]
fn every_trait_of_a_local_panics_on_another_thread() {
    panics!(
        Local::new(Cell::new(1)),
        "core::cell::Cell<i32>",
        |l, cx| l.get()
    );
    panics!(Local::new(1), "i32>", |l, cx| **l += 1);
    panics!(Local::new(1), "i32>", |l, cx| l.clone());
    panics!(Local::new(1), "i32>", |l, cx| format!("{l:?}"));
    panics!(
        Local::new(ready(1)),
        "core::future::ready::Ready<i32>",
        |l, cx| l.poll_unpin(cx)
    );
    let numbers = || Local::new(stream::iter([1, 2]));
    panics!(numbers(), "futures_util::stream", |l, cx| l
        .poll_next_unpin(cx));
    panics!(numbers(), "futures_util::stream", |l, cx| l.size_hint());
    let pair = std::os::unix::net::UnixStream::pair().unwrap();
    panics!(Local::new(pair.0), "std::os::unix::net", |l, cx| {
        let _ = l.as_fd();
    });
}

#[test]
fn reading_and_writing_a_local_panics_on_another_thread() {
    let name = "futures_util::io::cursor::Cursor";
    assert!(std::any::type_name::<Cursor<Vec<u8>>>().starts_with(name));
    panics!(cursor(), "futures_util::io", |l, cx| Pin::new(l)
        .poll_read(cx, &mut [0]));
    panics!(cursor(), "futures_util::io", |l, cx| {
        Pin::new(l).poll_read_vectored(cx, &mut [IoSliceMut::new(&mut [0])])
    });
    panics!(cursor(), "futures_util::io", |l, cx| {
        let _ = Pin::new(l).poll_fill_buf(cx);
    });
    panics!(cursor(), "futures_util::io", |l, cx| Pin::new(l).consume(1));
    panics!(cursor(), "futures_util::io", |l, cx| {
        Pin::new(l).poll_seek(cx, SeekFrom::Start(1))
    });
    panics!(cursor(), "futures_util::io", |l, cx| Pin::new(l)
        .poll_write(cx, &[0]));
    panics!(cursor(), "futures_util::io", |l, cx| {
        Pin::new(l).poll_write_vectored(cx, &[IoSlice::new(&[0])])
    });
    panics!(cursor(), "futures_util::io", |l, cx| Pin::new(l)
        .poll_flush(cx));
    panics!(cursor(), "futures_util::io", |l, cx| Pin::new(l)
        .poll_close(cx));
}

#[test]
fn a_local_does_on_its_own_thread_what_its_value_does() {
    let mut number = Local::new(1);
    *number += 1;
    assert_eq!((*number, *number.clone()), (2, 2));
    assert_eq!(format!("{number:?}"), "Local(2)");
    let rc = Local::new(Rc::new(()));
    let other = rc.clone();
    assert_eq!(Rc::strong_count(&other), 2);
    assert_eq!(Local::new(stream::iter([1, 2])).size_hint(), (2, Some(2)));
    run(async {
        assert_eq!(Local::new(ready(3)).await, 3);
        assert_eq!(
            Local::new(stream::iter([1, 2])).collect::<Vec<_>>().await,
            [1, 2]
        );
        let mut file = cursor();
        file.seek(SeekFrom::Start(1)).await.unwrap();
        file.write_all(&[9]).await.unwrap();
        file.seek(SeekFrom::Start(0)).await.unwrap();
        let mut lines = Local::new(BufReader::new(AllowStdIo::new(&b"one\ntwo"[..])));
        let mut line = String::new();
        lines.read_line(&mut line).await.unwrap();
        assert_eq!(
            (file.into_inner().into_inner(), &*line),
            (vec![1, 9, 3], "one\n")
        );
    });
}

/// What libraries do that serve executors with many threads.
fn needs_send<F: Future + Send>(future: F) -> F {
    future
}

#[test]
fn a_future_with_locals_in_it_is_send_and_runs_on_its_own_thread() {
    within(60, || {
        let (ours, theirs) = tcp_pair();
        let (mut ours, theirs) = (Local::new(ours), Local::new(theirs));
        let fd = ours.as_fd().try_clone_to_owned();
        let task = needs_send(async move {
            let mut theirs = theirs;
            Local::new(sleep(Duration::from_micros(100))).await;
            theirs.write_all(b"word").await.unwrap();
            theirs.close().await.unwrap();
        });
        let task = spawn(task);
        let word = run(needs_send(async {
            let mut word = String::new();
            ours.read_to_string(&mut word).await.unwrap();
            word
        }));
        assert_eq!((&*word, fd.is_ok()), ("word", true));
        block_on(task).unwrap();
    });
}

/// Tells on which thread it is dropped.
struct Witness(mpsc::Sender<ThreadId>, Option<oneshot::Sender<()>>);

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.send(thread::current().id()).unwrap();
        // Wakes a task, which must not happen while the loop is borrowed.
        drop(self.1.take());
    }
}

#[test]
fn dropped_on_another_thread_it_is_dropped_by_a_loop_that_waits_in_select() {
    within(60, || {
        let (dropped, drops) = mpsc::channel();
        run(async {
            for _ in 0..100 {
                let (done, is_done) = oneshot::channel();
                let local = Local::new(Witness(dropped.clone(), Some(done)));
                let thread = thread::spawn(move || drop(local));
                // Only the destructor, which runs on this thread, ends this wait.
                is_done.await.unwrap_err();
                thread.join().unwrap();
                assert_eq!(drops.try_recv(), Ok(thread::current().id()));
            }
        });
    });
}

#[test]
fn many_threads_return_values_and_each_is_dropped_once() {
    within(60, || {
        let count = Arc::new(AtomicUsize::new(0));
        let locals = || {
            (0..1_000)
                .map(|_| Local::new(counted(&count)))
                .collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..4).map(|_| locals()).collect();
        let threads: Vec<_> = threads
            .into_iter()
            .map(|locals| thread::spawn(move || drop(locals)))
            .collect();
        run(async {
            while count.load(Ordering::SeqCst) < 4_000 {
                sleep(Duration::from_micros(100)).await;
            }
        });
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        run(async {});
        assert_eq!(count.load(Ordering::SeqCst), 4_000);
    });
}

#[test]
fn dropped_while_no_loop_runs_it_is_dropped_by_the_next_run() {
    within(60, || {
        let count = Arc::new(AtomicUsize::new(0));
        let local = Local::new(counted(&count));
        thread::spawn(move || drop(local)).join().unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 0);
        run(async {});
        assert_eq!(count.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn dropped_while_no_loop_runs_it_is_dropped_with_its_thread() {
    let (dropped, drops) = mpsc::channel();
    let id = within(60, || {
        let local = Local::new(Witness(dropped, None));
        thread::spawn(move || drop(local)).join().unwrap();
        thread::current().id()
    });
    assert_eq!(drops.try_recv(), Ok(id));
}

#[test]
fn dropped_after_its_thread_has_ended_it_is_leaked() {
    let count = Arc::new(AtomicUsize::new(0));
    let local = within(60, || Local::new(counted(&count)));
    drop(local);
    assert_eq!(
        (count.load(Ordering::SeqCst), Arc::strong_count(&count)),
        (0, 2)
    );
}

#[test]
fn a_destructor_that_panics_at_home_hurts_neither_the_loop_nor_other_values() {
    within(60, || {
        let count = Arc::new(AtomicUsize::new(0));
        let locals = (
            Local::new(OnDrop(|| panic!("a destructor panics"))),
            Local::new(counted(&count)),
        );
        thread::spawn(move || drop(locals)).join().unwrap();
        assert_eq!(run(async { 5 }), 5);
        assert_eq!(count.load(Ordering::SeqCst), 1);
    });
}

/// What a destructor has read from one `Local`, and another that it has made.
type Late = (u32, Local<Rc<u32>>);

/// Uses one `Local` and makes another, in the destructor of a thread-local value.
struct AtEnd {
    kept: RefCell<Option<Local<Cell<u32>>>>,
    to: RefCell<Option<mpsc::Sender<Late>>>,
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        let kept = self.kept.take().unwrap();
        kept.set(kept.get() + 1);
        let late = Local::new(Rc::new(8));
        assert!(kept.is_here() && late.is_here());
        assert_eq!(**late, 8);
        self.to.take().unwrap().send((kept.get(), late)).unwrap();
    }
}

thread_local! {
    static AT_END: AtEnd = const {
        AtEnd { kept: RefCell::new(None), to: RefCell::new(None) }
    };
}

#[test]
fn locals_work_in_destructors_of_thread_local_values() {
    // Thread-local values are dropped in an order that depends on when they were first used, so one
    // of these destructors runs while there is a loop, and the other when there is none any more.
    for loop_comes_first in [true, false] {
        let (to, from) = mpsc::channel();
        within(60, move || {
            if loop_comes_first {
                run(async {});
            }
            AT_END.with(|at_end| at_end.to.replace(Some(to)));
            let kept = Local::new(Cell::new(6));
            AT_END.with(|at_end| at_end.kept.replace(Some(kept)));
        });
        let (number, late) = from.recv().unwrap();
        assert_eq!(number, 7);
        // Its thread has ended.
        assert!(!late.is_here());
        drop(late);
    }
}

#[test]
fn destructors_that_run_at_home_may_use_the_loop() {
    within(60, || {
        let handle = spawn(pending::<()>());
        let abort = handle.abort_handle();
        let local = Local::new((handle, OnDrop(move || abort.abort())));
        thread::spawn(move || drop(local)).join().unwrap();
        run(async {});
    });
}

/// The libraries in the folder of this test binary, the newest first. There is one for each set of
/// features that was built.
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
fn libraries() -> Vec<std::path::PathBuf> {
    let folder = std::env::current_exe().unwrap();
    let entries = std::fs::read_dir(folder.parent().unwrap()).into_iter();
    let is_library = |path: &std::path::Path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("libfahrenheit-") && name.ends_with(".rlib")
    };
    let paths = entries.flatten().flatten().map(|entry| entry.path());
    let mut libraries: Vec<_> = paths.filter(|path| is_library(path)).collect();
    libraries.sort_by_key(|path| path.metadata().and_then(|data| data.modified()).ok());
    libraries.reverse();
    libraries
}

/// Has the compiler explain why `type_name` is not `Send`. `None` if there is no compiler here, or
/// no library that has the type.
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
fn explanation(type_name: &str) -> Option<String> {
    libraries()
        .iter()
        .filter_map(|library| explanation_by(library, type_name))
        .find(|text| !text.contains("cannot find type"))
}

/// What the compiler says with this library.
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
fn explanation_by(library: &std::path::Path, type_name: &str) -> Option<String> {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let name = format!("not_send_{}", std::process::id());
    let source = folder.join(format!("{name}.rs"));
    let code = format!("fn f<T: Send>() {{}} pub fn g() {{ f::<fahrenheit::{type_name}>() }}");
    std::fs::write(&source, code).unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = std::process::Command::new(rustc)
        .args(["--edition=2021", "--crate-type=lib", "--emit=metadata"])
        .arg(format!("--extern=fahrenheit={}", library.display()))
        .arg(format!("-Ldependency={}", library.parent()?.display()))
        .arg(format!("--out-dir={}", folder.display()))
        .arg(&source)
        .output();
    std::fs::remove_file(&source).unwrap();
    let output = output.ok()?;
    assert!(!output.status.success(), "{type_name} is Send");
    Some(String::from_utf8_lossy(&output.stderr).into_owned())
}

// What the compiler says is the same for every target, and a build for another one has no compiler
// that could be called without its options.
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
#[test]
fn the_compiler_says_that_types_without_send_can_be_sent_inside_a_local() {
    let types = [
        "AsyncTcpStream",
        "AsyncTcpListener",
        #[cfg(feature = "udp")]
        "AsyncUdpSocket",
        #[cfg(feature = "unix")]
        "AsyncUnixStream",
        #[cfg(feature = "unix")]
        "AsyncUnixSeqpacket",
        #[cfg(feature = "unix")]
        "AsyncUnixSeqpacketListener",
        "AsyncFd<std::fs::File>",
        "Event",
        "time::Sleep",
        "task::JoinHandle<i32>",
    ];
    for name in types {
        let Some(text) = explanation(name) else {
            return skip(test_name!(), "there is no compiler");
        };
        let first = text.lines().next().unwrap_or_default();
        assert!(first.contains("SendableOnlyInsideLocal"), "{name}: {text}");
        assert!(
            first.contains("cannot be sent between threads"),
            "{name}: {text}"
        );
    }
}

#[test]
fn a_local_can_be_asked_for_by_traits() {
    fn debug<T: Debug + Send + Sync + 'static>(value: T) -> String {
        format!("{value:?}")
    }
    let ready: Local<Ready<i32>> = Box::pin(ready(1)).into();
    assert!(debug(ready).contains("Ready"));
}
