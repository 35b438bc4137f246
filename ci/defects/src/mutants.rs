//! Checks that the tests notice known defects.
//!
//! Each file of ci/mutants.d is a patch that puts one defect into a copy of the sources. Its
//! `# test:` lines name the tests that must then fail, as arguments of `cargo test`. With a line
//! `# cfg: NAME`, they are built with `--cfg NAME`; with `--examples` at the end of a test's line,
//! the examples are built, too. First each of these tests must pass without a defect; the time that
//! it takes then gives the limit for the runs with a defect. A patch with the line `# control: must
//! survive` changes no behaviour, and its tests must pass: otherwise the limit or the machine, and
//! not the tests, "notices" defects. A line `# kind: NAME` says that the defect stands for a kind of
//! fault that this crate once had; each kind of `KINDS` needs at least one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::lane::{End, Lane, Ran, errors, in_lanes, tail};
use crate::patch::{self, Patch, Source};
use crate::{Line, root};

const BUILD_LIMIT: Duration = Duration::from_secs(900);
const BASELINE_LIMIT: Duration = Duration::from_secs(600);
/// A test hangs if it takes this many times as long as without a defect.
const LIMIT_FACTOR: u32 = 10;
/// A short test may take longer than that, because the machine may pause it.
const MIN_LIMIT: Duration = Duration::from_secs(10);
const COPIED: [&str; 8] = [
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "src",
    "tests",
    "examples",
    "macros",
    "top",
];
/// Without debug information, which takes long to link. And a test that skips its work notices no
/// defect.
const ENVIRONMENT: [(&str, &str); 2] = [
    ("CARGO_PROFILE_DEV_DEBUG", "0"),
    ("FAHRENHEIT_TEST_NO_SKIPS", "1"),
];
/// Kinds of faults that reviews have found in this crate.
const KINDS: [&str; 9] = [
    "assumption", // a guess about the kernel prevents a call for good
    "backoff",    // readiness that no operation can consume takes a core
    "waiters",    // an entry of a task outlives its future, or displaces another
    "boundary",   // a panic of foreign code, or a call back, harms others
    "process",    // state of the whole process is looked at once and believed for ever
    "blocking",   // a call waits for what it does not need, or blocks the thread
    "files",      // what was acknowledged is lost, or out of order
    "identity",   // a descriptor is not what it was
    "cost",       // work or memory out of proportion
];

/// A line `# test:`, and the name after `# cfg:`, or "".
type Test = (String, String);

fn tests_of(patch: &Patch) -> Vec<Test> {
    let cfg = patch.field("cfg").first().copied().unwrap_or_default();
    patch
        .field("test")
        .iter()
        .map(|test| (cfg.to_owned(), test.to_string()))
        .collect()
}

/// The arguments that select the test binary: `--lib` or `--test NAME`, with `--features NAMES` or
/// `--package NAME` before it.
fn binary(test: &str) -> Vec<&str> {
    let words: Vec<_> = test.split_whitespace().collect();
    let is_end = |word: &&str| ["--lib", "--test"].contains(word);
    let end = words.iter().position(is_end).unwrap_or(0);
    let n_words = end + if words[end] == "--lib" { 1 } else { 2 };
    words.into_iter().take(n_words).collect()
}

fn needs_examples(test: &str) -> bool {
    test.split_whitespace().any(|word| word == "--examples")
}

/// Builds what these tests need.
fn build(lane: &Lane, tests: &[Test]) -> Result<Ran, String> {
    let cfg = &tests[0].0;
    if tests.iter().any(|(_, test)| needs_examples(test)) {
        // `cargo test` builds examples as programs only if it is to run all tests.
        let examples = ["cargo", "build", "--quiet", "--examples"];
        let ran = lane.run(BUILD_LIMIT, &examples, cfg)?;
        if ran.end != End::Success {
            return Ok(ran);
        }
    }
    // Binaries with equal features are built by one command.
    let mut groups = BTreeMap::<Vec<&str>, BTreeSet<Vec<&str>>>::new();
    for (_, test) in tests {
        let words = binary(test);
        let is_target = |word: &&str| ["--lib", "--test"].contains(word);
        let (head, target) = words.split_at(words.iter().position(is_target).unwrap_or(0));
        let targets = groups.entry(head.to_vec()).or_default();
        targets.insert(target.to_vec());
    }
    let mut last = None;
    for (head, targets) in groups {
        let mut command = vec!["cargo", "test", "--quiet", "--no-run"];
        command.extend(head);
        command.extend(targets.into_iter().flatten());
        let ran = lane.run(BUILD_LIMIT, &command, cfg)?;
        if ran.end != End::Success {
            return Ok(ran);
        }
        last = Some(ran);
    }
    last.ok_or_else(|| "no test is to be built".to_owned())
}

