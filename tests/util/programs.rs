//! The examples, as programs that tests start.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The path of an example. `cargo test` leaves the examples beside the directory of the tests.
pub(crate) fn example_path(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path.push(name);
    assert!(
        path.exists(),
        "{path:?} is missing: `cargo test`, or `cargo build --examples`"
    );
    path
}

/// The command that starts an example, with nothing to read.
pub(crate) fn example(name: &str) -> Command {
    let mut command = Command::new(example_path(name));
    command.stdin(Stdio::null());
    command
}

/// A process that is killed at the end of the test, whatever happens.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
