//! Pipes, the standard streams, reading until the end, and copying both ways between two streams.
//!
//! **Invariant.** `O_NONBLOCK` is set only on descriptors that were made here. The descriptors that
//! the process was started with are shared with other processes, so their flags are left alone.

mod copy;
mod pipe;
mod read_to_end;
mod stdio;

pub use crate::fd::AsyncFd;
pub use copy::copy_bidirectional;
pub use pipe::{PipeReader, PipeWriter, pipe};
pub use read_to_end::{read_to_end, read_to_string};
pub use stdio::{Stderr, Stdin, Stdout, stderr, stdin, stdout};
