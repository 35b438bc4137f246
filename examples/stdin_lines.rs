//! Numbers the lines that come from stdin, as they come, and says every ten seconds how many there
//! were. No thread reads, and no flag of the terminal or the pipe is changed: so a slow writer or a
//! slow reader holds up nothing, and the shell is not surprised afterwards.
//!
//! Terminal: `cargo run --example stdin_lines`; type lines, and end with Ctrl-D.
//! In a pipeline: `cat README.md | cargo run -q --example stdin_lines | head -1`

use fahrenheit::io::{stdin, stdout};
use fahrenheit::prelude::*;
use fahrenheit::{block_on, spawn, time};
use std::cell::Cell;
use std::io;
use std::process::exit;
use std::rc::Rc;
use std::time::Duration;

fn main() {
    if std::env::args().len() > 1 {
        eprintln!("usage: stdin_lines");
        exit(2);
    }
    let n_lines = Rc::new(Cell::new(0));
    drop(spawn(report(Rc::clone(&n_lines))));
    match block_on(number(&n_lines)) {
        Ok(()) => {}
        // As after `| head -1`: the rest is not wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => {
            eprintln!("stdin_lines: {error}");
            exit(1);
        }
    }
}

async fn number(n_lines: &Cell<u64>) -> io::Result<()> {
    let (mut stdin, mut stdout) = (stdin()?, stdout()?);
    let mut line = Vec::new();
    while stdin.read_until(b'\n', &mut line).await? > 0 {
        n_lines.set(n_lines.get() + 1);
        // In one write: what reaches a pipe in one piece is not mixed with what others write.
        let mut numbered = format!("{}: ", n_lines.get()).into_bytes();
        numbered.append(&mut line);
        stdout.write_all(&numbered).await?;
    }
    Ok(())
}

async fn report(n_lines: Rc<Cell<u64>>) {
    let mut clock = time::interval(Duration::from_secs(10));
    clock.tick().await;
    loop {
        clock.tick().await;
        eprintln!("stdin_lines: {} so far", n_lines.get());
    }
}
