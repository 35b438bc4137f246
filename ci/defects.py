"""Reads known defects from patch files and puts them into a copy of the sources.

A patch file begins with lines `# ...`: a description, and fields `# NAME: VALUE` such as
`# test: --lib some_test`. Then follow hunks. A line that begins with `@@` starts a hunk;
`@@ fn NAME` restricts the search to the bodies of functions with that name. In a hunk, lines that
begin with `-` or a blank are searched for, and are replaced by those that begin with `+` or a
blank. A hunk need not consist of whole lines of the source. A line `--- PATH` is a hint for
readers and is ignored.

Sources are compared token by token: white space, line breaks, comments and trailing commas make no
difference, nor does the file in which the code stands. So a patch survives rustfmt and moves of
files. Each hunk must match in exactly one place of `src/`.

Both ci/mutants and ci/models use this. `python3 ci/defects.py` runs the tests of this file.
"""

import re
import unittest
from dataclasses import dataclass, field
from pathlib import Path

TOKEN = re.compile(
    r"""
    (?P<blank> \s+ | //[^\n]* | /\*.*?\*/ )
  | (?P<text>  b?r(?P<hashes>\#*)".*?"(?P=hashes)   # a raw string
             | [bc]?"(?:\\.|[^"\\])*"               # a string
             | b?'(?:\\[^']+|\\'|[^'\\])'           # a character
             | \w+                                  # a name, a keyword or a number
             | \S )                                 # anything else, one character at a time
    """,
    re.VERBOSE | re.DOTALL,
)


class DoesNotApply(Exception):
    """The code that a patch wants to change is not there, or is in several places."""


@dataclass
class Token:
    text: str
    begin: int
    end: int


def tokens(code):
    """The tokens of some Rust, without comments and without commas before a closing bracket."""
    found = []
    for match in TOKEN.finditer(code):
        if match["blank"]:
            continue
        if found and found[-1].text == "," and match["text"] in (")", "]", "}"):
            found.pop()
        found.append(Token(match["text"], match.start(), match.end()))
    return found


def positions(words, wanted):
    """Every index of `words` at which `wanted` begins."""
    first, n = wanted[0], len(wanted)
    starts = (i for i, word in enumerate(words) if word == first)
    return [i for i in starts if words[i : i + n] == wanted]


def bodies(words, function):
    """The ranges of indices that functions with this name cover."""
    found = []
    for start in positions(words, ["fn", function]):
        depth = 0
        for index in range(start, len(words)):
            depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(words[index], 0)
            # A declaration without a body ends with a semicolon.
            if depth == 0 and words[index] in ("}", ";"):
                found.append((start, index))
                break
    return found


@dataclass
class Source:
    """A file of the crate."""

    path: str
    code: str

    def __post_init__(self):
        self.tokens = tokens(self.code)
        self.words = [token.text for token in self.tokens]

    def line(self, index):
        return self.code.count("\n", 0, self.tokens[index].begin) + 1


def sources(root):
    """All Rust below `root/src`."""
    paths = sorted(Path(root).glob("src/**/*.rs"))
    return [Source(str(path.relative_to(root)), path.read_text()) for path in paths]


@dataclass
class Hunk:
    function: str | None = None
    old: list = field(default_factory=list)
    new: list = field(default_factory=list)

    def find(self, files):
        """The one place where the old code stands, as (file, first token, number of tokens)."""
        wanted = [token.text for token in tokens("\n".join(self.old))]
        if not wanted:
            raise DoesNotApply("EMPTY HUNK: nothing is searched for")
        places = []
        for file in files:
            found = positions(file.words, wanted)
            if self.function:
                ranges = bodies(file.words, self.function)
                last = len(wanted) - 1
                found = [i for i in found if any(a <= i and i + last <= b for a, b in ranges)]
            places += [(file, index, len(wanted)) for index in found]
        if len(places) == 1:
            return places[0]
        if places:
            where = ", ".join(f"{file.path}:{file.line(index)}" for file, index, _ in places)
            raise DoesNotApply(f"STANDS IN {len(places)} PLACES: {where}")
        raise DoesNotApply(f"DOES NOT APPLY: {self.nearest(files, wanted)}")

    def nearest(self, files, wanted):
        """Says where most of the old code stands, for whoever has to correct the patch."""
        for length in range(len(wanted) - 1, 0, -1):
            for file in files:
                for index in positions(file.words, wanted[:length])[:1]:
                    place = f"{file.path}:{file.line(index)}"
                    there = " ".join(file.words[index + length : index + length + 4])
                    return f"{place} is nearest, but has `{there}` for `{wanted[length]}`"
        return f"no file of src has `{wanted[0]}`"


