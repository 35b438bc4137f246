//! The behaviour of the crate, seen from outside. What a test's name claims, it proves; the ids in
//! front name the hazard or capability. Tests that need a process of their own are files beside
//! this folder.

mod blocking;
mod fairness;
mod hostile;
mod order;
mod panics;
mod tasks;
mod timers;
mod turn;
mod util;
mod wake;
