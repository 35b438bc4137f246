//! What a [`File`](super::File) writes in the background, and the errors of that.

use crate::event_loop::pool::lock;
use std::io::{self, Seek, SeekFrom, Write};
use std::mem;
use std::sync::Mutex;

/// Bytes that were accepted and are not written yet. Shared with the job that writes them.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) bytes: Vec<u8>,
    /// The job will look at `bytes` again before it ends, so more may be added.
    pub(super) is_running: bool,
}

/// Moves `file` back by `n_ahead` bytes that were read ahead. Pipes and terminals have no position
/// and are left alone.
pub(super) fn rewind(mut file: &std::fs::File, n_ahead: usize) -> io::Result<()> {
    if n_ahead == 0 {
        return Ok(());
    }
    match file.seek(SeekFrom::Current(-(n_ahead as i64))) {
        Err(error) if error.kind() == io::ErrorKind::NotSeekable => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// Writes `output`, including the bytes that are added meanwhile.
pub(super) fn write_out(mut file: &std::fs::File, output: &Mutex<Output>) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let mut waiting = lock(output);
        if waiting.bytes.is_empty() {
            waiting.is_running = false;
            return Ok(());
        }
        mem::swap(&mut waiting.bytes, &mut bytes);
        // The file is written without the lock, so that more bytes can be added meanwhile.
        drop(waiting);
        if let Err(error) = file.write_all(&bytes) {
            *lock(output) = Output::default();
            return Err(error);
        }
    }
}

/// Who asks for the error of an earlier write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    Flush,
    Close,
    /// An operation other than these two.
    Other,
}

/// An error of a write that was acknowledged before it was made.
///
/// The next operation returns it, whichever that is, and `flush` and `close` return it once each.
/// A program that checks only one of them learns that bytes are lost, and so does one that has
/// ignored the first error.
#[derive(Debug)]
pub(super) struct Failure {
    kind: io::ErrorKind,
    raw_os_error: Option<i32>,
    text: String,
    /// Who has not been told yet.
    next: bool,
    flush: bool,
    close: bool,
}

impl Failure {
    pub(super) fn new(error: &io::Error) -> Failure {
        Failure {
            kind: error.kind(),
            raw_os_error: error.raw_os_error(),
            text: error.to_string(),
            next: true,
            flush: true,
            close: true,
        }
    }

    /// Returns the error if `asker` has to be told, and notes that it was.
    pub(super) fn tell(&mut self, asker: Asker) -> Option<io::Error> {
        let own = match asker {
            Asker::Flush => mem::take(&mut self.flush),
            Asker::Close => mem::take(&mut self.close),
            Asker::Other => false,
        };
        // The first `flush` leaves the error for one more operation.
        let is_told = own || mem::take(&mut self.next);
        is_told.then(|| match self.raw_os_error {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::new(self.kind, self.text.clone()),
        })
    }
}
