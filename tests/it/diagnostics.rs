//! Looking into a loop over a Unix socket: what clients get, and that they can do no harm.
#![allow(unsafe_code)]

use fahrenheit::diagnostics::serve;
use fahrenheit::prelude::*;
use fahrenheit::{AsyncUnixStream, Builder, task, time};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Uid, fork, setuid};
use std::cell::Cell;
use std::future::pending;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

const SECOND: Duration = Duration::from_secs(1);

/// A path for a socket, in a folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
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

/// Runs `main` with a virtual clock, so that the time limits of the service pass at once.
fn virtually<F: Future>(main: F) -> F::Output {
    Builder::new().virtual_clock(true).block_on(main).unwrap()
}

/// Sends a request and returns the answer without its last line.
async fn ask(stream: &mut AsyncUnixStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(b"\n").await.unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"end\n") {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await.unwrap() {
            0 => panic!("no end: {}", String::from_utf8_lossy(&bytes)),
            n => bytes.extend_from_slice(&buffer[..n]),
        }
    }
    bytes.truncate(bytes.len() - "end\n".len());
    String::from_utf8(bytes).unwrap()
}

/// The values of a field in all records of one kind.
fn values<'a>(answer: &'a str, kind: &str, field: &str) -> Vec<&'a str> {
    let prefix = format!("{field}=");
    let records = answer.lines().map(|line| line.split('\t'));
    let records = records.filter(|fields| fields.clone().next() == Some(kind));
    let value =
        |mut fields: std::str::Split<'a, char>| fields.find_map(|text| text.strip_prefix(&prefix));
    records.filter_map(value).collect()
}

#[test]
fn a_client_gets_tasks_and_what_they_wait_for() {
    let folder = Folder::new("snapshot");
    // `run` ends although the service has not: it is a daemon.
    let run = |track| {
        let main = async {
            let _server = serve(folder.socket()).unwrap();
            let sleeper = task::Builder::new().name("a\tb\nsleeper");
            let sleeper = sleeper.spawn(time::sleep(1_000 * SECOND));
            let mut client = AsyncUnixStream::connect(folder.socket()).await.unwrap();
            let answer = ask(&mut client, "snapshot").await;
            sleeper.abort();
            (sleeper.id().to_string(), answer)
        };
        Builder::new().track(track).run(main).unwrap()
    };
    let (id, answer) = run(true);
    assert!(answer.starts_with("fahrenheit\tprotocol=1\t"), "{answer}");
    assert_eq!(
        values(&answer, "fahrenheit", "pid"),
        [std::process::id().to_string()]
    );
    let names = values(&answer, "task", "name");
    assert_eq!(
        names,
        ["diagnostics", r"a\tb\nsleeper", "diagnostics client"]
    );
    let roles = values(&answer, "task", "role");
    assert_eq!(roles, ["main", "daemon", "task", "daemon"]);
    let states = values(&answer, "task", "state");
    assert_eq!(states, ["waiting", "waiting", "waiting", "running"]);
    let wait = format!("wait\ttask={id}\tfor=timer\tdue=");
    assert!(answer.contains(&wait), "{answer}");
    let kinds = values(&answer, "wait", "what");
    let listens = format!("unix listener {}", folder.socket().display());
    assert!(kinds.contains(&listens.as_str()), "{answer}");
    assert_eq!(values(&answer, "loop", "tasks"), ["3"]);
    assert_eq!(values(&answer, "loop", "idle").len(), 1);
    // The client's own task is in its first poll.
    assert!(values(&answer, "task", "age").len() >= 3, "{answer}");

    let (_, untracked) = run(false);
    assert!(values(&untracked, "task", "age").is_empty(), "{untracked}");
    assert!(values(&untracked, "loop", "idle").is_empty(), "{untracked}");
}

#[test]
fn a_dump_is_served_as_text_and_wrong_requests_are_answered() {
    let folder = Folder::new("text");
    fahrenheit::run(async {
        let _server = serve(folder.socket()).unwrap();
        let mut client = AsyncUnixStream::connect(folder.socket()).await.unwrap();
        let dump = ask(&mut client, "dump").await;
        assert!(dump.starts_with("main future: waiting, "), "{dump}");
        assert!(dump.contains("\nloop: "), "{dump}");
        let wrong = ask(&mut client, "GET / HTTP/1.1").await;
        assert!(wrong.starts_with("error\ttext="), "{wrong}");
        // The connection goes on, unless no end of the line is in sight.
        let dump = ask(&mut client, "dump oldest 1").await;
        assert!(dump.contains("left out: 1 tasks"), "{dump}");
        let long = ask(&mut client, &"x".repeat(100)).await;
        assert!(long.starts_with("error\ttext="), "{long}");
        let read = client.read(&mut [0]).await;
        assert!(matches!(read, Ok(0)) || is_reset(&read), "{read:?}");
    });
}

fn is_reset(read: &io::Result<usize>) -> bool {
    let reset = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    read.as_ref()
        .is_err_and(|error| reset.contains(&error.kind()))
}

