//! This crate beside its peers, on the same work, in one run, on your machine.
//!
//! ```text
//! cargo run --release --manifest-path benches/Cargo.toml               # all of it
//! cargo run --release --manifest-path benches/Cargo.toml -- --quick
//! cargo run --release --manifest-path benches/Cargo.toml -- --rows 'echo*,idle*' \
//!     --runtimes fahrenheit,tokio,raw-epoll --rounds 9 --out results
//! cargo run --release --manifest-path benches/Cargo.toml -- --instructions --syscalls --no-ratios
//! cargo run --release --manifest-path benches/Cargo.toml -- --list
//! cargo run --release --manifest-path benches/Cargo.toml --features tokio-multi-thread -- \
//!     --rows 'cores*'
//! ```
//!
//! **What is measured.** CPU time per operation, user and kernel, of the whole process, from the
//! kernel's own accounting: on a busy machine that is far steadier than time on the clock, and it
//! is what a server costs. Latency is measured by the load generator, from outside. Memory is the
//! growth of the resident set.
//!
//! **How.** For each measurement this program starts itself again: as the server, pinned to one
//! core, and as the load generator, pinned to the other, which checks every byte. Runtimes take
//! turns round by round, each round in another order; a ratio compares neighbours of one round,
//! and the median of these ratios is what the table shows. In the rows `cores-`, which compare
//! servers with one thread and with two, no process is pinned. tokio's multi-thread runtime takes
//! part in them only if the feature `tokio-multi-thread` is on. It is off by default, because it
//! makes tokio's current-thread runtime execute up to 6 % more instructions in the other rows.
//!
//! **Exact counts.** `--instructions` (needs valgrind) and `--syscalls` (needs strace) count
//! instead of timing, which also works on a busy machine; see `counts.rs`.
//! `benches/plot-instructions` draws the counts.
//!
//! **What is not shown.** io_uring runtimes keep buffers in the kernel, which no resident set
//! counts. A latency means little when both cores are shared with other work. Loopback has no
//! network card, no interrupts and no loss.
//!
//! This package is a workspace of its own, for Linux, so neither `cargo test` in the crate nor
//! anyone who depends on it ever builds it or its many dependencies.

mod child;
mod cli;
mod counts;
mod drive;
mod footprint;
mod histogram;
mod load;
mod plot;
mod raw;
mod report;
mod rows;
mod runtimes;
mod sample;
mod server;
mod sys;
mod threads;
mod work;

