//! Models of the four cores that other threads touch. loom runs each of them once for every order
//! in which its threads can act, and for every value that a load may return by the memory model.
//! What runs is the library's own code; only what is below it, `sys::sync` and the wake-up pipe, is
//! exchanged.
//!
//! `ci/models` runs all of them, and checks that they fail when the library is broken.
//! `cargo run -- NAME...` runs those whose names begin with one of the words; `cargo run -- --list`
//! prints all names.

// Each model uses some of a module.
#![allow(dead_code, unused_imports, unused_macros)]

/// The bottom layer of the library: the tasks are its own, the rest are stand-ins.
#[path = "../../src/sys"]
mod sys {
    #[path = "../../tests/loom/sys/fork.rs"]
    pub(crate) mod fork;
    #[path = "../../tests/loom/sys/memory.rs"]
    pub(crate) mod memory;
    pub(crate) mod signal {
        pub(crate) mod gate;
    }
    #[path = "../../tests/loom/sys/sync.rs"]
    pub(crate) mod sync;
    pub(crate) mod task;
    pub(crate) mod thread_bound;
    #[path = "../../tests/loom/sys/wake_pipe.rs"]
    pub(crate) mod wake_pipe;
}

// The library's own.
#[path = "../../src/event_loop"]
mod event_loop {
    pub(crate) mod body;
    pub(crate) mod boundary;
    pub(crate) mod inbox;
    pub(crate) mod join_error;
    pub(crate) mod pool;
    pub(crate) mod tasks;
}

mod inbox;
mod jobs;
mod signals;
mod tasks;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// The claim that a model checks, and the model.
type Model = (&'static str, fn());

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let models = [inbox::MODELS, tasks::MODELS, jobs::MODELS, signals::MODELS].concat();
    if words == ["--list"] {
        models.iter().for_each(|(name, _)| println!("{name}"));
        return;
    }
    let wanted = models.into_iter().filter(|(name, _)| {
        words.is_empty() || words.iter().any(|word| name.starts_with(word.as_str()))
    });
    let mut n_models = 0;
    for (name, model) in wanted {
        let (begin, n_runs) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&n_runs);
        let mut builder = loom::model::Builder::new();
        // With more preemptions, a model of three threads takes hours. Each known defect needs two
        // at most. The queue of the pool, under one lock, is tried without a bound.
        if !name.starts_with("pool") {
            builder.preemption_bound = Some(4);
        }
        builder.check(move || {
            count.fetch_add(1, Ordering::Relaxed);
            model();
        });
        let (n_runs, seconds) = (
            n_runs.load(Ordering::Relaxed),
            begin.elapsed().as_secs_f64(),
        );
        println!("{name:<70} {n_runs:>8} orders {seconds:>6.1} s");
        n_models += 1;
    }
    assert!(n_models > 0, "no model has such a name");
}
