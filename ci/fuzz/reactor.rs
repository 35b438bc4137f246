//! The sequences of tests/model, chosen by a fuzzer that sees which code they reach: tasks, wakes,
//! descriptors in both pollers, timers, several runs. What is not as the model says is a panic.
//! Cargo.toml says how to run it.
#![no_main]

#[path = "../../tests/model/check.rs"]
mod check;
#[path = "../../tests/model/forks.rs"]
mod forks;
#[path = "../../tests/model/links.rs"]
mod links;
#[path = "../../tests/model/model.rs"]
mod model;
#[path = "../../tests/model/script.rs"]
mod script;
#[path = "../../tests/model/sequence.rs"]
#[allow(dead_code, reason = "here a panic is printed and ends the process")]
mod sequence;
#[path = "../../tests/model/steps.rs"]
mod steps;
#[path = "../../tests/model/tasks.rs"]
mod tasks;
#[path = "../../tests/model/world.rs"]
mod world;

use libfuzzer_sys::fuzz_target;
use nix::sys::signal::{SigSet, Signal};
use script::{Place, Rng, script_of};
use std::fs::File;
use std::sync::OnceLock;

fuzz_target!(|bytes: Vec<u8>| {
    static FILE: OnceLock<File> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        // No `main` of Rust has had this signal ignored, and a pipe may have lost its reader.
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGPIPE);
        signals.thread_block().expect("signals can be blocked");
        File::open("/dev/null").expect("every system has it")
    });
    let mut steps = script_of(&mut Rng::Bytes(bytes.into_iter()));
    // A child would be a second fuzzer.
    steps.retain(|step| !matches!(step.place, Place::Fork { .. }));
    let free = sequence::free_descriptors(file);
    if let Err(message) = sequence::try_sequence(&steps, file, &free) {
        panic!("{message}\n{steps:?}");
    }
});