use std::env;
use std::fs;
use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::child::CONTENDERS;
use crate::cli::Options;
use crate::counts::{Counted, Tool};
use crate::drive::Effort;
use crate::report::{Results, RowResults};
use crate::rows::ROWS;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    if words.first().is_some_and(|word| word.starts_with("__")) {
        return match child::run(&words) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print!("{}", cli::HELP);
        return ExitCode::SUCCESS;
    }
    match Options::parse(&words) {
        Ok(options) if options.list => list(),
        Ok(options) => match run(&options) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("fahrenheit-bench: {error}");
                return ExitCode::FAILURE;
            }
        },
        Err(error) => {
            eprint!("fahrenheit-bench: {error}\n\n{}", cli::HELP);
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn list() {
    println!("rows:");
    for row in ROWS {
        println!("  {:<18} {}", row.name, row.unit);
    }
    let names: Vec<_> = CONTENDERS.iter().map(|contender| contender.name).collect();
    println!("runtimes:\n  {}", names.join(", "));
}

fn run(options: &Options) -> io::Result<()> {
    let mut results = Results {
        facts: facts(options),
        ..Results::default()
    };
    let begun = Instant::now();
    let rows = match options.ratios {
        true => options.rows.as_slice(),
        false => &[],
    };
    for (index, row) in rows.iter().enumerate() {
        let progress = format!("[{}/{}] {}", index + 1, rows.len(), row.name);
        results.rows.push(measure_row(row, options, &progress));
        eprintln!(
            "\r\x1b[K{progress}: done after {} s",
            begun.elapsed().as_secs()
        );
    }
    if options.instructions {
        results.instructions = count(Tool::Callgrind, counts::INSTRUCTIONS, options);
    }
    if options.syscalls {
        results.syscalls = count(Tool::Strace, counts::SYSCALLS, options);
    }
    if options.footprint {
        let asked = |server: &&str| {
            let mut names = options.runtimes.iter().map(|runtime| runtime.name);
            let server = server.trim_end_matches("-minimal");
            server == "std" || names.any(|name| name.starts_with(server))
        };
        for runtime in footprint::runtimes().filter(asked) {
            eprintln!("footprint: {runtime}");
            results
                .footprint
                .push((runtime, footprint::measure(runtime)));
        }
    }
    print!("{}", results.markdown());
    if let Some(directory) = &options.out {
        fs::create_dir_all(directory)?;
        fs::write(directory.join("results.md"), results.markdown())?;
        fs::write(directory.join("results.json"), results.json())?;
        for (name, picture) in plot::all(&results) {
            fs::write(directory.join(name), picture)?;
        }
    }
    Ok(())
}

/// Measures one row: round by round, and in each round every runtime once.
fn measure_row(row: &'static rows::Row, options: &Options, progress: &str) -> RowResults {
    let mut results = RowResults::new(row.name, row.unit);
    let effort = if options.quick {
        Effort {
            measure: Duration::from_millis(300),
            scale: 5,
        }
    } else {
        Effort {
            measure: Duration::from_millis(800),
            scale: 1,
        }
    };
    let able: Vec<_> = options.runtimes.iter().filter(|one| one.can(row)).collect();
    let limit = sys::raise_limits();
    for round in 0..options.rounds {
        for turn in 0..able.len() {
            let contender = able[(turn + round) % able.len()];
            eprint!(
                "\r\x1b[K{progress}, round {}: {}",
                round + 1,
                contender.name
            );
            let _ = io::stderr().flush();
            let sample = if row.descriptors() > limit {
                Err(format!(
                    "needs {} descriptors, may have {limit}",
                    row.descriptors()
                ))
            } else {
                drive::measure(row, contender, effort)
            };
            if let Err(error) = &sample {
                eprintln!("\r\x1b[K{progress}, {}: {error}", contender.name);
            }
            results.add(contender.name, sample);
        }
    }
    results.sort();
    results
}

/// Counts in every row that the options name and `tool` can count, for every runtime.
fn count(tool: Tool, counted: &'static [Counted], options: &Options) -> Vec<RowResults> {
    let mut results = Vec::new();
    for counted in counted {
        let row = counted.row();
        if !options.rows.iter().any(|one| one.name == row.name) {
            continue;
        }
        let mut result = RowResults::new(row.name, counted.unit);
        for _ in 0..counts::REPETITIONS {
            for contender in options.runtimes.iter().filter(|one| one.can(row)) {
                eprint!("\r\x1b[K{tool:?}, {}: {}", row.name, contender.name);
                let _ = io::stderr().flush();
                let sample = counted.measure(tool, contender);
                if let Err(error) = &sample {
                    eprintln!(
                        "\r\x1b[K{tool:?}, {}, {}: {error}",
                        row.name, contender.name
                    );
                }
                result.add(contender.name, sample);
            }
        }
        eprint!("\r\x1b[K");
        result.sort();
        results.push(result);
    }
    results
}

/// What a reader must know of the machine and the run.
fn facts(options: &Options) -> Vec<(String, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let kernel = read("/proc/sys/kernel/osrelease");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let rounds = match options.quick {
        true => format!("{}, short", options.rounds),
        false => options.rounds.to_string(),
    };
    let mut facts = vec![
        ("last commit that changed the library", commit()),
        (
            "processor",
            cpu.unwrap_or("unknown")
                .trim_start_matches([' ', '\t', ':'])
                .to_owned(),
        ),
        ("cores", cores.to_string()),
        ("kernel", kernel),
        ("pinned", sys::pinning()),
        ("repeated by", command()),
    ];
    if options.ratios {
        facts.push(("rounds", rounds));
    }
    // What the compiler and the C library put into a program decides about instructions, too.
    facts.push(("compiler", version("rustc")));
    facts.push(("profile", profile()));
    if options.instructions {
        facts.push(("counter of instructions", version("valgrind")));
    }
    if options.syscalls {
        facts.push(("counter of system calls", version("strace")));
    }
    let facts = facts.into_iter();
    facts
        .map(|(name, fact)| (name.to_owned(), fact.trim().to_owned()))
        .collect()
}

/// The last commit that changed what is measured, so that it says the same after a later commit
/// of results, and whether that differs from the files.
fn commit() -> String {
    let git = |words: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-C", env!("CARGO_MANIFEST_DIR")]).args(words);
        let output = command.args(["--", "../src", "../Cargo.toml"]).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        text.unwrap_or_default().trim().to_owned()
    };
    let dirty = match git(&["status", "--porcelain"]).is_empty() {
        true => "",
        false => ", with changes",
    };
    format!("{}{dirty}", git(&["log", "-1", "--format=%h"]))
}

/// The command that makes these figures again.
fn command() -> String {
    let words: Vec<_> = env::args().skip(1).collect();
    let features = match cfg!(feature = "tokio-multi-thread") {
        true => " --features tokio-multi-thread",
        false => "",
    };
    let words = words.join(" ");
    format!("`cargo run --release{features} -- {words}` in benches")
}

/// The release profile as cargo's environment changed it, which changes instructions by a third.
fn profile() -> String {
    let changes = [
        ("lto", option_env!("CARGO_PROFILE_RELEASE_LTO")),
        (
            "codegen-units",
            option_env!("CARGO_PROFILE_RELEASE_CODEGEN_UNITS"),
        ),
    ];
    let mut text = "release".to_owned();
    for (name, value) in changes {
        if let Some(value) = value {
            text.push_str(&format!(", {name}={value}"));
        }
    }
    text
}

/// The first line that a program prints about its version.
fn version(program: &str) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_else(|error| format!("{program}: {error}"));
    text.lines().next().unwrap_or_default().to_owned()
}
