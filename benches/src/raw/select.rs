//! A `select` loop, with sets as large as the highest descriptor asks for.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;

use super::{Connection, Wants, accept};
use crate::rows::{Load, Row};
use crate::server::listen;

/// One bit for each descriptor.
#[derive(Clone, Default)]
struct Set(Vec<u64>);

impl Set {
    fn insert(&mut self, fd: i32) {
        self.0[fd as usize / 64] |= 1 << (fd % 64);
    }

    fn remove(&mut self, fd: i32) {
        self.0[fd as usize / 64] &= !(1 << (fd % 64));
    }

    fn grow(&mut self, fd: i32) {
        let words = (fd as usize / 64 + 1).max(self.0.len()).max(16);
        self.0.resize(words, 0);
    }
}

pub(crate) fn serve(row: &Row, load: Load) -> io::Result<()> {
    let listener = listen()?;
    let door = listener.as_raw_fd();
    let (mut reads, mut writes) = (Set::default(), Set::default());
    let (mut readable, mut writable) = (Set::default(), Set::default());
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut highest = door;
    reads.grow(door);
    writes.grow(door);
    reads.insert(door);
    loop {
        readable.0.clone_from(&reads.0);
        writable.0.clone_from(&writes.0);
        wait(highest, &mut readable, &mut writable)?;
        for word in 0..readable.0.len() {
            let mut bits = readable.0[word] | writable.0[word];
            while bits != 0 {
                let fd = (word * 64) as i32 + bits.trailing_zeros() as i32;
                bits &= bits - 1;
                if fd == door {
                    let Some(stream) = accept(door) else { continue };
                    let fd = stream.as_raw_fd();
                    highest = highest.max(fd);
                    reads.grow(fd);
                    writes.grow(fd);
                    reads.insert(fd);
                    if connections.len() <= fd as usize {
                        connections.resize_with(fd as usize + 1, || None);
                    }
                    connections[fd as usize] = Some(Connection::new(stream, row, load));
                    continue;
                }
                let slot = &mut connections[fd as usize];
                let Some(connection) = slot else { continue };
                reads.remove(fd);
                writes.remove(fd);
                match connection.turn() {
                    Wants::Read => reads.insert(fd),
                    Wants::Write => writes.insert(fd),
                    Wants::Close => *slot = None,
                }
            }
        }
    }
}

fn wait(highest: i32, readable: &mut Set, writable: &mut Set) -> io::Result<()> {
    let reads = readable.0.as_mut_ptr().cast();
    let writes = writable.0.as_mut_ptr().cast();
    // SAFETY: both sets are live, apart, at least as large as an fd_set, and have a bit for
    // every descriptor up to `highest`, which is all that Linux reads and writes.
    let n = unsafe { libc::select(highest + 1, reads, writes, null_mut(), null_mut()) };
    if n < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