class Defect:
    """One patch file."""

    def __init__(self, name, text):
        self.name = name
        self.description = []
        self.fields = {}
        self.hunks = []
        for number, line in enumerate(text.splitlines(), 1):
            head = re.match(r"# ([a-z]+): (.*)", line)
            if not self.hunks and head:
                self.fields.setdefault(head[1], []).append(head[2])
            elif not self.hunks and line.startswith("# "):
                self.description.append(line[2:])
            elif line.startswith("--- "):
                continue
            elif line.startswith("@@"):
                function = re.fullmatch(r"@@(?: fn (\w+))?", line)
                if not function:
                    raise ValueError(f"{name}: line {number} is not `@@` or `@@ fn NAME`")
                self.hunks.append(Hunk(function[1]))
            elif self.hunks and line[:1] in ("-", "+", " ", ""):
                if line[:1] != "+":
                    self.hunks[-1].old.append(line[1:])
                if line[:1] != "-":
                    self.hunks[-1].new.append(line[1:])
            else:
                raise ValueError(f"{name}: line {number} is no part of a patch: {line}")
        if not self.description or not self.hunks:
            raise ValueError(f"{name}: a patch has a description and at least one hunk")

    def apply(self, files):
        """The files with the defect in them, as a dictionary from path to code."""
        changes = {}
        for hunk in self.hunks:
            file, index, n = hunk.find(files)
            begin, end = file.tokens[index].begin, file.tokens[index + n - 1].end
            code = "\n".join(hunk.new)
            if hunk.new and "//" in hunk.new[-1]:
                code += "\n"
            changes.setdefault(file.path, (file.code, []))[1].append((begin, end, code))
        result = {}
        for path, (code, edits) in changes.items():
            edits.sort(reverse=True)
            for (begin, _, _), (_, end, _) in zip(edits, edits[1:]):
                if end > begin:
                    raise DoesNotApply(f"DOES NOT APPLY: two hunks overlap in {path}")
            changed = code
            for begin, end, new in edits:
                changed = changed[:begin] + new + changed[end:]
            if changed == code:
                raise DoesNotApply(f"CHANGES NOTHING in {path}")
            result[path] = changed
        return result


def load(folder, wanted=""):
    """The patches of a folder whose names contain `wanted`, in order of their names."""
    paths = sorted(Path(folder).glob("*.patch"))
    return [Defect(path.stem, path.read_text()) for path in paths if wanted in path.stem]


