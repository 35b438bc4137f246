//! Runs a program for a limited time, and marks each line that it writes: `out` or `err`. At the
//! limit it is asked to end, and a second later it is killed. Exits with the program's code, or
//! with 128 and the number of the signal that has ended it.
//!
//! Terminal: `cargo run --example run_child -- 3 ping localhost`
//! or `… --example run_child -- 3 sh -c 'echo one; echo two >&2; exit 7'; echo $?`
//! or `… --example run_child -- 3 sh -c 'trap "" TERM; while :; do sleep 1; done'`

use fahrenheit::prelude::*;
use fahrenheit::process::{AsyncChild, AsyncCommand};
use fahrenheit::signal::Signal;
use fahrenheit::time::timeout;
use futures_util::future::try_join3;
use futures_util::io::BufReader;
use shared::{fail, print, say};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio, exit};
use std::time::Duration;

mod shared;

fn main() {
    let args = shared::args();
    let (limit, program) = match &args[..] {
        [limit, program @ ..] if !program.is_empty() => (limit.parse().ok(), program),
        _ => (None, &args[..]),
    };
    let limit = limit.unwrap_or_else(|| fail(2, "usage: run_child SECONDS PROGRAM [ARGUMENT...]"));
    match fahrenheit::run(run(program, Duration::from_secs(limit))) {
        Ok(status) => exit(
            status
                .code()
                .or(status.signal().map(|s| 128 + s))
                .unwrap_or(1),
        ),
        Err(error) => fail(1, &format!("run_child: {}: {error}", program[0])),
    }
}

async fn run(program: &[String], limit: Duration) -> io::Result<ExitStatus> {
    let mut command = AsyncCommand::new(&program[0]);
    command.args(&program[1..]).kill_on_drop(true);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let out = mark("out", child.stdout.take());
    let err = mark("err", child.stderr.take());
    let (status, (), ()) = try_join3(end(&mut child, limit), out, err).await?;
    Ok(status)
}

/// Waits for the end of the child, and sees to it that it comes.
async fn end(child: &mut AsyncChild, limit: Duration) -> io::Result<ExitStatus> {
    if let Ok(ended) = timeout(limit, child.wait()).await {
        return ended;
    }
    say("run_child: the time is up");
    child.signal(Signal::TERM)?;
    if let Ok(ended) = timeout(Duration::from_secs(1), child.wait()).await {
        return ended;
    }
    say("run_child: it does not want to end");
    child.kill()?;
    child.wait().await
}

/// Copies line by line to stdout.
async fn mark(name: &str, pipe: Option<impl AsyncRead + Unpin>) -> io::Result<()> {
    let mut lines = BufReader::new(pipe.expect("it is piped"));
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).await? > 0 {
        print(&[name.as_bytes(), b": ", &line].concat());
        line.clear();
    }
    Ok(())
}
