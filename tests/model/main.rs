//! Random sequences of everything that programs do to a loop, against a model that says what must
//! come of it. A process of its own, because it counts descriptors and forks.
//!
//! `FAHRENHEIT_SEED` is the seed of the first sequence, each next one has the next number, and
//! `FAHRENHEIT_SEQUENCES` says how many there are. What fails is made as short as it can be.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod check;
#[cfg(target_os = "linux")]
mod forks;
mod links;
mod model;
mod script;
mod steps;
mod tasks;
mod world;

use script::{Step, script, shrink};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use steps::Remains;

/// More descriptors than a sequence has at once.
const MANY: usize = 32;

/// A sequence that takes longer hangs.
const LONGEST: u64 = 60;

/// The message of the last panic, which nobody prints.
static MESSAGE: Mutex<String> = Mutex::new(String::new());

/// The seed that is being tried, and how many sequences have been begun.
static SEED: AtomicU64 = AtomicU64::new(0);
static N_BEGUN: AtomicUsize = AtomicUsize::new(0);

/// What the last panic said.
fn last_message() -> String {
    std::mem::take(&mut MESSAGE.lock().unwrap())
}

/// The next descriptors that would be opened.
fn free_descriptors(file: &File) -> Vec<i32> {
    let files = (0..MANY).map(|_| file.try_clone().expect("descriptors are left"));
    let files: Vec<File> = files.collect();
    files.iter().map(AsRawFd::as_raw_fd).collect()
}

/// Does a sequence, on a thread and with a loop of its own, and looks what is left of it.
fn try_sequence(steps: &[Step], file: &File, free: &[i32]) -> Result<(), String> {
    N_BEGUN.fetch_add(1, Ordering::SeqCst);
    let joined = thread::scope(|scope| scope.spawn(|| steps::run(steps)).join());
    let Ok(Remains { probes, wakers }) = joined else {
        return Err(last_message());
    };
    // The loop is gone: nobody is there to be woken.
    let n_polls = |probes: &[std::sync::Arc<tasks::Probe>]| -> usize {
        probes.iter().map(|probe| probe.polls()).sum()
    };
    let n_before = n_polls(&probes);
    wakers.into_iter().for_each(std::task::Waker::wake);
    if n_polls(&probes) != n_before {
        return Err("a task was polled after the end of its loop".to_owned());
    }
    for (id, probe) in probes.iter().enumerate() {
        let n_drops = probe.n_drops.load(Ordering::SeqCst);
        let n_outputs = probe.n_outputs.load(Ordering::SeqCst);
        let n_outputs_dropped = probe.n_outputs_dropped.load(Ordering::SeqCst);
        if (n_drops, n_outputs) != (1, n_outputs_dropped) || n_outputs > 1 {
            return Err(format!(
                "task {id} was dropped {n_drops} times, \
                 and its output {n_outputs_dropped} times of {n_outputs}"
            ));
        }
    }
    if free_descriptors(file) != free {
        return Err("a descriptor was left open".to_owned());
    }
    Ok(())
}

/// A hang is a result as well.
fn watch() {
    thread::spawn(|| {
        loop {
            let before = N_BEGUN.load(Ordering::SeqCst);
            thread::sleep(Duration::from_secs(LONGEST));
            if N_BEGUN.load(Ordering::SeqCst) == before {
                let seed = SEED.load(Ordering::SeqCst);
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

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(number) => number.parse().expect(name),
        Err(_) => default,
    }
}

#[test]
fn g23_random_sequences_do_what_the_model_says() {
    let first = number("FAHRENHEIT_SEED", 1);
    let n = number("FAHRENHEIT_SEQUENCES", 1_500);
    println!("FAHRENHEIT_SEED={first} FAHRENHEIT_SEQUENCES={n}");
    std::panic::set_hook(Box::new(|info| {
        *MESSAGE.lock().unwrap() = info.to_string();
    }));
    let file = File::open("/dev/null").unwrap();
    watch();
    // The first may open what stays.
    drop(try_sequence(&script(first), &file, &[]));
    let free = free_descriptors(&file);
    let begun = Instant::now();
    for seed in first..first + n {
        SEED.store(seed, Ordering::SeqCst);
        let steps = script(seed);
        let Err(message) = try_sequence(&steps, &file, &free) else {
            continue;
        };
        let fails = |steps: &[Step]| try_sequence(steps, &file, &free).is_err();
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
