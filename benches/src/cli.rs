//! The command line.

use std::path::PathBuf;

use crate::child::{CONTENDERS, Contender, contender};
use crate::rows::{ROWS, Row, find};

pub(crate) const HELP: &str = "\
usage: fahrenheit-bench [options]

  --rows NAME,…       only these rows; `echo*` stands for all that begin so
  --runtimes NAME,…   only these runtimes (tokio is what ratios are taken to)
  --rounds N          how often each is measured; the median counts (default 5)
  --quick             three short rounds
  --instructions      also count user instructions per operation, by valgrind
  --syscalls          also count system calls per request, by strace
  --no-ratios         measure no CPU time, only do what the other options ask for
  --footprint         also build a minimal echo server with each, and measure that
  --out DIRECTORY     write results.md, results.json and the plots there
  --list              name all rows and runtimes
";

/// What is to be done.
pub(crate) struct Options {
    pub(crate) rows: Vec<&'static Row>,
    pub(crate) runtimes: Vec<&'static Contender>,
    pub(crate) rounds: usize,
    pub(crate) quick: bool,
    pub(crate) instructions: bool,
    pub(crate) syscalls: bool,
    pub(crate) ratios: bool,
    pub(crate) footprint: bool,
    pub(crate) list: bool,
    pub(crate) out: Option<PathBuf>,
}

impl Options {
    /// # Errors
    /// A word that is not known, for the user.
    pub(crate) fn parse(words: &[String]) -> Result<Options, String> {
        let mut options = Options {
            rows: ROWS.iter().collect(),
            runtimes: CONTENDERS.iter().collect(),
            rounds: 0,
            quick: false,
            instructions: false,
            syscalls: false,
            ratios: true,
            footprint: false,
            list: false,
            out: None,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut next = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--rows" => options.rows = rows(next()?)?,
                "--runtimes" => {
                    options.runtimes = next()?
                        .split(',')
                        .map(contender)
                        .collect::<Result<_, _>>()?;
                }
                "--rounds" => {
                    let n = next()?.parse().ok().filter(|n| *n > 0);
                    options.rounds = n.ok_or("--rounds needs a number above 0")?;
                }
                "--quick" => options.quick = true,
                "--instructions" => options.instructions = true,
                "--syscalls" => options.syscalls = true,
                "--no-ratios" => options.ratios = false,
                "--footprint" => options.footprint = true,
                "--list" => options.list = true,
                "--out" => options.out = Some(PathBuf::from(next()?)),
                other => return Err(format!("unknown option: {other}")),
            }
        }
        if options.rounds == 0 {
            options.rounds = if options.quick { 3 } else { 5 };
        }
        Ok(options)
    }
}

fn rows(names: &str) -> Result<Vec<&'static Row>, String> {
    let mut rows = Vec::new();
    for name in names.split(',').filter(|name| !name.is_empty()) {
        match name.strip_suffix('*') {
            Some(start) => rows.extend(ROWS.iter().filter(|row| row.name.starts_with(start))),
            None => rows.push(find(name).ok_or(format!("no such row: {name}"))?),
        }
    }
    Ok(rows)
}
