//! The fault matrix: every system call that the crate makes fails in every way that it may, and the
//! documented outcome is what is seen. `ci/faults` runs it and prints one line for each fault.
//!
//! strace makes the calls fail. The programs are the examples, with clients of this process, and
//! the purpose-made ones of `programs`, which check themselves. A fault is survived if what is
//! transient is not noticed, and everything else is an error of the one operation concerned, as
//! often as it was injected. Never may anything panic, hang, spin, leak a descriptor or lose a byte
//! of others. Every process runs under `timeout`.
//!
//! A binary of its own, and idle in `cargo test`, because it needs strace and is not short.
#![allow(clippy::unwrap_used, reason = "test code")]

#[cfg(target_os = "linux")]
mod clients;
#[cfg(target_os = "linux")]
mod programs;
#[cfg(target_os = "linux")]
mod rows;
#[cfg(target_os = "linux")]
mod runner;

#[cfg(target_os = "linux")]
fn main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("--program") => programs::run(&args.next().unwrap()),
        // A word chooses the rows whose line has it.
        Some("--matrix") => std::process::exit(runner::matrix(&args.next().unwrap_or_default())),
        _ => println!("faults: nothing done; ci/faults runs the matrix"),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("faults: strace is for Linux: nothing done");
}
