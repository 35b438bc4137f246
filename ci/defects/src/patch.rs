//! Reads known defects from patch files and puts them into the text of the sources.
//!
//! A patch file begins with lines `# ...`: a description, and fields `# NAME: VALUE` such as
//! `# test: --lib some_test`. Then follow hunks. A line that begins with `@@` starts a hunk;
//! `@@ fn NAME` restricts the search to the bodies of functions with that name. In a hunk, lines
//! that begin with `-` or a blank are searched for, and are replaced by those that begin with `+` or
//! a blank. A hunk need not consist of whole lines of the source. A line `--- PATH` is a hint for
//! readers and is ignored.
//!
//! Sources are compared token by token: white space, line breaks, comments and trailing commas make
//! no difference, nor does the file in which the code stands. So a patch survives rustfmt and moves
//! of files. Each hunk must match in exactly one place of `src/`.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

/// The place of each token in some Rust, without comments and without commas before a closing
/// bracket.
fn tokens(code: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut begin = 0;
    while begin < code.len() {
        let rest = &code[begin..];
        if let Some(length) = blank(rest) {
            begin += length;
            continue;
        }
        let end = begin + token(rest);
        let closes = matches!(&code[begin..end], ")" | "]" | "}");
        if closes && found.last().is_some_and(|last| &code[last.clone()] == ",") {
            found.pop();
        }
        found.push(begin..end);
        begin = end;
    }
    found
}

/// The length of the white space or the comment at the beginning of `rest`.
fn blank(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    Some(rest.len() - rest.trim_start().len()).filter(|length| *length > 0)
}

/// The length of the token at the beginning of `rest`.
fn token(rest: &str) -> usize {
    let one_character = || rest.chars().next().map_or(1, char::len_utf8);
    let found = raw_string(rest)
        .or_else(|| string(rest))
        .or_else(|| character(rest));
    found.or_else(|| word(rest)).unwrap_or_else(one_character)
}

fn raw_string(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r')?;
    let n_hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[n_hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(n_hashes));
    Some(rest.len() - body.len() + body.find(&close)? + close.len())
}

fn string(rest: &str) -> Option<usize> {
    let body = rest
        .strip_prefix(['b', 'c'])
        .unwrap_or(rest)
        .strip_prefix('"')?;
    let mut is_escaped = false;
    for (index, character) in body.char_indices() {
        if character == '"' && !is_escaped {
            return Some(rest.len() - body.len() + index + 1);
        }
        is_escaped = character == '\\' && !is_escaped;
    }
    None
}

/// `'x'` and `'\n'`; a quote that begins a lifetime is a token by itself.
fn character(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('\'')?;
    let mut characters = body.chars();
    let mut n_inside = characters.next()?.len_utf8();
    if body.starts_with('\\') {
        n_inside += characters.next()?.len_utf8();
        n_inside += body[n_inside..].find('\'')?;
    }
    let begin = rest.len() - body.len();
    body[n_inside..]
        .starts_with('\'')
        .then_some(begin + n_inside + 1)
}

fn word(rest: &str) -> Option<usize> {
    let is_other = |character: char| !character.is_alphanumeric() && character != '_';
    Some(rest.find(is_other).unwrap_or(rest.len())).filter(|length| *length > 0)
}

/// A file of the crate.
pub(crate) struct Source {
    path: String,
    code: String,
    tokens: Vec<Range<usize>>,
}

impl Source {
    fn new(path: &str, code: String) -> Source {
        let tokens = tokens(&code);
        Source {
            path: path.to_owned(),
            code,
            tokens,
        }
    }

    fn words(&self) -> Vec<&str> {
        self.tokens
            .iter()
            .map(|token| &self.code[token.clone()])
            .collect()
    }

    /// A token's file and line, for messages.
    fn place(&self, index: usize) -> String {
        let before = &self.code[..self.tokens[index].start];
        format!("{}:{}", self.path, before.matches('\n').count() + 1)
    }
}

