//! Shows the tasks of a running program that uses fahrenheit, and what they wait for.
//!
//! The program calls `fahrenheit::diagnostics::serve(path)`; then `fahrenheit-top PATH` in a
//! terminal shows its tasks live. If input or output is no terminal, or with `--once`, it prints
//! them once.

mod app;
mod client;
mod live;
mod options;
mod screen;
mod snapshot;
mod terminal;
mod text;

use client::Client;
use fahrenheit::time::sleep;
use options::{Options, Parsed};
use snapshot::Snapshot;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// What is printed for `--help`, and in short for wrong arguments.
const HELP: &str = "\
Usage: fahrenheit-top [OPTIONS] PATH

Shows the tasks of a program that calls fahrenheit::diagnostics::serve(PATH).

Options:
  --once              print the tasks once, after one interval; so it is done
                      also if input or output is no terminal
  --sort ORDER        polls (the default), busy or age; keys change it later
  --interval SECONDS  the time between two looks, 1 by default, at least 0.1
  --help, --version
";

fn main() -> ExitCode {
    let args = std::env::args_os().skip(1);
    let options = match Options::parse(args) {
        Ok(Parsed::Run(options)) => options,
        Ok(Parsed::Help) => return print(HELP),
        Ok(Parsed::Version) => {
            return print(&format!("fahrenheit-top {}\n", env!("CARGO_PKG_VERSION")));
        }
        Err(text) => {
            complain(&format!("{text}; see --help"));
            return ExitCode::from(2);
        }
    };
    let is_live = !options.once && io::stdin().is_terminal() && io::stdout().is_terminal();
    let outcome = match is_live {
        true => fahrenheit::block_on(live::run(&options)),
        false => fahrenheit::block_on(once(&options)),
    };
    match outcome {
        Ok(text) => print(&text),
        Err(text) => {
            complain(&text);
            ExitCode::FAILURE
        }
    }
}

/// Returns the tasks as text. Takes two looks, because rates need the time between them.
async fn once(options: &Options) -> Result<String, String> {
    let mut client = Client::connect(&options.path).await?;
    let mut look = async || Snapshot::parse(&client.ask(options.order.request()).await?);
    let before = look().await?;
    sleep(options.interval).await;
    let mut snapshot = look().await?;
    snapshot.compare(&before);
    snapshot.sort(options.order);
    Ok(screen::page(&snapshot, options.order))
}

/// Writes to stdout. A reader that has seen enough, as `head` has, is no failure.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("cannot write: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Writes to stderr. If that is closed, the exit status has to do.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "fahrenheit-top: {text}");
}
