//! That examples show how each public function is called.

use super::{File, files, none, words};
use std::collections::{BTreeMap, BTreeSet};

/// The words of the examples in a file: code blocks in doc comments that are compiled.
fn words_of_examples(file: &File) -> BTreeSet<&str> {
    let (mut found, mut is_code, mut is_compiled) = (BTreeSet::new(), false, false);
    for line in file.text.lines().map(str::trim_start) {
        let text = line.strip_prefix("///").or(line.strip_prefix("//!"));
        match text.map(str::trim_start) {
            Some(text) if text.starts_with("```") => {
                is_code = !is_code;
                is_compiled = !text.contains("text");
            }
            Some(text) if is_code && is_compiled => found.extend(words(text)),
            Some(_) => {}
            None => is_code = false,
        }
    }
    found
}

/// The names of the public functions in a file, but for those that the documentation leaves out.
fn public_functions(file: &File) -> Vec<&str> {
    let (mut found, mut is_hidden) = (Vec::new(), false);
    for (_, line) in file.code() {
        let line = line.trim_start();
        is_hidden |= line.contains("doc(hidden)");
        let name = line.strip_prefix("pub ").and_then(|rest| {
            let at = rest.find("fn ")?;
            let qualifiers = ["", "async ", "const ", "unsafe "];
            qualifiers.contains(&&rest[..at]).then(|| &rest[at + 3..])
        });
        // A name that a macro fills in: the macro is called with lines of the second kind.
        if let Some(name) = name.filter(|name| !is_hidden && !name.starts_with('$')) {
            found.push(&name[..name.find(['(', '<']).unwrap()]);
        }
        if let Some((getter, setter)) = line.split_once(", set_") {
            let setter = setter.split(':').next().unwrap();
            if words(getter).count() == 1 && words(setter).count() == 1 {
                found.push(getter);
                found.push(setter_name(line));
            }
        }
        is_hidden &= line.starts_with("#[");
    }
    found
}

/// `set_nodelay` of `nodelay, set_nodelay: bool,`.
fn setter_name(line: &str) -> &str {
    words(line).find(|word| word.starts_with("set_")).unwrap()
}

#[test]
fn every_public_function_is_called_in_an_example_of_its_module() {
    let files = files("src", ".rs");
    let is_seen = |file: &&File| {
        !file.is_test() && file.module() != "sys" && file.path != "src/runtime/macros.rs"
    };
    // The code of a socket is below `net`, and what all of them share in `fd`.
    let module = |file: &File| match file.module() {
        "fd" => "net".to_owned(),
        module => module.to_owned(),
    };
    let mut examples: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for file in files.iter().filter(is_seen) {
        let of_module = examples.entry(module(file)).or_default();
        of_module.extend(words_of_examples(file));
    }
    let (mut missing, mut n_functions) = (Vec::new(), 0);
    for file in files.iter().filter(is_seen) {
        for name in public_functions(file) {
            n_functions += 1;
            let of_module = &examples[&module(file)];
            if !of_module.contains(name) && !examples["lib"].contains(name) {
                missing.push(format!("{}: no example calls {name}", file.path));
            }
        }
    }
    assert!(n_functions > 300, "{n_functions} are too few");
    none(missing);
}
