//! Everything at once, as in a program for Node.js: a file, hashing on the pool, a slow page,
//! `setImmediate`, timers of no time, and timers inside of timers. The order is always the same,
//! and hangs on no speed: tasks go on in the order in which they were woken, callbacks begin what
//! comes after them, and the server is as slow as the last timer says.
//!
//! `cargo run --example node` (or `… --example node FILE`)

mod shared;
#[path = "shared/slow_page.rs"]
mod slow_page;

use fahrenheit::{Builder, Event, Notifier, prelude::*, spawn, spawn_blocking, time::sleep};
use shared::say_on_stdout as say;
use std::{error::Error, fs, io, thread, time::Duration};

fn main() {
    let path = match &shared::args()[..] {
        [] => concat!(env!("CARGO_MANIFEST_DIR"), "/LICENSE-MIT").to_owned(),
        [path] => path.clone(),
        _ => shared::fail(2, "usage: node [FILE]"),
    };
    let failed = |error: &dyn Error| shared::fail(1, &format!("node: {path}: {error}"));
    let main = program(path.clone()).unwrap_or_else(|error| failed(&error));
    let ended = Builder::new().blocking_threads(4).run(main);
    ended.unwrap_or_else(|error| failed(&error));
}

async fn program(path: String) -> io::Result<()> {
    let last_timer = Event::new()?;
    say("main: reads a file");
    let file = spawn(file(path, last_timer.notifier()));
    say("main: asks for a slow page");
    let addr = slow_page::serve(b"<h1>Hello.</h1>\n", last_timer)?;
    let page = spawn(slow_page::get(addr).and_then(|page| {
        say(&format!("page: {} bytes", page.len()));
        hash(page)
    }));
    say("main: sets three timers of 0 ms, and an immediate");
    (1..=3).for_each(|n| set_timeout(0, async move || say(&format!("timer {n} of 0 ms"))));
    drop(spawn(fahrenheit::yield_now().map(|()| say("immediate"))));
    say("main: waits");
    let (file, page) = (file.await??, page.await??);
    say(&format!("hashes: file {file:016x}, page {page:016x}"));
    Ok(())
}

/// Reads a file, and hashes it while a timer and another one inside of it go on.
async fn file(path: String, last_timer: Notifier) -> io::Result<u64> {
    let job = move || fs::read(path).map(|bytes| (bytes, thread::current()));
    let (bytes, thread) = spawn_blocking(job).await??;
    let (n, name) = (bytes.len(), thread.name().unwrap_or_default());
    say(&format!("file: {n} bytes, read by {name}"));
    set_timeout(30, async move || {
        say("timer of 30 ms");
        let signal = async move || drop(last_timer.notify().map(|()| say("timer inside of it")));
        set_timeout(20, signal);
    });
    hash(bytes).await
}

/// FNV-1a over a few million bytes, as work for the pool.
async fn hash(bytes: Vec<u8>) -> io::Result<u64> {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    let bytes = move || {
        bytes
            .iter()
            .cycle()
            .take(3_000_000)
            .fold(0xcbf2_9ce4_8422_2325, step)
    };
    Ok(spawn_blocking(bytes).await?)
}

fn set_timeout(millis: u64, then: impl AsyncFnOnce() + 'static) {
    let timer = sleep(Duration::from_millis(millis));
    drop(spawn(async move { (timer.await, then().await) }));
}
