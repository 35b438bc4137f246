//! Long runs and overload; `ci/soak` runs them in release. A binary of its own, and idle in
//! `cargo test`, because it takes minutes and the whole process is what is measured.
//!
//! `steady`: 300 connections at a time between two loops of this process, with cancelled
//! operations, resets, half-closes and slow readers, from a fixed seed. No byte may be lost, no
//! descriptor may be left, and memory may not grow.
//!
//! `overload`: examples as servers, and more clients than they can take: 15,000 connections for
//! 1,024 descriptors, 1,000 clients that send a byte now and then, a flood of resets. Each time 100
//! good clients have to be served in time.
#![allow(clippy::unwrap_used, reason = "test code")]

#[cfg(target_os = "linux")]
mod kit;
#[cfg(target_os = "linux")]
mod overload;
#[cfg(target_os = "linux")]
mod steady;

#[cfg(target_os = "linux")]
fn main() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() != Some("--run") {
        println!("soak: nothing done; ci/soak runs it");
        return;
    }
    kit::raise_fd_limit();
    let word = args.next();
    if let Some(word) = word
        .as_deref()
        .filter(|word| !["steady", "overload"].contains(word))
    {
        eprintln!("soak: FAILED: no part is called {word}; there are steady and overload");
        std::process::exit(2);
    }
    let chosen = |name| word.as_deref().is_none_or(|word| word == name);
    let steady = !chosen("steady") || steady::run();
    let overload = !chosen("overload") || overload::run();
    let good = steady && overload;
    println!("soak: {}", if good { "all good" } else { "FAILED" });
    std::process::exit(i32::from(!good));
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("soak: memory and descriptors are read from /proc: nothing done");
}
