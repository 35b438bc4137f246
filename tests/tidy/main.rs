//! The house rules, held by reading the files of the repository: which module may use which, where
//! `unsafe` and one Unix or another may be spoken of, how long things may be, and what must be
//! written. A binary of its own, because it looks at the sources and runs none of them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod documented;
mod ids;
mod pages;
mod systems;
mod unsafe_code;

use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the repository, by its path from the root.
struct File {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` whose name ends in `end`, in order; none if there is no such folder.
fn files(folder: &str, end: &str) -> Vec<File> {
    fn walk(path: &Path, end: &str, found: &mut Vec<File>) {
        let entries = fs::read_dir(path).into_iter().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                walk(&path, end, found);
            } else if path.to_str().unwrap().ends_with(end) {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap();
                let path = path.to_str().unwrap().to_owned();
                found.push(File { path, text });
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), end, &mut found);
    found
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(root().join(path)).ok()
}

/// All Rust of this package.
fn all_rust() -> Vec<File> {
    let folders = ["src", "tests", "examples", "benches", "macros", "top"];
    let found: Vec<_> = folders.iter().flat_map(|f| files(f, ".rs")).collect();
    assert!(
        found.len() > 20,
        "the sources are not where they are looked for"
    );
    found
}

impl File {
    /// The lines of code, numbered: no comments, no unit tests at the end.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = self.text.find("#[cfg(test)]\nmod tests {");
        let code = &self.text[..tests.unwrap_or(self.text.len())];
        (1..)
            .zip(code.lines())
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// `net` of `src/net/tcp.rs`.
    fn module(&self) -> &str {
        let path = self.path.strip_prefix("src/").unwrap();
        path.split(['/', '.']).next().unwrap()
    }

    /// True for a file that holds nothing but unit tests.
    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs")
    }

    /// True for the tables of the loop, which know nothing of each other.
    fn is_table(&self) -> bool {
        let tables = ["tasks", "reactor", "timers", "pool", "inbox"];
        let path = self.path.strip_prefix("src/event_loop/").unwrap_or("");
        !self.is_test() && tables.contains(&path.split(['/', '.']).next().unwrap())
    }
}

/// The words of a line of code.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// Fails with one line for each of `complaints`.
#[track_caller]
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The names that come after `prefix::` on a line: `a` and `b` of `super::{a, b::C}`.
fn names_after(line: &str, prefix: &str) -> Vec<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in line.match_indices(prefix) {
        // Neither `super::super::x` nor `in super`.
        if line[..at].ends_with(|c: char| is_name(c) || c == ':') {
            continue;
        }
        let rest = &line[at + prefix.len()..];
        let list = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap(),
            None => rest,
        };
        let n_items = if rest.starts_with('{') { usize::MAX } else { 1 };
        for item in list.split(',').take(n_items) {
            let name = item.trim_start();
            let end = name.find(|c| !is_name(c)).unwrap_or(name.len());
            found.push(name[..end].to_owned());
        }
    }
    found
}

/// One statement a line, as rustfmt breaks long imports.
fn statements(file: &File) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut is_open = false;
    for (n, line) in file.code() {
        match found.last_mut().filter(|_| is_open) {
            Some((_, statement)) => statement.push_str(line.trim()),
            None => found.push((n, line.trim().to_owned())),
        }
        let (_, statement) = found.last().unwrap();
        let code = statement
            .trim_start_matches("pub(crate) ")
            .trim_start_matches("pub ");
        is_open = code.starts_with("use ") && !statement.ends_with(';');
    }
    found
}

/// Which layer a module of the crate's root belongs to: 0 is the lowest.
fn layer(module: &str) -> usize {
    match module {
        "sys" => 0,
        "event_loop" => 1,
        "runtime" | "fd" | "task" | "time" | "blocking" | "event" | "signal" | "local" => 2,
        "net" | "io" | "fs" | "process" => 3,
        _ => 4,
    }
}

/// What uses what: for each module, the modules that it uses, and where.
type Uses = std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>>;

/// The modules of the crate's root, and those within each folder. A module within a folder has the
/// path of its folder before its name; the file that stands for the folder itself is `folder/`.
fn uses() -> Uses {
    let all = files("src", ".rs");
    let mut uses = Uses::new();
    let stems: Vec<String> = all
        .iter()
        .map(|file| file.path["src/".len()..file.path.len() - ".rs".len()].to_owned())
        .collect();
    for (file, stem) in all.iter().zip(&stems).filter(|(file, _)| !file.is_test()) {
        let (folder, own) = stem.rsplit_once('/').unwrap_or(("", stem));
        for (n, line) in statements(file) {
            let place = format!("{}:{n}", file.path);
            let mut add = |from: String, to: String| {
                if from != to {
                    uses.entry(from)
                        .or_default()
                        .entry(to)
                        .or_insert(place.clone());
                }
            };
            for name in names_after(&line, "crate::") {
                add(file.module().to_owned(), name.clone());
            }
            if folder.is_empty() {
                // What the file of a folder takes out of its children.
                let children = stems
                    .iter()
                    .filter_map(|s| s.strip_prefix(&format!("{own}/")));
                for child in children.filter(|child| line.starts_with(&format!("use {child}::"))) {
                    add(format!("{own}/"), format!("{own}/{child}"));
                }
            }
            for prefix in [
                "super::".to_owned(),
                format!("crate::{}::", folder.replace('/', "::")),
            ] {
                for name in names_after(&line, &prefix)
                    .iter()
                    .filter(|_| !folder.is_empty())
                {
                    let is_module = stems.contains(&format!("{folder}/{name}"));
                    let to = if is_module { name.as_str() } else { "" };
                    add(format!("{folder}/{own}"), format!("{folder}/{to}"));
                }
            }
        }
    }
    uses
}

#[test]
fn imports_point_down() {
    let mut complaints = Vec::new();
    for (from, used) in uses().iter().filter(|(from, _)| !from.contains('/')) {
        for (to, place) in used {
            if layer(to) > layer(from) {
                complaints.push(format!("{place}: {from} uses {to}, which is above it"));
            }
        }
    }
    none(complaints);
}

#[test]
fn no_module_uses_itself_by_way_of_others() {
    /// The first way from the end of `path` back to its beginning.
    fn way_back(uses: &Uses, path: &mut Vec<String>, seen: &mut Vec<String>) -> bool {
        let last = path.last().unwrap().clone();
        for next in uses.get(&last).into_iter().flat_map(|used| used.keys()) {
            if *next == path[0] {
                return true;
            }
            if !seen.contains(next) {
                seen.push(next.clone());
                path.push(next.clone());
                if way_back(uses, path, seen) {
                    return true;
                }
                path.pop();
            }
        }
        false
    }
    let uses = uses();
    let mut complaints = Vec::new();
    for start in uses.keys().filter(|start| *start != "lib") {
        let mut path = vec![start.clone()];
        if way_back(&uses, &mut path, &mut Vec::new()) {
            path.push(start.clone());
            complaints.push(path.join(" -> "));
        }
    }
    none(complaints);
}

#[test]
fn the_rules_of_imports_see_what_they_should() {
    assert_eq!(names_after("use super::{a, b::C};", "super::"), ["a", "b"]);
    assert_eq!(
        names_after("super::super::x(super::y)", "super::"),
        ["super", "y"]
    );
    assert!(layer("sys") < layer("event_loop") && layer("event_loop") < layer("fd"));
    assert!(layer("task") < layer("net") && layer("net") < layer("prelude"));
    let uses = uses();
    for (from, to) in [
        ("net", "fd"),
        ("fd", "event_loop"),
        ("event_loop/tick", "event_loop/"),
        ("event_loop/", "event_loop/tasks"),
        ("event_loop/tasks", "event_loop/inbox"),
    ] {
        assert!(uses[from].contains_key(to), "{from} uses {to}");
    }
}

#[test]
fn tables_know_no_clock_and_not_the_loop() {
    let mut complaints = Vec::new();
    for file in files("src", ".rs").iter().filter(|file| file.is_table()) {
        for (n, line) in file.code() {
            let mut banned = [
                "Instant::now",
                "SystemTime",
                "super::with",
                "event_loop::with",
            ]
            .into_iter();
            if banned.any(|word| line.contains(word)) {
                complaints.push(format!("{}:{n}: {line}", file.path));
            }
        }
    }
    none(complaints);
}

/// The log is foreign code, and so is whatever may panic: only the boundary calls it.
#[test]
fn only_the_boundary_logs_and_catches_panics() {
    let banned = [
        "log::error!",
        "log::warn!",
        "log::info!",
        "log::debug!",
        "log::trace!",
        "log::log!",
        "log_enabled!",
        "catch_unwind",
    ];
    let mut complaints = Vec::new();
    for file in files("src", ".rs") {
        if file.path == "src/event_loop/boundary.rs" {
            continue;
        }
        for (n, line) in file.code() {
            if banned.iter().any(|word| line.contains(word)) {
                complaints.push(format!("{}:{n}: {line}", file.path));
            }
        }
    }
    none(complaints);
}

#[test]
fn only_sys_names_unsafe_libc_and_systems() {
    let banned = [
        "unsafe",
        "libc",
        "target_os",
        "target_vendor",
        "target_family",
        "target_env",
    ];
    let mut complaints = Vec::new();
    for file in files("src", ".rs")
        .iter()
        .filter(|file| file.module() != "sys")
    {
        for (n, line) in file.code() {
            if words(line).any(|word| banned.contains(&word)) {
                complaints.push(format!("{}:{n}: {line}", file.path));
            }
        }
    }
    none(complaints);
}

/// Where functions begin in `file`, with their lengths in lines. Goes by the indentation of
/// rustfmt.
fn functions(file: &File) -> Vec<(usize, usize)> {
    let lines: Vec<_> = file.text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let before = code.split("fn ").next().unwrap();
        let qualifiers = [
            "",
            "pub",
            "pub(crate)",
            "pub(super)",
            "async",
            "const",
            "unsafe",
            "extern",
        ];
        if !code.contains("fn ") || !before.split(' ').all(|word| qualifiers.contains(&word)) {
            continue;
        }
        let indent = &line[..line.len() - code.len()];
        let rest = lines[start..].iter().enumerate();
        let mut ends = rest.filter(|(_, line)| {
            let end = line.strip_prefix(indent).unwrap_or("");
            ["}", "};"].contains(&end) || (end == code && code.ends_with([';', '}']))
        });
        if let Some((n, _)) = ends.next() {
            found.push((start + 1, n + 1));
        }
    }
    found
}

#[test]
fn functions_are_at_most_70_lines_lines_100_columns_and_files_of_src_450_lines() {
    let (mut complaints, mut n_functions) = (Vec::new(), 0);
    for file in all_rust() {
        let path = &file.path;
        let n_lines = file.text.lines().count();
        if n_lines > 450 && path.starts_with("src/") || n_lines > 600 {
            complaints.push(format!("{path}: {n_lines} lines"));
        }
        for (n, line) in (1..).zip(file.text.lines()) {
            let n_columns = line.chars().count();
            if n_columns > 100 {
                complaints.push(format!("{path}:{n}: {n_columns} columns"));
            }
        }
        for (n, len) in functions(&file) {
            n_functions += 1;
            if len > 70 {
                complaints.push(format!("{path}:{n}: a function of {len} lines"));
            }
        }
    }
    assert!(n_functions > 200, "found only {n_functions} functions");
    none(complaints);
}

#[test]
fn every_public_async_fn_says_what_is_lost_by_dropping_it() {
    let (mut complaints, mut n_functions) = (Vec::new(), 0);
    for file in files("src", ".rs") {
        let lines: Vec<_> = file.text.lines().map(str::trim_start).collect();
        for (n, line) in lines.iter().enumerate() {
            if !line.starts_with("pub async fn ") {
                continue;
            }
            n_functions += 1;
            let above = lines[..n].iter().rev();
            let mut docs =
                above.take_while(|line| line.starts_with("///") || line.starts_with("#["));
            if !docs.any(|line| *line == "/// # Cancel safety") {
                complaints.push(format!("{}:{}: {line}", file.path, n + 1));
            }
        }
    }
    assert!(n_functions > 0);
    none(complaints);
}

#[test]
fn examples_are_short_and_begin_with_the_command_to_run() {
    let mut complaints = Vec::new();
    for file in files("examples", ".rs") {
        if file.path.contains("/shared/") {
            continue;
        }
        let name = Path::new(&file.path).file_stem().unwrap().to_str().unwrap();
        let header = file.text.lines().take_while(|line| line.starts_with("//!"));
        let header: String = header.collect();
        if !header.contains(&format!("--example {name}")) {
            complaints.push(format!("{}: the header names no command", file.path));
        }
        if file.text.lines().count() >= 80 {
            complaints.push(format!("{}: 80 lines or more", file.path));
        }
        let unwraps = file.code().filter(|(_, line)| line.contains(".unwrap()"));
        complaints.extend(unwraps.map(|(n, _)| format!("{}:{n}: unwrap", file.path)));
    }
    none(complaints);
}

#[test]
fn the_changelog_has_the_current_version_and_the_readme_is_short() {
    let changelog = read("CHANGELOG.md").expect("there is a changelog");
    let heading = format!("## [{}]", env!("CARGO_PKG_VERSION"));
    let found = changelog.lines().any(|line| line.starts_with(&heading));
    assert!(found, "CHANGELOG.md has no heading {heading}");
    let n_lines = read("README.md").map_or(0, |readme| readme.lines().count());
    assert!(n_lines <= 150, "README.md has {n_lines} lines");
}

#[test]
fn the_oldest_rust_is_the_same_wherever_it_is_named() {
    let wanted = env!("CARGO_PKG_RUST_VERSION");
    let mut named = files(".github", ".yml");
    named.extend(files("src", "lib.rs"));
    for path in [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "clippy.toml",
        "macros/Cargo.toml",
        "top/Cargo.toml",
    ] {
        named.extend(read(path).map(|text| File {
            path: path.to_owned(),
            text,
        }));
    }
    let mut complaints = Vec::new();
    for file in &named {
        for (n, line) in (1..).zip(file.text.lines()) {
            let lower = line.to_lowercase();
            let speaks = ["msrv", "rust-version", "rust 1.", "toolchain"];
            if !speaks.iter().any(|word| lower.contains(word)) {
                continue;
            }
            let numbers = line.split(|c: char| !c.is_ascii_digit() && c != '.');
            let versions = numbers.filter(|number| number.starts_with("1.") && number.len() > 2);
            for version in versions.map(|version| version.trim_end_matches(".")) {
                if version.trim_end_matches(".0") != wanted {
                    complaints.push(format!("{}:{n}: {version}, not {wanted}", file.path));
                }
            }
        }
    }
    none(complaints);
}

/// The names of the test binaries: files of `tests`, and folders with a `main.rs`.
fn test_binaries() -> Vec<String> {
    let mut names: Vec<String> = files("tests", ".rs")
        .iter()
        .filter_map(|file| {
            let name = file.path.strip_prefix("tests/")?;
            let name = name.strip_suffix("/main.rs").or(name.strip_suffix(".rs"))?;
            (!name.contains('/')).then(|| name.to_owned())
        })
        .collect();
    names.sort();
    names
}

#[test]
fn the_report_of_skipped_tests_comes_last() {
    let last = test_binaries().pop();
    assert_eq!(
        last.as_deref(),
        Some("untested"),
        "cargo runs them in the order of names"
    );
}

#[test]
fn every_source_file_is_part_of_the_build() {
    let mut all = files("src", ".rs");
    all.extend(files("tests", ".rs"));
    // A workspace of its own, which includes sources of the library.
    all.retain(|file| !file.path.starts_with("tests/loom/"));
    let mut roots = vec!["src/lib.rs".to_owned()];
    for name in test_binaries() {
        roots.extend([format!("tests/{name}.rs"), format!("tests/{name}/main.rs")]);
    }
    let mut complaints = Vec::new();
    for file in &all {
        let path = Path::new(&file.path);
        let name = path.file_stem().unwrap().to_str().unwrap();
        let folder = path.parent().unwrap().to_str().unwrap();
        if roots.contains(&file.path) || name == "mod" {
            continue;
        }
        let parents = match folder {
            "src" => vec!["src/lib.rs".to_owned()],
            _ => ["{}.rs", "{}/mod.rs", "{}/main.rs"]
                .map(|end| end.replace("{}", folder))
                .to_vec(),
        };
        let declared = all
            .iter()
            .filter(|file| parents.contains(&file.path))
            .any(|parent| {
                let module = format!("mod {name};");
                let by_path = format!("{name}.rs\"");
                parent
                    .code()
                    .any(|(_, line)| line.ends_with(&module) || line.contains(&by_path))
            });
        if !declared {
            complaints.push(format!("{}: no `mod {name};` in {parents:?}", file.path));
        }
    }
    none(complaints);
}
