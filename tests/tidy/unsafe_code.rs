//! How much unsafe code the crate may have.

use super::{files, none, words};

/// Maximum number of blocks and implementations in the crate that are `unsafe`, without its unit
/// tests and without the module below. To be lowered, never raised. An `unsafe fn` does not count:
/// its calls need blocks.
const MAX_UNSAFE: usize = 60;

/// The stand-in for kqueue on Linux. No program contains it: it is compiled only for tests, with
/// `--cfg fahrenheit_kqueue`. So it is not counted with the crate, and has a limit of its own.
const KQUEUE_STAND_IN: &str = "src/sys/kqueue_stand_in";

/// Maximum number of unsafe blocks in that module.
const MAX_UNSAFE_IN_STAND_IN: usize = 4;

/// Filling the buffers of tokio and hyper, which they offer by `unsafe` methods only. No program
/// without their features contains it, so it has a limit of its own as well.
const READ_BUF: &str = "src/sys/read_buf.rs";

/// Maximum number of unsafe blocks in that module: two for each of the two buffers.
const MAX_UNSAFE_IN_READ_BUF: usize = 4;

#[test]
fn the_crate_has_no_more_unsafe_code_than_its_limit() {
    let (mut places, mut in_stand_in, mut in_read_buf) = (Vec::new(), Vec::new(), Vec::new());
    for file in files("src", ".rs") {
        // That each says why it is sound is checked by clippy.
        let lines = file.code();
        let is_counted = |line: &str| words(line).any(|word| word == "unsafe");
        let unsafe_lines = lines.filter(|(_, line)| is_counted(&line.replace("unsafe fn", "")));
        let found = unsafe_lines.map(|(n, _)| format!("{}:{n}", file.path));
        if file.path.starts_with(KQUEUE_STAND_IN) {
            in_stand_in.extend(found);
        } else if file.path == READ_BUF {
            in_read_buf.extend(found);
        } else {
            places.extend(found);
        }
    }
    assert!(places.len() > 10, "{places:?}");
    assert!(!in_stand_in.is_empty(), "there is no {KQUEUE_STAND_IN}");
    if places.len() > MAX_UNSAFE {
        none(places);
    }
    if in_stand_in.len() > MAX_UNSAFE_IN_STAND_IN {
        none(in_stand_in);
    }
    assert!(!in_read_buf.is_empty(), "there is no {READ_BUF}");
    if in_read_buf.len() > MAX_UNSAFE_IN_READ_BUF {
        none(in_read_buf);
    }
}
