//! Not a test: prints at the end of `cargo test` which tests were skipped, because the test harness
//! hides what a test prints. Cargo runs the test binaries in the order of their names, and the name
//! of this one is the last.

#[path = "util/mod.rs"]
mod util;

use std::time::Duration;

fn main() {
    let path = util::skips();
    if let Ok(text) = std::fs::read_to_string(&path) {
        eprint!("\n{text}");
        eprintln!(
            "{} tests were SKIPPED, as listed above; with FAHRENHEIT_TEST_NO_SKIPS=1 they fail\n",
            text.lines().count()
        );
        // A later `cargo test` may have the same process number.
        std::fs::remove_file(&path).expect("this process owns the target directory");
    }
    remove_old_reports();
}

/// Removes the reports of runs that did not get here.
fn remove_old_reports() {
    let entries = std::fs::read_dir(env!("CARGO_TARGET_TMPDIR"))
        .into_iter()
        .flatten();
    for entry in entries.flatten() {
        let is_report = entry.file_name().to_string_lossy().starts_with("skipped-");
        let age = entry
            .metadata()
            .and_then(|data| data.modified())
            .map(|modified| modified.elapsed().unwrap_or_default());
        if is_report && age.is_ok_and(|age| age > Duration::from_secs(3_600)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
