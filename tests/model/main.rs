//! Random sequences of everything that programs do to a loop, against a model that says what must
//! come of it. A process of its own, because it counts descriptors and forks.
//!
//! `FAHRENHEIT_SEED` is the seed of the first sequence, each next one has the next number, and
//! `FAHRENHEIT_SEQUENCES` says how many there are. What fails is made as short as it can be.
#![cfg(feature = "unix")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "no forks there"))]

mod check;
mod forks;
mod links;
mod model;
mod script;
mod sequence;
mod steps;
mod tasks;
mod world;

use script::{Step, script};
use sequence::{free_descriptors, keep_messages, try_sequence};
use std::fs::File;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A sequence that takes longer hangs.
const LONGEST: u64 = 30;

/// The seed that is being tried, and how many sequences have been begun.
static SEED: Mutex<u64> = Mutex::new(0);
static N_BEGUN: AtomicUsize = AtomicUsize::new(0);

/// A hang is a result as well.
fn watch() {
    thread::spawn(|| {
        loop {
            let before = N_BEGUN.load(Ordering::SeqCst);
            thread::sleep(Duration::from_secs(LONGEST));
            if N_BEGUN.load(Ordering::SeqCst) == before {
                let seed = *SEED.lock().unwrap();
                // Not `eprintln!`, which the test harness would keep to itself.
                let _ = writeln!(
                    std::io::stderr(),
                    "a sequence hangs: FAHRENHEIT_SEED={seed} FAHRENHEIT_SEQUENCES=1"
                );
                std::process::abort();
            }
        }
    });
}

/// Leaves out steps, and then operations, for as long as the rest fails as well.
fn shrink(mut steps: Vec<Step>, fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    let mut index = steps.len();
    while index > 0 {
        index -= 1;
        let removed = steps.remove(index);
        if !fails(&steps) {
            steps.insert(index, removed);
        }
    }
    for index in (0..steps.len()).rev() {
        for position in (0..steps[index].ops.len()).rev() {
            let removed = steps[index].ops.remove(position);
            if !fails(&steps) {
                steps[index].ops.insert(position, removed);
            }
        }
    }
    steps
}

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(number) => number.parse().expect(name),
        Err(_) => default,
    }
}

#[test]
fn random_sequences_do_what_the_model_says() {
    let first = number("FAHRENHEIT_SEED", 1);
    let n = number("FAHRENHEIT_SEQUENCES", 1_000);
    println!("FAHRENHEIT_SEED={first} FAHRENHEIT_SEQUENCES={n}");
    keep_messages();
    let file = File::open("/dev/null").unwrap();
    watch();
    // The first may open what stays.
    drop(try_sequence(&script(first), &file, &[]));
    let free = free_descriptors(&file);
    let begun = Instant::now();
    for seed in first..first + n {
        *SEED.lock().unwrap() = seed;
        N_BEGUN.fetch_add(1, Ordering::SeqCst);
        let steps = script(seed);
        let Err(message) = try_sequence(&steps, &file, &free) else {
            continue;
        };
        let fails = |steps: &[Step]| {
            N_BEGUN.fetch_add(1, Ordering::SeqCst);
            try_sequence(steps, &file, &free).is_err()
        };
        let steps = shrink(steps, fails);
        let _ = std::panic::take_hook();
        for step in steps {
            println!("{:?} {:?}", step.place, step.ops);
        }
        panic!("FAHRENHEIT_SEED={seed} FAHRENHEIT_SEQUENCES=1: {message}");
    }
    println!("{n} sequences in {:?}", begun.elapsed());
    let _ = std::panic::take_hook();
}
