//! The gate between signal handlers and the pipe of a listener: a pipe is closed only when no
//! handler is about to write to it. Otherwise the byte would go to another file that has the number
//! of the pipe by then.

use crate::Model;
use crate::sys::signal::gate::Gate;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use std::os::fd::RawFd;
use std::sync::Arc;

pub(crate) const MODELS: &[Model] = &[
    (
        "signal_a_handler_never_writes_to_a_pipe_that_was_closed",
        one_handler,
    ),
    (
        "signal_two_handlers_and_a_listener_that_takes_over_the_node_use_open_pipes",
        two_handlers,
    ),
];

/// Two pipes, of which a bit says whether they are open.
struct Pipes {
    gate: Gate,
    /// Relaxed, so that it is the gate alone that orders the threads.
    open: AtomicUsize,
    /// Stands for what the descriptors lead to. loom complains if a handler uses it while it is
    /// being closed, that is if nothing orders the two.
    files: [UnsafeCell<()>; 2],
}

impl Pipes {
    fn new() -> Arc<Pipes> {
        let this = Pipes {
            gate: Gate::new(),
            open: AtomicUsize::new(1),
            files: [UnsafeCell::new(()), UnsafeCell::new(())],
        };
        this.gate.open(0);
        Arc::new(this)
    }

    fn write_to(&self, pipe: RawFd) {
        let open = self.open.load(Ordering::Relaxed);
        assert!(open & (1 << pipe) != 0, "a handler uses a closed pipe");
        self.files[pipe as usize].with(|_| ());
    }

    /// What a signal handler does on another thread.
    fn handle(self: &Arc<Pipes>) -> thread::JoinHandle<()> {
        let this = Arc::clone(self);
        thread::spawn(move || {
            this.gate.enter(|pipe| {
                // Other threads may run between the look and the write.
                thread::yield_now();
                this.write_to(pipe);
            });
        })
    }

    /// The end of a listener, which closes its pipe if it may.
    fn end(&self) -> bool {
        let is_closed = self.gate.close(|attempt| {
            thread::yield_now();
            attempt < 2
        });
        if is_closed {
            self.files[0].with_mut(|_| ());
            self.open.store(0, Ordering::Relaxed);
        }
        is_closed
    }
}

fn one_handler() {
    let pipes = Pipes::new();
    let handler = pipes.handle();
    pipes.end();
    handler.join().unwrap();
}

fn two_handlers() {
    let pipes = Pipes::new();
    let handlers = [pipes.handle(), pipes.handle()];
    if pipes.end() {
        // Another listener gets the node, with a pipe of its own.
        pipes.open.store(2, Ordering::Relaxed);
        pipes.gate.open(1);
    }
    handlers.map(|handler| handler.join().unwrap());
}
