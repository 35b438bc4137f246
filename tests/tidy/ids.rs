//! The ids of hazards and capabilities: each has a test, each test that is named exists, and no id
//! is part of a name.

use super::{File, files, none, read, words};
use std::collections::BTreeSet;

/// The rows of all tables of a page, cell by cell, without their heads.
fn rows(page: &str) -> Vec<Vec<String>> {
    let text = read(page).unwrap_or_else(|| panic!("{page} is not there"));
    let rows = text.lines().filter(|line| line.starts_with("| "));
    let cells = |row: &str| {
        let row = row.trim_start_matches('|').trim_end_matches('|');
        row.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let rows = rows.map(cells);
    rows.filter(|cells: &Vec<String>| cells[0] != "Id")
        .collect()
}

/// What stands between backquotes in a cell.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The ids of hazards and capabilities: letters, and how many there are of each.
fn expected(kinds: &[(&str, usize)]) -> Vec<String> {
    let of = |&(letters, n): &(&str, usize)| -> Vec<String> {
        (1..=n).map(|number| format!("{letters}{number}")).collect()
    };
    kinds.iter().flat_map(of).collect()
}

/// Whether a line, or the one after it, makes `name` a test: by an attribute, or as an entry of a
/// macro that makes tests.
fn is_test(file: &File, name: &str) -> bool {
    let lines: Vec<_> = file.text.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(n, line)| {
        let is_function = line.contains(&format!("fn {name}("));
        let mut above = lines[..n].iter().rev().take_while(|line| !line.is_empty());
        let is_entry = line.split(' ').next() == Some(name) && line.ends_with(';');
        is_function && above.any(|line| line.ends_with("test]")) || is_entry
    })
}

/// Why `label` names nothing that is there: it is `BINARY NAME` with the arguments that run a test,
/// `lib NAME`, or a path.
fn complaint(label: &str, all: &[File]) -> Option<String> {
    let Some((binary, path)) = label.split_once(' ') else {
        return read(label).is_none().then(|| format!("no file {label}"));
    };
    let name = path.rsplit("::").next().unwrap_or(path);
    let module = path.split_once("::").map_or("main", |(module, _)| module);
    let folder = if binary == "lib" {
        "src/".to_owned()
    } else {
        format!("tests/{binary}/")
    };
    let is_there = all.iter().any(|file| {
        let inside = file.path.strip_prefix(&folder);
        let fits = binary == "lib" || binary == "tidy";
        inside.is_some_and(|path| fits || path.starts_with(module)) && is_test(file, name)
    });
    (!is_there).then(|| format!("no test {label}"))
}

#[test]
fn each_hazard_and_each_capability_has_tests_that_exist() {
    let mut all = files("src", ".rs");
    all.extend(files("tests", ".rs"));
    let hazards = [
        ("A", 20),
        ("B", 12),
        ("C", 14),
        ("D", 8),
        ("E", 18),
        ("F", 10),
        ("G", 11),
        ("H", 7),
        ("I", 6),
        ("J", 10),
    ];
    let capabilities = [("SE", 19), ("SH", 12), ("SF", 18), ("SN", 22)];
    let mut complaints = Vec::new();
    for (page, ids) in [
        ("tests/HAZARDS.md", expected(&hazards)),
        ("tests/CAPABILITIES.md", expected(&capabilities)),
    ] {
        let rows = rows(page);
        let found: Vec<_> = rows.iter().map(|row| row[0].clone()).collect();
        assert_eq!(found, ids, "{page}");
        for row in &rows {
            let mut labels: Vec<_> = quoted(&row[2])
                .map(|label| complaint(label, &all))
                .collect();
            if let Some(examples) = row.get(3) {
                let path = |name| format!("examples/{name}.rs");
                labels.extend(quoted(examples).map(|name| complaint(&path(name), &all)));
            }
            if labels.is_empty() {
                complaints.push(format!("{page}: nothing shows {}", row[0]));
            }
            let wrong = labels.into_iter().flatten();
            complaints.extend(wrong.map(|what| format!("{page}: {}: {what}", row[0])));
        }
    }
    none(complaints);
}

#[test]
fn what_is_named_for_an_id_has_to_be_a_test() {
    let file = |path: &str, text: &str| File {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    let all = [
        file(
            "tests/it/fd.rs",
            "#[test]\nfn good() {\n}\n\nfn helper() {}\n",
        ),
        file(
            "tests/signals/interrupts.rs",
            "made! {\n    entry READ, \"EINTR\";\n}\n",
        ),
        file("src/a/tests.rs", "    #[test]\n    fn inner() {\n"),
    ];
    let is_wrong = |label| complaint(label, &all).is_some();
    assert!(!is_wrong("it fd::good") && !is_wrong("lib inner") && !is_wrong("ci/run"));
    assert!(!is_wrong("signals interrupts::injected::entry"));
    for label in [
        "it fd::helper",
        "it io::good",
        "process fd::good",
        "lib good",
        "ci/none",
    ] {
        assert!(is_wrong(label), "{label}");
    }
}

#[test]
fn no_name_contains_an_id() {
    let mut all = files("src", ".rs");
    all.extend(files("tests", ".rs"));
    all.extend(files("examples", ".rs"));
    let is_id = |part: &str| {
        let digits = part.trim_start_matches(|c: char| c.is_ascii_lowercase());
        let letters = &part[..part.len() - digits.len()];
        let kinds = [
            "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "se", "sf", "sh", "sn",
        ];
        let is_number = (1..=2).contains(&digits.len()) && digits.parse::<u8>().is_ok();
        // `i32` and `f64` are types.
        kinds.contains(&letters)
            && is_number
            && !["i8", "i16", "i32", "i64", "f32", "f64"].contains(&part)
    };
    let mut complaints = BTreeSet::new();
    for file in &all {
        // Also the unit tests inside of the files.
        for (n, line) in (1..).zip(file.text.lines()) {
            let function = words(line).skip_while(|word| *word != "fn").nth(1);
            // The models of loom are no functions, but entries of a list: "inbox_CLAIM".
            let model = line
                .trim()
                .strip_prefix('"')
                .and_then(|line| line.strip_suffix("\","));
            let model = model.filter(|_| file.path.starts_with("tests/loom/"));
            let claim = model
                .and_then(|name| name.split_once('_'))
                .map(|(_, claim)| claim);
            let name = claim.or(function).unwrap_or_default();
            let parts: Vec<_> = name.split('_').collect();
            let begins = parts.first().is_some_and(|part| is_id(part));
            if parts.len() > 1 && (begins || parts.last().is_some_and(|part| is_id(part))) {
                complaints.insert(format!("{}:{n}: {}", file.path, line.trim()));
            }
        }
    }
    none(complaints.into_iter().collect());
}

#[test]
fn deadlines_depend_on_no_clock_that_can_be_set() {
    let mut complaints = Vec::new();
    for file in files("src", ".rs") {
        for (n, line) in file.code() {
            let line = line.split("//").next().unwrap_or_default();
            if ["SystemTime", "UNIX_EPOCH", "CLOCK_REALTIME"]
                .iter()
                .any(|name| line.contains(name))
            {
                complaints.push(format!("{}:{n}: {}", file.path, line.trim()));
            }
        }
    }
    none(complaints);
}

#[test]
fn the_documentation_says_that_sleeps_do_not_count_suspended_time() {
    let text = read("src/time.rs").expect("there are timers");
    let head = text.lines().take_while(|line| line.starts_with("//!"));
    let head: String = head.collect();
    assert!(
        head.contains("suspended") && head.contains("SystemTime"),
        "{head}"
    );
}
