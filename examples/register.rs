//! Finds a fault that only few orders of events show: runs a small replicated register on a
//! simulated network, once for each seed.
//!
//! `cargo run --example register --features sim -- faulty` finds the planted fault and says which
//! task waits for what; `-- right` runs the variant without it. `FAHRENHEIT_SEED=17` repeats one
//! seed. In a project, the same is a test:
//!
//! ```ignore
//! #[fahrenheit::test(virtual_clock, seeds = 500)]
//! async fn the_register_agrees() -> std::io::Result<()> {
//!     register::two_writers(Locking::OneByOne).await
//! }
//! ```

#[path = "shared/register.rs"]
mod register;

use register::{Locking, two_writers};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

const N_SEEDS: u64 = 500;

/// Runs the test under one seed, or in the usual order. Returns whether it has passed.
fn passes(locking: Locking, seed: Option<u64>) -> bool {
    let builder = fahrenheit::Builder::new()
        .virtual_clock(true)
        .panic_when_stuck(true);
    let builder = match seed {
        Some(seed) => builder.seed(seed),
        None => builder,
    };
    let run = || builder.block_on(two_writers(locking));
    // A panic has been printed. With `#[fahrenheit::test]` nothing of this is needed.
    let outcome = catch_unwind(AssertUnwindSafe(run));
    fahrenheit::drop_all_tasks();
    matches!(outcome, Ok(Ok(Ok(()))))
}

fn main() {
    let locking = match std::env::args().nth(1).as_deref() {
        Some("faulty") => Locking::AllAtOnce,
        Some("right") | None => Locking::OneByOne,
        Some(other) => {
            eprintln!("unknown variant {other:?}: use `faulty` or `right`");
            std::process::exit(2);
        }
    };
    let start = Instant::now();
    println!("the usual order passes: {}", passes(locking, None));
    let failing: Vec<_> = (0..N_SEEDS)
        .filter(|&seed| !passes(locking, Some(seed)))
        .collect();
    let (n, took) = (failing.len(), start.elapsed());
    println!("{n} of {N_SEEDS} seeds show the fault, in {took:.1?}: {failing:?}");
    std::process::exit(i32::from(n > 0));
}