class Tests(unittest.TestCase):
    CODE = """
/// Adds.
fn add(first: u32, second: u32) -> u32 {
    // The order does not matter.
    first.checked_add(second).expect("it fits")
}

fn sub(first: u32, second: u32) -> u32 {
    first - second
}
"""

    def apply(self, patch, *codes):
        files = [Source(f"src/{n}.rs", code) for n, code in enumerate(codes or [self.CODE])]
        return Defect("test", "# A defect.\n# test: some\n" + patch).apply(files)

    def fails(self, message, patch, *codes):
        with self.assertRaisesRegex(DoesNotApply, message):
            self.apply(patch, *codes)

    def test_part_of_a_line_is_replaced_and_the_rest_stays(self):
        changed = self.apply("@@\n-first - second\n+first + second\n")
        self.assertEqual(changed["src/0.rs"], self.CODE.replace("first - second", "first + second"))

    def test_line_breaks_trailing_commas_and_comments_make_no_difference(self):
        code = "fn f() { add(\n    first, // the first\n    /* and */ second,\n)\n}"
        changed = self.apply("@@\n fn f() {\n-add(first, second)\n+0\n }\n", code)
        self.assertEqual(changed["src/0.rs"].split(), "fn f() { 0 }".split())

    def test_a_patch_with_line_breaks_matches_code_without(self):
        changed = self.apply("@@\n-first\n-    .checked_add(\n-        second,\n-    )\n+None\n")
        self.assertIn('None.expect("it fits")', changed["src/0.rs"])

    def test_the_file_in_which_the_code_stands_makes_no_difference(self):
        patch = "--- src/elsewhere.rs\n@@\n-first - second\n+0\n"
        self.assertEqual(list(self.apply(patch, "fn f() {}", self.CODE)), ["src/1.rs"])

    def test_hunks_may_concern_several_files(self):
        patch = "@@\n-a()\n+b()\n@@\n-c()\n+d()\n@@\n-e()\n+f()\n"
        changed = self.apply(patch, "a(); c();", "e();")
        self.assertEqual(changed, {"src/0.rs": "b(); d();", "src/1.rs": "f();"})

    def test_code_that_is_missing_is_reported_with_the_nearest_place(self):
        message = "DOES NOT APPLY: src/0.rs:9 is nearest, but has `second }` for `third`"
        self.fails(message, "@@\n-first - third\n+0\n")

    def test_code_in_two_places_is_reported_with_both(self):
        message = "STANDS IN 2 PLACES: src/0.rs:3, src/0.rs:8"
        self.fails(message, "@@\n-first: u32\n+first: u64\n")
        self.fails("STANDS IN 2 PLACES: src/0.rs:1, src/1.rs:1", "@@\n-a\n+b\n", "a", "a")

    def test_the_name_of_a_function_restricts_the_search(self):
        changed = self.apply("@@ fn sub\n-first: u32\n+first: u64\n")
        self.assertIn("fn sub(first: u64", changed["src/0.rs"])
        self.assertIn("fn add(first: u32", changed["src/0.rs"])
        self.fails("DOES NOT APPLY", "@@ fn add\n-first - second\n+0\n")

    def test_words_match_as_a_whole(self):
        self.fails("DOES NOT APPLY", "@@\n-irst\n+x\n")
        self.fails("DOES NOT APPLY", "@@\n-ab\n+x\n", "a b")

    def test_what_is_in_a_string_is_no_comment_and_keeps_its_spaces(self):
        code = 'let a = "// no  comment"; let b = \'"\'; // a comment " with a quote\nlet c = 1;'
        self.assertIn("let c = 2", self.apply("@@\n-let c = 1\n+let c = 2\n", code)["src/0.rs"])
        self.fails("DOES NOT APPLY", '@@\n-"// no comment"\n+0\n', code)

    def test_a_comment_alone_can_be_added(self):
        changed = self.apply("@@\n first - second\n+// A comment.\n")
        self.assertIn("first - second\n// A comment.\n\n}", changed["src/0.rs"])

    def test_a_patch_that_changes_nothing_is_reported(self):
        self.fails("CHANGES NOTHING", "@@\n first - second\n")

    def test_a_hunk_without_old_code_is_reported(self):
        self.fails("EMPTY HUNK", "@@\n+first\n")

    def test_hunks_that_overlap_are_reported(self):
        self.fails("overlap", "@@\n-a b\n+c\n@@\n-b d\n+c\n", "a b d")

    def test_the_head_is_read(self):
        defect = Defect("name", "# What\n# it is.\n# test: --lib a\n# test: --lib b\n@@\n-a\n+b\n")
        self.assertEqual(defect.description, ["What", "it is."])
        self.assertEqual(defect.fields, {"test": ["--lib a", "--lib b"]})
        for text in ["@@\n-a\n+b\n", "# No hunk.\n", "# A.\n@@ -1,2 +3,4 @@\n-a\n", "# A.\nx\n"]:
            self.assertRaises(ValueError, Defect, "name", text)


def run_tests():
    """Runs the tests of this file, as each program that uses it does before all else."""
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(Tests)
    result = unittest.TextTestRunner(verbosity=0).run(suite)
    if not result.wasSuccessful():
        raise SystemExit("ci/defects.py: its own tests fail")


if __name__ == "__main__":
    run_tests()
