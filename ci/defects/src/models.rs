//! Runs the models of tests/loom, and checks that they notice known defects.
//!
//! A model tries every order in which threads can interact in the code that they share. First each
//! model must pass. Then each file of ci/models.d, a patch, breaks one piece of that code, and the
//! models in its `# fails:` lines must fail. A patch with the line `# control: must pass` changes no
//! behaviour, and the models in its `# passes:` lines must pass.

use std::time::{Duration, Instant};

use crate::lane::{End, Lane, Ran, errors, in_lanes, tail};
use crate::patch::{self, Patch, Source};
use crate::{Line, root};

const BUILD_LIMIT: Duration = Duration::from_secs(900);
/// All models of one file take a minute or two, and a broken one fails long before.
const LIMIT: Duration = Duration::from_secs(600);
/// What a model prints that has found an order in which the code goes wrong.
const SIGNS: [&str; 3] = ["deadlock; threads", "assertion", "panicked at"];

fn build(lane: &Lane) -> Result<Ran, String> {
    let manifest = ["--locked", "--manifest-path", "tests/loom/Cargo.toml"];
    lane.run(
        BUILD_LIMIT,
        &[&["cargo", "build", "--quiet"], &manifest[..]].concat(),
        "",
    )
}

fn run_models(lane: &Lane, names: &str) -> Result<Ran, String> {
    let program = lane.target().join("debug/models");
    lane.run(LIMIT, &[&program.to_string_lossy(), names], "")
}

/// Builds the models. Returns their names.
fn list(lane: &Lane) -> Result<Vec<String>, String> {
    let ran = build(lane)?;
    if ran.end != End::Success {
        return Err(format!("the models do not build\n{}", tail(&ran.log)));
    }
    let ran = run_models(lane, "--list")?;
    let names: Vec<_> = ran.log.split_whitespace().map(str::to_owned).collect();
    if ran.end != End::Success || names.is_empty() {
        return Err(format!("the models cannot be listed\n{}", tail(&ran.log)));
    }
    Ok(names)
}

/// Runs a model without a defect, and prints what it prints.
fn pass(lane: &Lane, model: &str) -> Result<(), String> {
    let mut ran = build(lane)?;
    if ran.end == End::Success {
        ran = run_models(lane, model)?;
    }
    if ran.end != End::Success {
        return Err(format!(
            "without a defect fails {model}\n{}",
            tail(&ran.log)
        ));
    }
    print!("{}", ran.log);
    Ok(())
}

fn row(patch: &Patch, outcome: &str, model: &str) -> String {
    format!("{:<42} {outcome:<15} {model}", patch.name)
}

/// The line of a patch's head that names its models.
fn models_of(patch: &Patch) -> Vec<&str> {
    patch.field(if patch.is_control() {
        "passes"
    } else {
        "fails"
    })
}

/// What an outcome is called, and whether it is the one that a defect, or a control, has to have.
fn judge(ran: &Ran, is_control: bool) -> (bool, &'static str) {
    match ran.end {
        End::Success if is_control => (true, "passes"),
        End::Success => (false, "PASSES"),
        End::TooLong => (false, "DOES NOT END"),
        // Others mean that the model itself is broken.
        End::Failure if !SIGNS.iter().any(|sign| ran.log.contains(sign)) => {
            (false, "ENDS STRANGELY")
        }
        End::Failure if is_control => (false, "CONTROL FAILS"),
        End::Failure => (true, "fails"),
    }
}

/// Runs the models of a defect. Returns a line for each.
fn check(
    lane: &mut Lane,
    patch: &Patch,
    sources: &[Source],
    names: &[String],
) -> Result<Vec<Line>, String> {
    let wrong = |text| {
        Ok(vec![Line {
            is_good: false,
            text,
        }])
    };
    match patch.apply(sources) {
        Ok(changed) => lane.write(&changed)?,
        Err(message) => return wrong(row(patch, &message, "")),
    }
    let ran = build(lane)?;
    if ran.end != End::Success {
        return wrong(row(patch, "DOES NOT BUILD", "") + "\n" + &errors(&ran.log));
    }
    let mut lines = Vec::new();
    for model in models_of(patch) {
        if !names.iter().any(|name| name.starts_with(model)) {
            lines.push(Line {
                is_good: false,
                text: row(patch, "NO SUCH MODEL", model),
            });
            continue;
        }
        let ran = run_models(lane, model)?;
        let (is_good, outcome) = judge(&ran, patch.is_control());
        let mut text = row(patch, outcome, model);
        if !is_good {
            text = text + "\n" + &tail(&ran.log);
        }
        lines.push(Line { is_good, text });
    }
    Ok(lines)
}

/// All controls, and those whose name begins with `wanted`.
fn select(wanted: &str) -> Result<Vec<Patch>, String> {
    let mut patches = patch::load(&root().join("ci/models.d"))?;
    if let Some(patch) = patches.iter().find(|patch| models_of(patch).is_empty()) {
        return Err(format!("{} names no model", patch.name));
    }
    patches.retain(|patch| patch.is_control() || patch.name.starts_with(wanted));
    if patches.iter().all(Patch::is_control) || !patches.iter().any(Patch::is_control) {
        return Err(format!(
            "there is no control, or no patch has a name that begins with {wanted:?}"
        ));
    }
    patches.sort_by_key(|patch| !patch.is_control());
    Ok(patches)
}

/// Returns how many outcomes are wrong.
pub(crate) fn run(wanted: &str) -> Result<usize, String> {
    let begin = Instant::now();
    let patches = select(wanted)?;
    let sources = patch::sources(&root(), &["src"])?;
    let mut lanes = Lane::make_all("models", &["src", "tests/loom"], &[("RUST_BACKTRACE", "0")])?;
    let names = list(&lanes[0])?;
    let group = wanted.split('-').next().unwrap_or_default();
    let models: Vec<_> = names
        .iter()
        .filter(|name| name.starts_with(group))
        .collect();
    if models.is_empty() {
        return Err(format!("no model has a name that begins with {group:?}"));
    }
    println!("models: the code as it is, in every order:");
    in_lanes(&mut lanes, models, |lane, model| pass(lane, model))?;
    println!("models: with a defect; {} s:", begin.elapsed().as_secs());

    crate::check_all("models", begin, &mut lanes, &patches, |lane, patch| {
        check(lane, patch, &sources, &names)
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
    fn a_model_has_to_find_the_defect_and_not_to_break() {
        assert_eq!(
            judged(End::Failure, "deadlock; threads = 2", false),
            (true, "fails")
        );
        assert_eq!(judged(End::Success, "", false), (false, "PASSES"));
        assert_eq!(
            judged(End::Failure, "killed", false),
            (false, "ENDS STRANGELY")
        );
        assert_eq!(judged(End::TooLong, "", false), (false, "DOES NOT END"));
    }

    #[test]
    fn a_control_has_to_pass() {
        assert_eq!(judged(End::Success, "", true), (true, "passes"));
        assert_eq!(
            judged(End::Failure, "panicked at", true),
            (false, "CONTROL FAILS")
        );
    }
}
