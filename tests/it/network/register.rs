//! The replicated register of `examples/register.rs`: a planted fault is found by few seeds, and
//! the variant without it passes under all of them.

#[path = "../../../examples/shared/register.rs"]
mod register;

use fahrenheit::Builder;
use register::{Locking, two_writers};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// Runs the register under one seed, or in the usual order. Returns why it has failed.
fn failure(locking: Locking, seed: Option<u64>) -> Option<String> {
    let builder = Builder::new().virtual_clock(true).panic_when_stuck(true);
    let builder = match seed {
        Some(seed) => builder.seed(seed),
        None => builder,
    };
    let run = || builder.block_on(two_writers(locking)).unwrap().unwrap();
    let outcome = catch_unwind(AssertUnwindSafe(run));
    fahrenheit::drop_all_tasks();
    outcome
        .err()
        .map(|payload| *payload.downcast::<String>().unwrap())
}

#[test]
fn few_seeds_show_the_planted_deadlock_and_the_usual_order_does_not() {
    let real = Instant::now();
    assert_eq!(failure(Locking::AllAtOnce, None), None);
    let failing = || -> Vec<(u64, String)> {
        let found = (0..500).map(|seed| (seed, failure(Locking::AllAtOnce, Some(seed))));
        found
            .filter_map(|(seed, text)| Some((seed, text?)))
            .collect()
    };
    let found = failing();
    let seeds: Vec<_> = found.iter().map(|(seed, _)| *seed).collect();
    println!(
        "{} of 500 seeds in {:?}: {seeds:?}",
        seeds.len(),
        real.elapsed()
    );
    assert!((1..100).contains(&found.len()), "{seeds:?}");
    // The report shows the fault: each writer waits for a node whose lock the other one holds.
    for (seed, text) in &found {
        for part in [
            "\"writer-1\"",
            "\"writer-2\"",
            "awaits the event of descriptor",
            "from node-",
        ] {
            assert!(text.contains(part), "seed {seed}: {text}");
        }
    }
    let again: Vec<_> = failing().into_iter().map(|(seed, _)| seed).collect();
    assert_eq!(seeds, again, "each of them shows it again");
}

#[test]
fn the_register_without_the_fault_passes_under_all_seeds() {
    assert_eq!(failure(Locking::OneByOne, None), None);
    for seed in 0..500 {
        assert_eq!(failure(Locking::OneByOne, Some(seed)), None, "seed {seed}");
    }
}
