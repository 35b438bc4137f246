//! The tables of the event loop.

pub(crate) mod clock;
pub(crate) mod join_error;
pub(crate) mod pool;
pub(crate) mod reactor;
pub(crate) mod tasks;
pub(crate) mod timers;
pub(crate) mod waker;

use join_error as error;