fn run_test(lane: &Lane, limit: Duration, (cfg, test): &Test) -> Result<Ran, String> {
    let words = test.split_whitespace().filter(|word| *word != "--examples");
    let command: Vec<_> = ["cargo", "test", "--quiet"]
        .into_iter()
        .chain(words)
        .collect();
    lane.run(limit, &command, cfg)
}

/// The number of tests that a log of `cargo test` reports; of the fault matrix, of rows.
fn n_tests_run(log: &str) -> u32 {
    let count = |line: &str| {
        let tests = line
            .strip_prefix("running ")
            .filter(|rest| rest.contains(" test"));
        let number = tests.or_else(|| {
            line.strip_prefix("faults: ")
                .filter(|r| r.contains(" rows"))
        });
        number.and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok())
    };
    log.lines().filter_map(count).sum()
}

/// Runs a test without a defect. Returns how long it takes.
fn measure(lane: &Lane, test: &Test) -> Result<Duration, String> {
    let ran = build(lane, std::slice::from_ref(test))?;
    if ran.end != End::Success {
        return Err(format!(
            "does not build without a defect: {}\n{}",
            test.1,
            tail(&ran.log)
        ));
    }
    let ran = run_test(lane, BASELINE_LIMIT, test)?;
    if ran.end != End::Success {
        return Err(format!(
            "fails without a defect: {}\n{}",
            test.1,
            tail(&ran.log)
        ));
    }
    match n_tests_run(&ran.log) {
        0 => Err(format!("there is no such test: {}", test.1)),
        _ => Ok(ran.took),
    }
}

fn row(patch: &Patch, outcome: &str, seconds: &str, test: &str) -> String {
    format!("{:<46} {outcome:<15} {seconds:>11} {test}", patch.name)
}

/// What an outcome is called, and whether it is the one that a defect, or a control, has to have.
fn judge(ran: &Ran, is_control: bool) -> (bool, &'static str) {
    match ran.end {
        End::TooLong | End::Failure if is_control => (false, "CONTROL FAILS"),
        End::TooLong => (true, "noticed (hangs)"),
        _ if n_tests_run(&ran.log) == 0 => (false, "NO TEST RAN"),
        End::Success if is_control => (true, "survives"),
        End::Success => (false, "SURVIVES"),
        End::Failure => (true, "noticed"),
    }
}

/// Runs the tests of a defect. Returns a line for each.
fn check(
    lane: &mut Lane,
    patch: &Patch,
    sources: &[Source],
    baselines: &BTreeMap<Test, Duration>,
) -> Result<Vec<Line>, String> {
    let wrong = |text| {
        Ok(vec![Line {
            is_good: false,
            text,
        }])
    };
    match patch.apply(sources) {
        Ok(changed) => lane.write(&changed)?,
        Err(message) => return wrong(row(patch, &message, "", "")),
    }
    let tests = tests_of(patch);
    let ran = build(lane, &tests)?;
    if ran.end != End::Success {
        return wrong(row(patch, "DOES NOT BUILD", "", "") + "\n" + &errors(&ran.log));
    }
    let mut lines = Vec::new();
    for test in &tests {
        let baseline = baselines[test];
        let ran = run_test(lane, MIN_LIMIT.max(baseline * LIMIT_FACTOR), test)?;
        let (is_good, outcome) = judge(&ran, patch.is_control());
        let seconds = format!(
            "{:.1} {:.1}",
            baseline.as_secs_f32(),
            ran.took.as_secs_f32()
        );
        let mut text = row(patch, outcome, &seconds, &test.1);
        if !is_good {
            text = text + "\n" + &tail(&ran.log);
        }
        lines.push(Line { is_good, text });
    }
    Ok(lines)
}

