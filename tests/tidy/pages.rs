//! What the pages for readers promise: each promise names tests or defects, and they exist.

use super::{files, none, read};

/// The rows of the table below `heading`, cell by cell, without its head.
fn table(path: &str, heading: &str) -> Vec<Vec<String>> {
    let text = read(path).unwrap_or_else(|| panic!("{path} is not there"));
    let rows = text.lines().skip_while(|line| *line != heading);
    let rows = rows.skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    let cells = |row: &str| {
        let row = row.trim_start_matches("| ").trim_end_matches(" |");
        row.split(" | ").map(str::to_owned).collect()
    };
    rows.map(cells).collect()
}

#[test]
fn each_promise_of_the_readme_has_defects_that_its_tests_notice() {
    let promises = table("README.md", "## What is promised, and where it is tested");
    let heading = "## The README";
    let defects = table("tests/PROMISES.md", heading);
    let first = |rows: &[Vec<String>]| rows.iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    assert!(promises.len() > 10);
    assert_eq!(first(&promises), first(&defects));
    none(missing_patches(&defects));
}

/// The patches that do not exist among those that the second column of a table names.
fn missing_patches(rows: &[Vec<String>]) -> Vec<String> {
    let names = rows.iter().filter(|row| !row[1].starts_with("none: "));
    let names: Vec<_> = names.flat_map(|row| row[1].split(", ")).collect();
    assert!(names.len() > 10, "{names:?}");
    let paths = names.iter().map(|name| match name.starts_with('*') {
        true => format!("ci/models.d/{}.patch", name.trim_matches('*')),
        false => format!("ci/mutants.d/{}.patch", name.trim_matches('`')),
    });
    paths.filter(|path| read(path).is_none()).collect()
}

/// The words in bold with which a paragraph of this section begins.
fn bold_beginnings(path: &str, heading: &str) -> Vec<String> {
    let text = read(path).unwrap_or_else(|| panic!("{path} is not there"));
    let section = text.lines().skip_while(|line| *line != heading).skip(1);
    let section = section.take_while(|line| !line.starts_with("## "));
    let bold = section.filter_map(|line| line.strip_prefix("**")?.split_once(".**"));
    bold.map(|(words, _)| words.to_owned()).collect()
}

#[test]
fn each_promise_about_security_and_platforms_has_defects_that_its_tests_notice() {
    let first = |rows: &[Vec<String>]| rows.iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    let heading = "## What is promised against a hostile peer";
    let promises = first(&table("SECURITY.md", heading));
    let defects = table("tests/PROMISES.md", "## Security");
    assert_eq!(promises, first(&defects));
    none(missing_patches(&defects));

    let promises = bold_beginnings("PLATFORMS.md", "## What differs for a user");
    let defects = table("tests/PROMISES.md", "## Platforms");
    assert_eq!(promises, first(&defects));
    none(missing_patches(&defects));
}

/// Those of `names` that no test has.
fn absent_tests<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut all = files("src", ".rs");
    all.extend(files("tests", ".rs"));
    let is_there = |name: &str| {
        let code = format!("fn {name}()");
        all.iter().any(|file| file.text.contains(&code))
    };
    names
        .filter(|name| !is_there(name))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_test_that_the_security_promises_name_is_there() {
    let text = read("SECURITY.md").expect("there are promises");
    let tests = text.split('`').skip(1).step_by(2);
    let tests: Vec<_> = tests
        .filter(|name| name.contains('_') && !name.contains([' ', '/', ':']))
        .collect();
    assert!(tests.len() > 10, "{tests:?}");
    none(absent_tests(tests.into_iter()));
}

#[test]
fn each_documented_delay_and_size_names_tests_of_both_sides() {
    let heading = "## Documented delays and sizes, and the tests of both sides";
    let claims = table("tests/PROMISES.md", heading);
    assert!(claims.len() > 15);
    let named = claims.iter().flat_map(|row| &row[1..3]);
    none(absent_tests(named.map(|name| name.trim_matches('`'))));
}
