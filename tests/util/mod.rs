//! What the tests share. Each test binary includes this file by its path, and uses a part of it.
#![allow(
    dead_code,
    unsafe_code,
    unused_imports,
    unused_macros,
    clippy::unwrap_used,
    reason = "test code, of which every test binary uses a part"
)]

#[macro_use]
mod alone;
mod cost;
mod dice;
#[cfg(target_os = "linux")]
pub(crate) mod kit;
mod net;
mod programs;
#[cfg(feature = "unix")]
pub(crate) mod tenured;
mod wakers;
mod watch;

pub(crate) use alone::*;
pub(crate) use cost::*;
pub(crate) use dice::*;
pub(crate) use net::*;
pub(crate) use programs::*;
pub(crate) use wakers::*;
pub(crate) use watch::*;
