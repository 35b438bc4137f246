//! Checks that known defects are noticed: `ci/mutants` by the tests, `ci/models` by the models of
//! tests/loom. `ci/defects/run apply` only checks that all of them can still be put into the
//! sources. `patch` describes the files in which the defects are written down.

mod lane;
mod models;
mod mutants;
mod patch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use lane::Lane;
use patch::Patch;

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("it is in ci/defects")
        .into()
}

/// A line for an outcome is good or wrong. A wrong one is counted, and fails the run.
struct Line {
    is_good: bool,
    text: String,
}

/// Checks all patches in the lanes, and prints the lines, then the sums of what is called `what`.
/// Returns how many are wrong.
fn check_all(
    what: &str,
    begin: Instant,
    lanes: &mut [Lane],
    patches: &[Patch],
    check: impl Fn(&mut Lane, &Patch) -> Result<Vec<Line>, String> + Sync,
) -> Result<usize, String> {
    let n_wrong = AtomicUsize::new(0);
    lane::in_lanes(lanes, patches, |lane, patch| {
        for line in check(lane, patch)? {
            println!("{}", line.text);
            n_wrong.fetch_add(usize::from(!line.is_good), Ordering::Relaxed);
        }
        Ok(())
    })?;
    let n_wrong = n_wrong.into_inner();
    let n_controls = patches.iter().filter(|patch| patch.is_control()).count();
    let n_defects = patches.len() - n_controls;
    let seconds = begin.elapsed().as_secs();
    println!("{what}: {n_defects} defects, {n_controls} control, {n_wrong} wrong; {seconds} s");
    Ok(n_wrong)
}

/// Checks that all patches apply, which takes a second. Returns how many do not.
fn apply_all() -> Result<usize, String> {
    let sources = patch::sources(&root(), &["src", "top/src"])?;
    let (mut n_patches, mut n_wrong) = (0, 0);
    for folder in ["ci/mutants.d", "ci/models.d"] {
        for patch in patch::load(&root().join(folder))? {
            n_patches += 1;
            if let Err(message) = patch.apply(&sources) {
                n_wrong += 1;
                println!("{folder}/{}: {message}", patch.name);
            }
        }
    }
    println!("apply: {n_patches} patches, {n_wrong} wrong");
    Ok(n_wrong)
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let which = arguments.next().unwrap_or_default();
    let wanted = arguments.next().unwrap_or_default();
    let result = match which.as_str() {
        "mutants" => mutants::run(&wanted),
        "models" => models::run(&wanted),
        "apply" => apply_all(),
        _ => Err("the first argument is `mutants`, `models` or `apply`".to_owned()),
    };
    match result {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{which}: {message}");
            ExitCode::FAILURE
        }
    }
}
