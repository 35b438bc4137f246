//! Looking into the loop of another thread.

use super::{Handle, RemoteJoinHandle};
use crate::event_loop::dump::Dump;
use crate::event_loop::survey;

impl Handle {
    /// Asks for a [`dump`](crate::dump) of the loop of the handle's thread. It is made by a task of
    /// that thread, so a loop that is inside a long poll answers late.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::task::Handle;
    ///
    /// fahrenheit::run(async {
    ///     let handle = Handle::current();
    ///     let thread = fahrenheit::spawn_blocking(move || fahrenheit::block_on(handle.dump()));
    ///     let dump = thread.await.unwrap().unwrap();
    ///     assert!(dump.tasks[0].is_main);
    /// });
    /// ```
    #[track_caller]
    pub fn dump(&self) -> RemoteJoinHandle<Dump> {
        self.spawn_with(|| async { survey::dump() })
    }
}
