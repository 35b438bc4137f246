use super::*;

const CODE: &str = "
/// Adds.
fn add(first: u32, second: u32) -> u32 {
    // The order does not matter.
    first.checked_add(second).expect(\"it fits\")
}

fn sub(first: u32, second: u32) -> u32 {
    first - second
}
";

type Changed = BTreeMap<String, String>;

fn apply_to(codes: &[&str], hunks: &str) -> Result<Changed, String> {
    let name = |number| format!("src/{number}.rs");
    let sources: Vec<_> = (0..)
        .zip(codes)
        .map(|(n, code)| Source::new(&name(n), code.to_string()))
        .collect();
    Patch::parse("test", &format!("# A defect.\n# test: some\n{hunks}"))?.apply(&sources)
}

fn apply(hunks: &str) -> String {
    apply_to(&[CODE], hunks)
        .unwrap()
        .remove("src/0.rs")
        .unwrap()
}

#[track_caller]
fn fails(message: &str, codes: &[&str], hunks: &str) {
    let error = apply_to(codes, hunks).unwrap_err();
    assert!(error.contains(message), "{error}");
}

#[test]
fn part_of_a_line_is_replaced_and_the_rest_stays() {
    let expected = CODE.replace("first - second", "first + second");
    assert_eq!(apply("@@\n-first - second\n+first + second\n"), expected);
}

#[test]
fn line_breaks_trailing_commas_and_comments_make_no_difference() {
    let code = "fn f() { add(\n    first, // the first\n    /* and */ second,\n)\n}";
    let changed = apply_to(&[code], "@@\n fn f() {\n-add(first, second)\n+0\n }\n").unwrap();
    let words: Vec<_> = changed["src/0.rs"].split_whitespace().collect();
    assert_eq!(words, ["fn", "f()", "{", "0", "}"]);
}

#[test]
fn a_patch_with_line_breaks_matches_code_without() {
    let changed = apply("@@\n-first\n-    .checked_add(\n-        second,\n-    )\n+None\n");
    assert!(changed.contains("None.expect(\"it fits\")"));
}

#[test]
fn the_file_in_which_the_code_stands_makes_no_difference() {
    let hunks = "--- src/elsewhere.rs\n@@\n-first - second\n+0\n";
    let changed = apply_to(&["fn f() {}", CODE], hunks).unwrap();
    assert_eq!(changed.keys().collect::<Vec<_>>(), ["src/1.rs"]);
}

#[test]
fn hunks_may_concern_several_files() {
    let hunks = "@@\n-a()\n+b()\n@@\n-c()\n+d()\n@@\n-e()\n+f()\n";
    let changed = apply_to(&["a(); c();", "e();"], hunks).unwrap();
    assert_eq!(changed["src/0.rs"], "b(); d();");
    assert_eq!(changed["src/1.rs"], "f();");
}

#[test]
fn code_that_is_missing_is_reported_with_the_nearest_place() {
    let message = "DOES NOT APPLY: src/0.rs:9 is nearest, but has `second }` for `third`";
    fails(message, &[CODE], "@@\n-first - third\n+0\n");
    fails(
        "no file of src has `nothing`",
        &[CODE],
        "@@\n-nothing like it\n+0\n",
    );
}

#[test]
fn code_in_two_places_is_reported_with_both() {
    let message = "STANDS IN 2 PLACES: src/0.rs:3, src/0.rs:8";
    fails(message, &[CODE], "@@\n-first: u32\n+first: u64\n");
    fails(
        "STANDS IN 2 PLACES: src/0.rs:1, src/1.rs:1",
        &["a", "a"],
        "@@\n-a\n+b\n",
    );
}

#[test]
fn the_name_of_a_function_restricts_the_search() {
    let changed = apply("@@ fn sub\n-first: u32\n+first: u64\n");
    assert!(changed.contains("fn sub(first: u64") && changed.contains("fn add(first: u32"));
    fails(
        "DOES NOT APPLY",
        &[CODE],
        "@@ fn add\n-first - second\n+0\n",
    );
}

#[test]
fn words_match_as_a_whole() {
    fails("DOES NOT APPLY", &[CODE], "@@\n-irst\n+x\n");
    fails("DOES NOT APPLY", &["a b"], "@@\n-ab\n+x\n");
}

#[test]
fn text_in_quotes_is_no_comment_and_keeps_its_spaces() {
    let code = "let a = \"// no  comment\"; let b = '\"'; // a comment \" with a quote\nlet c = 1;";
    let changed = apply_to(&[code], "@@\n-let c = 1\n+let c = 2\n").unwrap();
    assert!(changed["src/0.rs"].contains("let c = 2"));
    fails("DOES NOT APPLY", &[code], "@@\n-\"// no comment\"\n+0\n");
}

#[test]
fn each_kind_of_token_ends_where_it_does_in_rust() {
    let code = r####"a_1 r#"x " y"# b"\"" c"" '\'' '\u{1F}' b'"' 'é' &'a é_ ->"####;
    let expected = [
        "a_1",
        r##"r#"x " y"#"##,
        r#"b"\"""#,
        "c\"\"",
        r"'\''",
        r"'\u{1F}'",
        "b'\"'",
        "'é'",
        "&",
        "'",
        "a",
        "é_",
        "-",
        ">",
    ];
    let found: Vec<_> = tokens(code).into_iter().map(|token| &code[token]).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_comment_alone_can_be_added() {
    let changed = apply("@@\n first - second\n+// A comment.\n");
    assert!(
        changed.contains("first - second\n// A comment.\n\n}"),
        "{changed}"
    );
}

#[test]
fn a_patch_that_cannot_apply_is_reported() {
    fails("CHANGES NOTHING", &[CODE], "@@\n first - second\n");
    fails("EMPTY HUNK", &[CODE], "@@\n+first\n");
    fails("overlap", &["a b d"], "@@\n-a b\n+c\n@@\n-b d\n+c\n");
}

#[test]
fn the_head_is_read() {
    let text = "# What\n# it is.\n# test: --lib a\n# test: --lib b\n@@\n-a\n+b\n";
    let patch = Patch::parse("name", text).unwrap();
    assert_eq!(patch.field("test"), ["--lib a", "--lib b"]);
    assert!(!patch.is_control());
    assert!(
        Patch::parse("name", &format!("# control: must pass\n{text}"))
            .unwrap()
            .is_control()
    );
    let bad = [
        "@@\n-a\n+b\n",
        "# No hunk.\n",
        "# A.\n@@ -1,2 +3,4 @@\n-a\n",
        "# A.\nx\n",
    ];
    assert!(bad.iter().all(|text| Patch::parse("name", text).is_err()));
}
