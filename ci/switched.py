"""Puts many changes into one copy of the sources, of which each process has at most one in effect.

Building the crate for each change takes most of the time that it takes to try one. So every function
is written once for each of its changes, and a number that a process reads from its environment when
it starts, FAHRENHEIT_CHANGE, selects the body that runs:

    fn half(n: u32) -> u32 {
        match crate::switched::selected(7) {
            31 => { n * 2 }
            32 => { 0 }
            _ => { n / 2 }
        }
    }

With FAHRENHEIT_REACHED, the name of a file, a process and its children note in this file which
functions they call: byte 7 for this one.
"""

import bisect
import re
import unittest
from dataclasses import dataclass

# What can contain a bracket that is no bracket of the code.
QUOTED = re.compile(
    r"""//[^\n]* | /\*.*?\*/ | b?r(?P<hashes>\#*)".*?"(?P=hashes) | [bc]?"(?:\\.|[^"\\])*"
      | b?'(?:\\[^']+|\\'|[^'\\])'""",
    re.VERBOSE | re.DOTALL,
)
# What `src/lib.rs` needs at its end.
SWITCH = """
#[doc(hidden)]
pub(crate) mod switched {
    use nix::libc;
    use std::os::fd::IntoRawFd;
    use std::ptr;
    use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};

    static SELECTED: AtomicU32 = AtomicU32::new(u32::MAX);
    static REACHED: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

    pub(crate) fn selected(function: usize) -> u32 {
        let reached = REACHED.load(Relaxed);
        if !reached.is_null() {
            unsafe { reached.add(function).write_volatile(1) }
        }
        SELECTED.load(Relaxed)
    }

    // Runs before `main`, so that `selected` is a load wherever it is called: in a signal handler,
    // and where a test counts system calls.
    #[used]
    #[unsafe(link_section = ".init_array")]
    static START: extern "C" fn() = start;

    extern "C" fn start() {
        if let Some(number) = std::env::var("FAHRENHEIT_CHANGE").ok().and_then(|n| n.parse().ok()) {
            SELECTED.store(number, Relaxed);
        }
        let Ok(path) = std::env::var("FAHRENHEIT_REACHED") else { return };
        let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
        let length = file.metadata().unwrap().len() as usize;
        let fd = file.into_raw_fd();
        let (access, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        let mapped = unsafe { libc::mmap(ptr::null_mut(), length, access, shared, fd, 0) };
        assert!(mapped != libc::MAP_FAILED);
        unsafe { libc::close(fd) };
        REACHED.store(mapped.cast(), Relaxed);
    }
}
"""


@dataclass
class Change:
    number: int  # in the list of cargo-mutants
    path: str
    name: str  # without the place, which moves
    function: tuple | None  # begin and end in the text of the file
    begin: int
    end: int
    replacement: str


def read_changes(listed, texts):
    """The changes that cargo-mutants lists, with offsets in place of lines and columns."""
    changes = []
    for number, row in enumerate(listed):
        text = texts[row["file"]]
        starts = [0] + [match.end() for match in re.finditer("\n", text)]
        offset = lambda place: starts[place["line"] - 1] + place["column"] - 1
        span = lambda place: (offset(place["start"]), offset(place["end"]))
        function = row["function"] and span(row["function"]["span"])
        name = re.sub(r"^\S+?:\d+:\d+: ", "", row["name"])
        changes.append(Change(number, row["file"], name, function, *span(row["span"]), row["replacement"]))
    return changes


def body_of(text, function):
    """The begin and the end of a function's body with its brackets; `None` for a `const fn`, which
    cannot select anything when it is evaluated by the compiler."""
    begin, end = function
    code = QUOTED.sub(lambda match: " " * len(match[0]), text[begin:end])
    head = re.search(r"\bfn\b", code)
    if not head or re.search(r"\bconst\s+(unsafe\s+)?$", code[: head.start()]):
        return None
    depth = 0
    for index in range(head.end(), len(code)):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(code[index], 0)
        if depth == 0 and code[index] == "{":
            return begin + index, end
    return None


