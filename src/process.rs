//! Child processes: [`AsyncCommand`] starts them as `std::process::Command` does, and
//! [`AsyncChild`] waits for them and talks to them.
//!
//! Programs are started by std, and what it promises about that holds here. Starting one blocks the
//! thread for as long as the system needs to copy the process and to find the program, which is
//! about a millisecond.
//!
//! # Whose children
//! Nothing here waits for a child that it has not started or been given: libraries that start
//! processes by themselves keep theirs. A child that is dropped goes on, unless
//! [`kill_on_drop`](AsyncCommand::kill_on_drop) says otherwise, and is reaped when it has exited:
//! by the loop of the thread that dropped it, as soon as it turns and at the end of its `run`. If
//! that thread ends first, the next loop that starts a child or ends its `run` takes the child
//! over. If no loop does, it is a zombie until the program ends.
//!
//! # `SIGCHLD`
//! On Linux, macOS and the BSDs, the kernel tells a queue which child has exited. That costs the
//! same for any number of children, and it does not matter what other code of the program does with
//! `SIGCHLD`. Linux needs a descriptor for each child. Where none is left, on Linux before 5.3, on
//! Android and on other systems, a task that waits for a child looks at it whenever `SIGCHLD`
//! arrives, and once a second in any case, because other code may have replaced the handler or
//! blocked the signal.
//!
//! If the program **ignores** `SIGCHLD` (or has set `SA_NOCLDWAIT`) when a child is to be started,
//! that is an error, because the system then throws the exit status away.
//!
//! # What a child inherits
//! No descriptor but its standard streams, which block as programs expect. Signals that were caught
//! have their default action, and `SIGPIPE` too. The mask of blocked signals is that of the thread;
//! the loop never blocks one.
//!
//! # After `fork`
//! The parent's children are not the forked process's: there, waiting for them is an error, and
//! dropping them does nothing, also if they were to be killed.

mod child;
mod command;
mod exits;
mod looker;
mod orphan;
mod stdio;
mod watcher;

pub use child::AsyncChild;
pub use command::AsyncCommand;
pub use stdio::{AsyncChildStderr, AsyncChildStdin, AsyncChildStdout};