#[test]
fn the_socket_is_for_one_user_and_goes_with_the_service() {
    let folder = Folder::new("mode");
    fahrenheit::run(async {
        let server = serve(folder.socket()).unwrap();
        let mode = fs::metadata(folder.socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut client = AsyncUnixStream::connect(folder.socket()).await.unwrap();
        ask(&mut client, "snapshot").await;
        drop(server);
        assert!(!folder.socket().exists());
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "it is cut off");
    });
    // Outside of `run`, no task is dropped any more.
    drop(serve(folder.socket()).unwrap());
    assert!(!folder.socket().exists());
    // A file that is another's by now stays.
    let server = serve(folder.socket()).unwrap();
    fs::remove_file(folder.socket()).unwrap();
    let _other = UnixListener::bind(folder.socket()).unwrap();
    drop(server);
    assert!(folder.socket().exists());
}

#[test]
fn a_detached_service_ends_with_its_thread() {
    let folder = Folder::new("detached");
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            fahrenheit::run(async { serve(folder.socket()).unwrap().detach() });
            fahrenheit::run(async {
                let mut client = AsyncUnixStream::connect(folder.socket()).await.unwrap();
                ask(&mut client, "snapshot").await;
            });
        });
        thread.join().unwrap();
    });
    // The thread's values are dropped before it is joined.
    assert!(!folder.socket().exists());
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let folder = Folder::new("stale");
    drop(UnixListener::bind(folder.socket()).unwrap());
    assert!(folder.socket().exists());
    let server = serve(folder.socket()).unwrap();
    let refused = serve(folder.socket()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AddrInUse);
    fahrenheit::run(async {
        let mut client = AsyncUnixStream::connect(folder.socket()).await.unwrap();
        ask(&mut client, "snapshot").await;
    });
    drop(server);
    // A process that accepts nothing is live as well.
    let _live = UnixListener::bind(folder.socket()).unwrap();
    let refused = serve(folder.socket()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AddrInUse);
    fs::remove_file(folder.socket()).unwrap();

    fs::write(folder.socket(), "precious").unwrap();
    let refused = serve(folder.socket()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AddrInUse);
    assert_eq!(fs::read_to_string(folder.socket()).unwrap(), "precious");
    let missing = serve(folder.0.join("none").join("socket")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[test]
fn silent_clients_and_those_that_read_nothing_are_cut_off() {
    let folder = Folder::new("silent");
    virtually(async {
        let _server = serve(folder.socket()).unwrap();
        let connect = async || AsyncUnixStream::connect(folder.socket()).await.unwrap();
        let mut silent = connect().await;
        silent.write_all(b"snap").await.unwrap();
        let mut flood = connect().await;
        // More requests than answers fit into any buffer.
        let n_sent = 500_000;
        let flood_begins = time::now();
        let sent = time::timeout(30 * SECOND, flood.write_all(&b"dump\n".repeat(n_sent))).await;
        assert!(!matches!(sent, Ok(Ok(()))), "{sent:?}: it was not stopped");
        assert!(
            time::now() - flood_begins < 29 * SECOND,
            "its connection was closed"
        );
        // Others are served meanwhile, and room is made for them.
        let mut others = Vec::new();
        for _ in 0..3 {
            let mut other = connect().await;
            ask(&mut other, "snapshot").await;
            others.push(other);
        }
        time::sleep(70 * SECOND).await;
        let begin = time::now();
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
        for mut other in others {
            assert_eq!(other.read(&mut [0]).await.unwrap(), 0);
        }
        assert_eq!(time::now(), begin, "all of them were cut off before");
    });
}

#[test]
fn there_are_at_most_four_clients_and_one_that_has_vanished_makes_room() {
    let folder = Folder::new("clients");
    fahrenheit::run(async {
        let _server = serve(folder.socket()).unwrap();
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut client = AsyncUnixStream::connect(folder.socket()).await.unwrap();
            ask(&mut client, "snapshot").await;
            clients.push(client);
        }
        let mut fifth = AsyncUnixStream::connect(folder.socket()).await.unwrap();
        let mut text = String::new();
        fifth.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("error\ttext=there are four"), "{text}");
        // In the middle of an answer.
        clients[0].write_all(b"snapshot\nsnapshot\n").await.unwrap();
        clients.clear();
        loop {
            let mut next = AsyncUnixStream::connect(folder.socket()).await.unwrap();
            next.write_all(b"snapshot\n").await.unwrap();
            let mut bytes = [0; 10];
            // The service may not have noticed yet.
            if next.read_exact(&mut bytes).await.is_ok() && &bytes == b"fahrenheit" {
                break;
            }
            time::sleep(SECOND / 100).await;
        }
    });
}