class File:
    """A file with changes: its text, and where each change is in it."""

    def __init__(self, path, text, changes, numbers):
        """`numbers` gives each function, by its path and begin, the number by which it is noted."""
        self.path, self.text = path, text
        self.bodies, self.left_out = {}, []
        for change in changes:
            body = change.function and body_of(text, change.function)
            if body and body[0] < change.begin and change.end <= body[1]:
                self.bodies.setdefault(body, []).append(change)
            else:
                self.left_out.append(change)
        self.numbers = {body: numbers[path, changes[0].function] for body, changes in self.bodies.items()}
        self.pieces, self.length, self.places = [], 0, []
        self.write(0, len(text))
        self.changed = "".join(self.pieces)

    def put(self, piece):
        self.pieces.append(piece)
        self.length += len(piece)

    def write(self, begin, end):
        """Writes a part of the text, with the changes of all functions in it."""
        for body in sorted(self.bodies):
            if body[0] < begin or body[1] > end:
                continue
            self.put(self.text[begin : body[0]])
            self.put(f"{{ match crate::switched::selected({self.numbers[body]}) {{\n")
            for change in self.bodies[body]:
                self.put(f"{change.number} => ")
                start = self.length
                self.put(self.text[body[0] : change.begin])
                self.put(change.replacement)
                self.put(self.text[change.end : body[1]])
                self.places.append((start, self.length, change))
                self.put("\n")
            self.put("_ => {")
            self.write(body[0] + 1, body[1])
            self.put("}}")
            begin = body[1]
        self.put(self.text[begin:end])

    def changes_at(self, begin, end):
        """The changes whose body contains this part of the changed text, or else overlaps it."""
        within = [change for a, b, change in self.places if a <= begin and end <= b]
        return within or [change for a, b, change in self.places if a < end and begin < b]


def byte_offset_to_index(text):
    """A function from offsets in bytes, as compilers count, to indices of characters."""
    if text.isascii():
        return lambda offset: offset
    ends, total = [], 0
    for character in text:
        total += len(character.encode())
        ends.append(total)
    return lambda offset: bisect.bisect_right(ends, offset)


class Tests(unittest.TestCase):
    TEXT = """
fn half(n: [u32; 2]) -> u32 {
    fn first(n: [u32; 2]) -> u32 { n[0] }
    first(n) / 2 // }
}
const fn two() -> u32 { 1 + 1 }
"""

    def change(self, number, function, old, new):
        """A change of `old` in the function that begins with `function` and ends where its body
        does."""
        begin = self.TEXT.index(function)
        end = self.TEXT.index("}\n", begin + len(function))
        if function == "fn half":
            end = self.TEXT.index("\n}\n") + 1
        at = self.TEXT.index(old, begin)
        return Change(number, "a.rs", "", (begin, end + 1), at, at + len(old), new)

    def changed(self, *changes):
        numbers = {("a.rs", change.function): change.number // 10 for change in changes}
        return File("a.rs", self.TEXT, list(changes), numbers)

    def test_each_change_has_a_body_and_the_last_one_is_the_old(self):
        file = self.changed(self.change(31, "fn half", "/ 2", "* 2"))
        code = " ".join(file.changed.split())
        self.assertIn("-> u32 { match crate::switched::selected(3) { 31 => { fn first", code)
        self.assertIn("first(n) * 2 // } } _ => { fn first", code)
        self.assertIn("first(n) / 2 // } }}}", code)

    def test_a_function_in_a_function_is_changed_in_the_old_body_only(self):
        inner = self.change(41, "fn first", "n[0]", "1")
        file = self.changed(self.change(31, "fn half", "/ 2", "* 2"), inner)
        self.assertEqual(file.changed.count("selected(4)"), 1)
        self.assertEqual(file.changed.count("{ n[0] }"), 2)

    def test_a_place_in_the_text_tells_the_change(self):
        file = self.changed(self.change(31, "fn half", "/ 2", "* 2"))
        at = file.changed.index("* 2")
        self.assertEqual([change.number for change in file.changes_at(at, at + 3)], [31])
        self.assertEqual(file.changes_at(0, 3), [])

    def test_what_the_compiler_evaluates_is_left_out(self):
        file = self.changed(self.change(51, "const fn two", "+", "-"))
        self.assertEqual([change.number for change in file.left_out], [51])
        self.assertEqual(file.changed, self.TEXT)

    def test_bytes_become_characters(self):
        index = byte_offset_to_index("aéb")
        self.assertEqual([index(0), index(1), index(3)], [0, 1, 2])


if __name__ == "__main__":
    unittest.main()