/// All files of Rust in `folder`, by paths that begin at `root`.
pub(crate) fn sources(root: &Path, folders: &[&str]) -> Result<Vec<Source>, String> {
    let mut found = Vec::new();
    let files = |folder: &&str| crate::lane::files_in(&root.join(folder));
    for path in folders.iter().flat_map(files) {
        if path.extension().is_some_and(|extension| extension == "rs") {
            let code = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let relative = path.strip_prefix(root).expect("it is in the root");
            found.push(Source::new(&relative.to_string_lossy(), code));
        }
    }
    Ok(found)
}

/// Every index of `words` at which `wanted` begins.
fn positions(words: &[&str], wanted: &[&str]) -> Vec<usize> {
    let windows = words.windows(wanted.len()).enumerate();
    windows
        .filter(|(_, window)| *window == wanted)
        .map(|(index, _)| index)
        .collect()
}

/// The tokens of each function with this name, from its `fn` to its last bracket.
fn functions(words: &[&str], name: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for start in positions(words, &["fn", name]) {
        let mut depth = 0;
        for (index, word) in words.iter().enumerate().skip(start) {
            match *word {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            // A declaration without a body ends with a semicolon.
            if depth == 0 && matches!(*word, "}" | ";") {
                found.push(start..index + 1);
                break;
            }
        }
    }
    found
}

#[derive(Default)]
struct Hunk {
    function: Option<String>,
    old: String,
    new: String,
}

impl Hunk {
    /// The one place of the old code: a file, and the bytes in it.
    fn find<'a>(&self, sources: &'a [Source]) -> Result<(&'a Source, Range<usize>), String> {
        let wanted: Vec<&str> = tokens(&self.old)
            .into_iter()
            .map(|t| &self.old[t])
            .collect();
        if wanted.is_empty() {
            return Err("EMPTY HUNK: nothing is searched for".to_owned());
        }
        let mut places = Vec::new();
        for source in sources {
            let words = source.words();
            let within = self.function.as_ref().map(|name| functions(&words, name));
            for index in positions(&words, &wanted) {
                let end = index + wanted.len();
                let holds = |range: &Range<usize>| range.start <= index && end <= range.end;
                if within
                    .as_ref()
                    .is_none_or(|ranges| ranges.iter().any(holds))
                {
                    places.push((source, index));
                }
            }
        }
        match places[..] {
            [] => Err(format!("DOES NOT APPLY: {}", nearest(sources, &wanted))),
            [(source, index)] => {
                let last = &source.tokens[index + wanted.len() - 1];
                Ok((source, source.tokens[index].start..last.end))
            }
            _ => {
                let names: Vec<_> = places.iter().map(|(source, i)| source.place(*i)).collect();
                Err(format!(
                    "STANDS IN {} PLACES: {}",
                    places.len(),
                    names.join(", ")
                ))
            }
        }
    }
}

/// Says where the longest beginning of the old code stands, for the person who corrects the patch.
fn nearest(sources: &[Source], wanted: &[&str]) -> String {
    for length in (1..wanted.len()).rev() {
        for source in sources {
            let words = source.words();
            if let Some(&index) = positions(&words, &wanted[..length]).first() {
                let rest = &words[index + length..];
                let there = rest[..rest.len().min(4)].join(" ");
                let place = source.place(index);
                return format!(
                    "{place} is nearest, but has `{there}` for `{}`",
                    wanted[length]
                );
            }
        }
    }
    format!("no file of src has `{}`", wanted[0])
}

/// What a hunk replaces.
struct Edit<'a> {
    source: &'a Source,
    place: Range<usize>,
    new: &'a str,
}

/// One patch file.
pub(crate) struct Patch {
    pub(crate) name: String,
    fields: Vec<(String, String)>,
    hunks: Vec<Hunk>,
}

