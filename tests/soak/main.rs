//! Long runs and overload; `ci/soak` runs them in release. A binary of its own and no part of
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
    kit::raise_fd_limit();
    let word = std::env::args().nth(1);
    let all = ["steady", "overload"];
    let chosen = all
        .iter()
        .filter(|name| word.as_ref().is_none_or(|w| w == *name));
    let mut good = true;
    for name in chosen {
        good &= match *name {
            "steady" => steady::run(),
            _ => overload::run(),
        };
    }
    println!("soak: {}", if good { "all good" } else { "FAILED" });
    std::process::exit(i32::from(!good));
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("soak: memory and descriptors are read from /proc: nothing done");
}
