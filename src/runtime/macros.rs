//! What the attributes of the feature `macros` expand to. Not for programs to call.

use super::block_on;
use crate::event_loop::drop_all_tasks;
use std::future::Future;

/// The settings of one test, and how it is run.
#[derive(Debug, Default)]
pub struct Test {}

impl Test {
    /// A test of `#[fahrenheit::test]` without arguments.
    pub fn new() -> Test {
        Test::default()
    }

    /// Runs the future that `body` returns, and drops all tasks that it has left behind.
    pub fn run<F: Future>(self, body: impl Fn() -> F) -> F::Output {
        // Also after a panic: the thread may run another test, which should not meet these tasks.
        let _dropped_at_the_end = DropTasks;
        block_on(body())
    }
}

struct DropTasks;

impl Drop for DropTasks {
    fn drop(&mut self) {
        drop_all_tasks();
    }
}