/// Those whose name contains `wanted`, and all controls.
fn select(wanted: &str) -> Result<Vec<Patch>, String> {
    let mut patches = patch::load(&root().join("ci/mutants.d"))?;
    if let Some(patch) = patches.iter().find(|patch| patch.field("test").is_empty()) {
        return Err(format!("{} names no test", patch.name));
    }
    let kinds: BTreeSet<_> = patches
        .iter()
        .flat_map(|patch| patch.field("kind"))
        .collect();
    if kinds != BTreeSet::from(KINDS) {
        return Err(format!(
            "patches stand for the kinds {kinds:?}, and not for {KINDS:?}"
        ));
    }
    patches.retain(|patch| patch.is_control() || patch.name.contains(wanted));
    if patches.iter().all(Patch::is_control) || !patches.iter().any(Patch::is_control) {
        return Err(format!(
            "there is no control, or no patch has a name with {wanted:?}"
        ));
    }
    // Patches that need the same test binaries are neighbours.
    patches.sort_by_cached_key(|patch| {
        let mut key: Vec<_> = tests_of(patch)
            .iter()
            .map(|(cfg, test)| (cfg.clone(), binary(test).concat()))
            .collect();
        key.sort();
        key
    });
    Ok(patches)
}

/// Returns how many outcomes are wrong.
pub(crate) fn run(wanted: &str) -> Result<usize, String> {
    let begin = Instant::now();
    let patches = select(wanted)?;
    let sources = patch::sources(&root(), &["src", "top/src"])?;
    let mut lanes = Lane::make_all("mutants", &COPIED, &ENVIRONMENT)?;
    let tests: BTreeSet<Test> = patches.iter().flat_map(tests_of).collect();

    let baselines = Mutex::new(BTreeMap::new());
    in_lanes(&mut lanes, tests, |lane, test| {
        let took = measure(lane, &test)?;
        baselines
            .lock()
            .expect("no lane panics with the lock")
            .insert(test, took);
        Ok(())
    })?;
    let baselines = baselines
        .into_inner()
        .expect("no lane panics with the lock");
    let seconds = begin.elapsed().as_secs();
    println!(
        "mutants: {} tests pass without a defect; {seconds} s",
        baselines.len()
    );
    println!(
        "{:<46} {:<15} {:>11} test",
        "defect", "outcome", "s before, s"
    );

    crate::check_all("mutants", begin, &mut lanes, &patches, |lane, patch| {
        check(lane, patch, &sources, &baselines)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(end: End, log: &str, is_control: bool) -> (bool, &'static str) {
        judge(
            &Ran {
                end,
                log: log.to_owned(),
                took: Duration::ZERO,
            },
            is_control,
        )
    }

    #[test]
    fn a_defect_has_to_fail_a_test_that_ran() {
        assert_eq!(
            judged(End::Failure, "running 2 tests\n", false),
            (true, "noticed")
        );
        assert_eq!(judged(End::TooLong, "", false), (true, "noticed (hangs)"));
        assert_eq!(
            judged(End::Success, "running 1 test\n", false),
            (false, "SURVIVES")
        );
        assert_eq!(
            judged(End::Success, "running 0 tests\n", false),
            (false, "NO TEST RAN")
        );
        assert_eq!(
            judged(End::Failure, "error: no such file\n", false),
            (false, "NO TEST RAN")
        );
    }

    #[test]
    fn a_control_has_to_survive() {
        assert_eq!(
            judged(End::Success, "running 1 test\n", true),
            (true, "survives")
        );
        assert_eq!(
            judged(End::Failure, "running 1 test\n", true),
            (false, "CONTROL FAILS")
        );
        assert_eq!(
            judged(End::TooLong, "running 1 test\n", true),
            (false, "CONTROL FAILS")
        );
        assert_eq!(judged(End::Success, "", true), (false, "NO TEST RAN"));
    }

    #[test]
    fn tests_and_rows_are_counted() {
        assert_eq!(n_tests_run("running 3 tests\n...\nrunning 1 test\n"), 4);
        assert_eq!(n_tests_run("faults: 17 rows, 0 wrong\n"), 17);
        assert_eq!(n_tests_run("running for a while\n"), 0);
    }

    #[test]
    fn a_line_names_its_binary() {
        assert_eq!(binary("--lib sys::"), ["--lib"]);
        assert_eq!(binary("--test it a_ --examples"), ["--test", "it"]);
        let features = ["--features", "sim", "--test", "it"];
        assert_eq!(binary("--features sim --test it network::"), features);
        let package = ["--package", "fahrenheit-top", "--test", "pty"];
        assert_eq!(binary("--package fahrenheit-top --test pty a"), package);
        assert!(needs_examples("--test it a_ --examples") && !needs_examples("--lib a"));
    }
}
