//! How much memory a copy takes. The high-water mark belongs to the whole process, so that the test
//! runs in a process of its own.
#![cfg(all(target_os = "linux", feature = "fs"))]

use crate::util::alone;
use fahrenheit::fs;
use fahrenheit::prelude::*;
use nix::sys::resource::{UsageWho, getrusage};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The most memory that this process has ever had, in KiB.
fn high_water_kib() -> std::ffi::c_long {
    getrusage(UsageWho::RUSAGE_SELF).unwrap().max_rss()
}

/// Mebibyte number `n`, unlike all others.
fn mebibyte(n: u64) -> Vec<u8> {
    let word = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    word.iter().copied().cycle().take(1 << 20).collect()
}

fn fill(path: &Path, n_mib: u64) {
    let mut file = std::fs::File::create(path).unwrap();
    (0..n_mib).for_each(|n| file.write_all(&mebibyte(n)).unwrap());
}

fn check(path: &Path, n_mib: u64) {
    let mut file = std::fs::File::open(path).unwrap();
    let mut bytes = vec![0; 1 << 20];
    for n in 0..n_mib {
        file.read_exact(&mut bytes).unwrap();
        assert!(bytes == mebibyte(n), "mebibyte {n}");
    }
    assert_eq!(file.read(&mut bytes).unwrap(), 0);
}

/// For a large file, say how large:
/// `COPY_MIB=1024 cargo test --test files memory:: -- --nocapture`.
#[test]
fn copying_a_file_takes_the_same_memory_however_long_it_is() {
    if let Some(text) = alone(test_name!(), copy) {
        print!("{text}");
    }
}

fn copy() {
    let n_mib = std::env::var("COPY_MIB").map_or(64, |text| text.parse().unwrap());
    let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let name = |end| scratch.join(format!("memory-{}-{end}", std::process::id()));
    let (from, to) = (name("from"), name("to"));
    fill(&from, n_mib);
    let (before, start) = (high_water_kib(), Instant::now());
    let copied = fahrenheit::run(async {
        let mut from = fs::File::open(&from).await?;
        let mut to = fs::File::create(&to).await?;
        let n_bytes = futures_util::io::copy(&mut from, &mut to).await?;
        to.close().await?;
        std::io::Result::Ok(n_bytes)
    });
    let (grown, took) = (high_water_kib() - before, start.elapsed());
    assert_eq!(copied.unwrap(), n_mib << 20);
    println!("{n_mib} MiB copied in {took:?}; memory has grown by {grown} KiB");
    // Two buffers, two threads with the little of their stacks that they use.
    assert!(grown < 8 << 10, "memory has grown by {grown} KiB");
    check(&to, n_mib);
    std::fs::remove_file(from).unwrap();
    std::fs::remove_file(to).unwrap();
}
