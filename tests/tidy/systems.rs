//! The places where systems differ are listed in one table.

use super::{File, files, none, read};

#[test]
fn sys_lists_the_places_where_systems_differ() {
    let sys = read("src/sys.rs").expect("there is a module of system calls");
    let rows = sys.lines().filter(|line| line.starts_with("//! | "));
    let first_cells = rows.map(|row| row.split('|').nth(1).unwrap());
    let names: Vec<_> = first_cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    assert!(names.len() > 10, "{names:?}");
    let mut complaints = Vec::new();
    for name in &names {
        let (module, item) = name.rsplit_once("::").unwrap_or((name, ""));
        let path = format!("src/sys/{}.rs", module.replace("::", "/"));
        // A file of this name, unless there is one for each system.
        let text = read(&path).unwrap_or_else(|| sys.clone());
        if !text.contains(item) || !text.contains("cfg") {
            complaints.push(format!("src/sys.rs: {name} is not there"));
        }
    }
    for file in files("src/sys", ".rs") {
        let stem = file.path["src/sys/".len()..].trim_end_matches(".rs");
        let module = stem.replace('/', "::");
        // What stands for one system, or in its stead, is chosen where `path` names it.
        let is_chosen = all_paths().any(|path| path.ends_with(&format!("{stem}.rs")));
        let is_stand_in = stem.starts_with("kqueue_stand_in");
        let is_listed = names
            .iter()
            .any(|name| name.rsplit_once("::").is_some_and(|(m, _)| m == module));
        let mut code = file.code();
        let differs = code.any(|(_, line)| line.contains("target_os") || line.contains("target_v"));
        if differs && !is_listed && !is_chosen && !is_stand_in {
            complaints.push(format!("{}: src/sys.rs does not list it", file.path));
        }
    }
    none(complaints);
}

/// The files that `#[path]` attributes in `src/sys` name.
fn all_paths() -> impl Iterator<Item = String> {
    let mut sources = files("src/sys", ".rs");
    sources.extend(read("src/sys.rs").map(|text| File {
        path: "src/sys.rs".to_owned(),
        text,
    }));
    let attributes = |file: File| {
        let lines: Vec<_> = file.text.lines().map(str::to_owned).collect();
        let paths = lines.into_iter().filter_map(|line| {
            let path = line.trim().strip_prefix("path = \"")?.to_owned();
            Some(path.trim_end_matches('"').to_owned())
        });
        paths.collect::<Vec<_>>()
    };
    sources.into_iter().flat_map(attributes)
}

#[test]
fn the_stand_in_for_kqueue_is_compiled_only_for_tests() {
    let modules = read("src/sys.rs").expect("there is a module of system calls");
    let condition = "#[cfg(all(target_os = \"linux\", fahrenheit_kqueue))]\nmod kqueue_stand_in;";
    assert_eq!(modules.matches("kqueue_stand_in").count(), 1);
    assert!(modules.contains(condition));
}
