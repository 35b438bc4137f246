//! Prints the end of a file, and then what is added to it, as `tail -f` does. Files cannot be
//! waited for, so it looks again every tenth of a second; reading is done by another thread, and
//! Ctrl-C, the timer and a slow terminal hold up nothing.
//!
//! Terminal 1: `cargo run --example tail /tmp/log` (after `touch /tmp/log`)
//! Terminal 2: `echo a line >>/tmp/log`; end terminal 1 with Ctrl-C.

use fahrenheit::prelude::*;
use fahrenheit::{fs, io, signal, time};
use futures_util::future::{Either, select};
use std::io::{Result, SeekFrom};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::exit;
use std::time::Duration;

/// How much of the end is printed at first.
const END: u64 = 1_000;

fn main() {
    let paths: Vec<_> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [path] = &paths[..] else {
        eprintln!("usage: tail FILE");
        exit(2);
    };
    let outcome = fahrenheit::block_on(async {
        let stop = signal::ctrl_c();
        match select(pin!(follow(path)), pin!(stop)).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right((stopped, _)) => stopped,
        }
    });
    if let Err(error) = outcome {
        eprintln!("tail: {}: {error}", path.display());
        exit(1);
    }
}

async fn follow(path: &Path) -> Result<()> {
    let mut file = fs::File::open(path).await?;
    let mut stdout = io::stdout()?;
    let len = file.metadata().await?.len();
    let mut place = file.seek(SeekFrom::Start(len.saturating_sub(END))).await?;
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let n = file.read(&mut bytes).await?;
        stdout.write_all(&bytes[..n]).await?;
        place += n as u64;
        if n > 0 {
            continue;
        }
        if file.metadata().await?.len() < place {
            eprintln!("tail: the file has become shorter; beginning again");
            place = file.seek(SeekFrom::Start(0)).await?;
        }
        time::sleep(Duration::from_millis(100)).await;
    }
}