#[test]
fn an_answer_shows_at_most_1000_tasks_by_the_order_that_the_client_names() {
    let folder = Folder::new("many");
    Builder::new()
        .block_on(async {
            let _server = serve(folder.socket()).unwrap();
            let tasks: Vec<_> = (0..3_000)
                .map(|_| fahrenheit::spawn(pending::<()>()))
                .collect();
            let often = fahrenheit::spawn(async {
                for _ in 0..100 {
                    fahrenheit::yield_now().await;
                }
                pending::<()>().await;
            });
            let mut client = AsyncUnixStream::connect(folder.socket()).await.unwrap();
            let answer = ask(&mut client, "snapshot oldest 5000").await;
            let ids = values(&answer, "task", "id");
            assert_eq!(ids.len(), 1 + 1_000, "with the main future");
            assert_eq!(ids[2], tasks[0].id().to_string());
            assert_eq!(values(&answer, "omitted", "tasks"), ["2003"]);
            while values(&ask(&mut client, "snapshot polls 1").await, "task", "polls")[1] != "101" {
                fahrenheit::yield_now().await;
            }
            let answer = ask(&mut client, "snapshot polls 1").await;
            let [_, id] = values(&answer, "task", "id")[..] else {
                panic!("{answer}");
            };
            assert_eq!(id, often.id().to_string());
            let elsewhere = values(&answer, "task", "elsewhere");
            assert_eq!(elsewhere, ["0", "0"], "{answer}");
            // `pending` keeps no waker, so these are lost; it is said of those that are shown.
            assert_eq!(values(&answer, "stuck", "task"), [id]);
        })
        .unwrap();
}

#[test]
fn answers_take_at_most_a_part_of_the_time_of_the_loop() {
    const N_ANSWERS: u32 = 20;
    let folder = Folder::new("pace");
    let is_paced = (0..5).any(|_| {
        virtually(async {
            let _server = serve(folder.socket()).unwrap();
            let tasks: Vec<_> = (0..500)
                .map(|_| fahrenheit::spawn(pending::<()>()))
                .collect();
            let mut client = AsyncUnixStream::connect(folder.socket()).await.unwrap();
            ask(&mut client, "dump").await;
            // The shortest of each, as the machine may run other programs in the middle of one.
            let mut dump = Duration::MAX;
            for _ in 0..N_ANSWERS {
                let begin = Instant::now();
                assert!(fahrenheit::dump().to_string().len() > 500);
                dump = dump.min(begin.elapsed());
            }
            // The virtual clock moves only while the service waits after the answer before.
            let mut pause = Duration::MAX;
            for _ in 0..N_ANSWERS {
                let begin = time::now();
                ask(&mut client, "dump").await;
                pause = pause.min(time::now() - begin);
            }
            drop(tasks);
            fahrenheit::drop_all_tasks();
            pause > 5 * dump
        })
    });
    assert!(is_paced);
}

/// Runs `child` in a forked process, which ends with its result.
fn in_a_child(child: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child uses nothing that another thread may have locked but the crate and the
    // allocator, which the C library keeps usable, and leaves by `_exit`.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let code = if child() { 42 } else { 1 };
            // SAFETY: takes nothing but a number, and does not return.
            unsafe { nix::libc::_exit(code) }
        }
        ForkResult::Parent { child } => {
            waitpid(child, None).unwrap() == WaitStatus::Exited(child, 42)
        }
    }
}

#[test]
fn a_forked_child_serves_nothing_and_leaves_the_file_alone() {
    let folder = Folder::new("fork");
    let server = Cell::new(Some(serve(folder.socket()).unwrap()));
    assert!(in_a_child(|| {
        let server = server.take();
        let mut client = UnixStream::connect(folder.socket()).unwrap();
        client.set_nonblocking(true).unwrap();
        client.write_all(b"snapshot\n").unwrap();
        fahrenheit::block_on(time::sleep(SECOND / 5));
        let answer = client.read(&mut [0]);
        drop(server);
        answer.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }));
    assert!(folder.socket().exists());
    fahrenheit::run(async {
        let mut client = AsyncUnixStream::connect(folder.socket()).await.unwrap();
        ask(&mut client, "snapshot").await;
        drop(server);
    });
    assert!(!folder.socket().exists());
}

#[test]
fn another_user_is_turned_away_whatever_the_mode_of_the_file() {
    let name = test_name!();
    if !Uid::effective().is_root() {
        return crate::util::skip(name, "only root can become another user");
    }
    let folder = Folder::new("user");
    let _server = serve(folder.socket()).unwrap();
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755)).unwrap();
    let connect = || {
        setuid(Uid::from_raw(65_534)).unwrap();
        UnixStream::connect(folder.socket())
    };
    assert!(in_a_child(|| connect().is_err()), "its mode is 0600");
    fs::set_permissions(folder.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    thread::scope(|scope| {
        let child = scope.spawn(|| {
            in_a_child(|| {
                let mut client = connect().unwrap();
                let _ = client.write_all(b"snapshot\n");
                let read = client.read(&mut [0]);
                matches!(read, Ok(0)) || is_reset(&read)
            })
        });
        // Serves, as it is the loop's thread.
        fahrenheit::block_on(async {
            while !child.is_finished() {
                time::sleep(SECOND / 100).await;
            }
        });
        assert!(child.join().unwrap());
    });
}
