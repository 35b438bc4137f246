//! Under which name the program depends on `fahrenheit`.
//!
//! An attribute cannot say "my own library", as `macro_rules!` can by `$crate`. So the manifest of
//! the program is read for a dependency with `package = "fahrenheit"`. Every form that Cargo writes
//! by itself is understood; a program that renames the library in another way, such as in the
//! manifest of its workspace, gives the attribute a `crate = "…"`.

use std::path::Path;

const PACKAGE: &str = "fahrenheit";

/// Returns the name of the library in the program that is being compiled.
pub(crate) fn name() -> String {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let manifest = std::fs::read_to_string(Path::new(&folder).join("Cargo.toml"));
    let renamed = manifest.ok().and_then(|text| new_name(&text));
    renamed.unwrap_or_else(|| PACKAGE.to_owned())
}

/// Returns the name that a manifest gives to the package, if that is not its own.
fn new_name(manifest: &str) -> Option<String> {
    let renamed = format!("package=\"{PACKAGE}\"");
    let mut table = String::new();
    let mut found = None;
    for line in manifest.lines() {
        // White space and the kind of quotes say nothing here, and neither does a comment.
        let line: String = line.split_whitespace().collect();
        let line = line.replace('\'', "\"");
        let line = line.split('#').next().unwrap_or_default();
        if let Some(head) = line.strip_prefix('[') {
            table = head.trim_end_matches(']').to_owned();
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let name = if let Some((_, name)) = table.split_once("dependencies.") {
            // [dependencies.name]
            (line == renamed).then_some(name)
        } else if table.ends_with("dependencies") {
            // [dependencies], with `name = { package = … }`, or `name.package = …`
            let (name, is_dotted) = match key.strip_suffix(".package") {
                Some(name) => (name, true),
                None => (key, false),
            };
            let is_ours = match is_dotted {
                true => value.trim_matches('"') == PACKAGE,
                false => value.contains(&renamed),
            };
            // It may be there twice. Then its own name is as good.
            if name == PACKAGE && !is_ours {
                return None;
            }
            is_ours.then_some(name)
        } else {
            None
        };
        let name = name.map(|name| name.trim_matches('"').replace('-', "_"));
        found = found.or(name);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(manifest: &str) -> Option<String> {
        new_name(manifest)
    }

    #[test]
    fn a_new_name_is_found_in_every_form() {
        for manifest in [
            "[dependencies]\nmy-loop = { version = \"0.1\", package = \"fahrenheit\" }",
            "[dependencies]\nmy-loop={package='fahrenheit',path='..'} # ours",
            "[dev-dependencies]\nlog = \"0.4\"\n\"my-loop\" = { package = \"fahrenheit\" }\n",
            "[dependencies.my-loop]\nversion = \"0.1\"\npackage = \"fahrenheit\"\n",
            "[dependencies]\nmy-loop.version = \"0.1\"\nmy-loop.package = \"fahrenheit\"\n",
            "[target.'cfg(unix)'.dependencies]\nmy-loop = { package = \"fahrenheit\" }",
            "[target.'cfg(unix)'.dependencies.my-loop]\npackage = \"fahrenheit\"",
        ] {
            assert_eq!(found(manifest).as_deref(), Some("my_loop"), "{manifest}");
        }
    }

    #[test]
    fn its_own_name_is_not_a_new_one() {
        for manifest in [
            "",
            "[dependencies]\nfahrenheit = \"0.1\"",
            "[dependencies]\nfahrenheit = { path = \"..\" }\nold = { package = \"fahrenheit\" }",
            "[dependencies]\nother = { package = \"fahrenheit-macros\" }",
            "[package]\nname = \"fahrenheit\"",
            "[dependencies]\n# my-loop = { package = \"fahrenheit\" }",
        ] {
            assert_eq!(found(manifest), None, "{manifest}");
        }
    }
}
