//! Child processes: [`AsyncCommand`] starts them as `std::process::Command` does, and
//! [`AsyncChild`] waits for them and talks to them.
//!
//! Below is the `Command` of std: what it promises about starting a program holds here. Starting
//! one blocks the thread for as long as the system needs to copy the process and to find the
//! program, which is about a millisecond.
//!
//! # Whose children
//! Nothing here waits for a child that it has not started or been given: libraries that start
//! processes by themselves keep theirs. A child that is dropped goes on, unless
//! [`kill_on_drop`](AsyncCommand::kill_on_drop) says otherwise, and is reaped when it has ended:
//! by the loop of the thread that dropped it, or of another that has children, whichever turns
//! first, and at the end of `run`. Only if it ends after that, and no loop turns any more, it is a
//! zombie until the program ends.
//!
//! # `SIGCHLD`
//! As long as there are children, this listens to `SIGCHLD`, and every listener of the program goes
//! on hearing it; see [`signal`](crate::signal). If the program **ignores** it when a child is to
//! be started, that is an error, because the system then throws the exit status away. If a handler
//! is put over ours meanwhile, or the thread blocks the signal, children are looked at ten times a
//! second instead.
//!
//! # What a child inherits
//! No descriptor but its standard streams, which block as it expects them to. Signals that were
//! caught have their default action, and `SIGPIPE` too. The mask of blocked signals is that of the
//! thread; the loop never blocks one.
//!
//! # After `fork`
//! The parent's children are not the child's: there, waiting for them is an error, and dropping
//! them does nothing, also if they were to be killed.

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