impl Patch {
    fn parse(name: &str, text: &str) -> Result<Patch, String> {
        let mut patch = Patch {
            name: name.to_owned(),
            fields: Vec::new(),
            hunks: Vec::new(),
        };
        let mut has_description = false;
        for (number, line) in (1..).zip(text.lines()) {
            let head = line.strip_prefix("# ").filter(|_| patch.hunks.is_empty());
            match (head, patch.hunks.last_mut()) {
                (Some(head), _) => match field(head) {
                    Some((key, value)) => patch.fields.push((key.to_owned(), value.to_owned())),
                    None => has_description = true,
                },
                _ if line.starts_with("--- ") => {}
                _ if line.starts_with("@@") => {
                    let function = line.strip_prefix("@@ fn ").map(str::to_owned);
                    if function.is_none() && line != "@@" {
                        return Err(format!("{name}: line {number} is not `@@` or `@@ fn NAME`"));
                    }
                    patch.hunks.push(Hunk {
                        function,
                        ..Hunk::default()
                    });
                }
                (None, Some(hunk)) if line.is_empty() || line.starts_with(['-', '+', ' ']) => {
                    let (sign, code) = line.split_at(line.len().min(1));
                    for (side, other) in [(&mut hunk.old, "+"), (&mut hunk.new, "-")] {
                        if sign != other {
                            side.push_str(code);
                            side.push('\n');
                        }
                    }
                }
                _ => {
                    return Err(format!(
                        "{name}: line {number} is no part of a patch: {line}"
                    ));
                }
            }
        }
        if !has_description || patch.hunks.is_empty() {
            return Err(format!(
                "{name}: a patch has a description and at least one hunk"
            ));
        }
        Ok(patch)
    }

    /// The values of all lines `# NAME: VALUE`.
    pub(crate) fn field(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(key, _)| key == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// True if the patch changes no behaviour, so that nothing may notice it.
    pub(crate) fn is_control(&self) -> bool {
        !self.field("control").is_empty()
    }

    /// The files with the defect in them: the code by the path.
    pub(crate) fn apply(&self, sources: &[Source]) -> Result<BTreeMap<String, String>, String> {
        let mut edits = Vec::new();
        for hunk in &self.hunks {
            let (source, place) = hunk.find(sources)?;
            edits.push(Edit {
                source,
                place,
                new: &hunk.new,
            });
        }
        edits.sort_by_key(|edit| (&edit.source.path, edit.place.start));
        let mut changed = BTreeMap::new();
        for edits in edits.chunk_by(|one, next| one.source.path == next.source.path) {
            let Source {
                path, code: old, ..
            } = edits[0].source;
            if edits
                .windows(2)
                .any(|pair| pair[0].place.end > pair[1].place.start)
            {
                return Err(format!("DOES NOT APPLY: two hunks overlap in {path}"));
            }
            let mut code = old.clone();
            for Edit { place, new, .. } in edits.iter().rev() {
                // What follows must not become part of a comment in the last line.
                let has_comment = new
                    .lines()
                    .next_back()
                    .is_some_and(|last| last.contains("//"));
                let new = if has_comment {
                    new
                } else {
                    new.strip_suffix('\n').unwrap_or(new)
                };
                code.replace_range(place.clone(), new);
            }
            if code == *old {
                return Err(format!("CHANGES NOTHING in {path}"));
            }
            changed.insert(path.clone(), code);
        }
        Ok(changed)
    }
}

/// `NAME: VALUE` with a name in lower case.
fn field(head: &str) -> Option<(&str, &str)> {
    let is_name = |key: &str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase());
    head.split_once(": ").filter(|(key, _)| is_name(key))
}

/// The patches of a folder, in order of their names.
pub(crate) fn load(folder: &Path) -> Result<Vec<Patch>, String> {
    let mut patches = Vec::new();
    for path in crate::lane::files_in(folder) {
        if path
            .extension()
            .is_some_and(|extension| extension == "patch")
        {
            let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            patches.push(Patch::parse(&name, &text)?);
        }
    }
    Ok(patches)
}
