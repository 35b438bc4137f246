//! The results: medians, ratios, and their forms as Markdown and JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::child::CONTENDERS;
use crate::plot::number;
use crate::rows;
use crate::sample::Sample;

/// Rounds whose costs differ by this share of their median are listed one by one.
const UNSTEADY: f64 = 0.2;

/// Ratios are taken to this one.
pub(crate) const REFERENCE: &str = "tokio";

/// Every sample of a run, by row, in the order in which they were asked for.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) rows: Vec<RowResults>,
    /// `cost` is the number of instructions per operation.
    pub(crate) instructions: Vec<RowResults>,
    /// `cost` is the number of system calls per operation; every call is a figure by its name.
    pub(crate) syscalls: Vec<RowResults>,
    /// Of a minimal echo server: `crates`, `seconds` and `bytes`.
    pub(crate) footprint: Vec<(&'static str, Result<Sample, String>)>,
    /// What machine and what versions, one fact a line.
    pub(crate) facts: Vec<(String, String)>,
}

pub(crate) struct RowResults {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// By runtime: a sample for each round, or why there is none.
    pub(crate) samples: Vec<(&'static str, Vec<Result<Sample, String>>)>,
}

impl RowResults {
    pub(crate) fn new(name: &'static str, unit: &'static str) -> RowResults {
        RowResults {
            name,
            unit,
            samples: Vec::new(),
        }
    }

    /// Puts the runtimes into the order of `CONTENDERS`.
    pub(crate) fn sort(&mut self) {
        self.samples
            .sort_by_key(|(name, _)| CONTENDERS.iter().position(|one| one.name == *name));
    }

    pub(crate) fn add(&mut self, runtime: &'static str, sample: Result<Sample, String>) {
        match self.samples.iter_mut().find(|(name, _)| *name == runtime) {
            Some((_, samples)) => samples.push(sample),
            None => self.samples.push((runtime, vec![sample])),
        }
    }

    fn of(&self, runtime: &str) -> Option<&[Result<Sample, String>]> {
        let found = self.samples.iter().find(|(name, _)| *name == runtime);
        found.map(|(_, samples)| samples.as_slice())
    }

    /// The median over the rounds of one figure.
    pub(crate) fn figure(&self, runtime: &str, name: &str) -> Option<f64> {
        let samples = self.of(runtime)?.iter().flatten();
        median(samples.filter_map(|sample| sample.get(name)).collect())
    }

    /// How much better than the reference: each round is compared with its own neighbour, and
    /// the median of these ratios counts, so what disturbs a whole round cancels out.
    pub(crate) fn ratio(&self, runtime: &str) -> Option<f64> {
        let pairs = self.of(REFERENCE)?.iter().zip(self.of(runtime)?);
        let ratios = pairs.filter_map(|pair| match pair {
            (Ok(reference), Ok(this)) => Some(reference.get("cost")? / this.get("cost")?.max(1e-9)),
            _ => None,
        });
        median(ratios.collect())
    }

    /// By how much the repetitions of one figure differ: the largest less the smallest, divided
    /// by their median.
    fn spread(&self, runtime: &str, name: &str) -> Option<f64> {
        let samples = self.of(runtime)?.iter().flatten();
        let figures: Vec<_> = samples.filter_map(|sample| sample.get(name)).collect();
        let largest = figures.iter().copied().fold(f64::MIN, f64::max);
        let smallest = figures.iter().copied().fold(f64::MAX, f64::min);
        Some((largest - smallest) / median(figures)?.max(1e-9))
    }

    /// The cost in each round.
    fn costs(&self, runtime: &str) -> Option<String> {
        let samples = self.of(runtime)?.iter().flatten();
        let costs: Vec<_> = samples
            .filter_map(|sample| sample.get("cost").map(short))
            .collect();
        Some(costs.join(", "))
    }

    /// The names of all figures but `cost` whose median is at least `least` for one of the
    /// runtimes.
    fn figures_from(&self, least: f64) -> BTreeSet<&str> {
        let mut large = BTreeSet::new();
        for (runtime, samples) in &self.samples {
            let names = samples.iter().flatten().flat_map(|sample| sample.0.keys());
            large.extend(names.map(String::as_str).filter(|name| {
                let median = self.figure(runtime, name);
                *name != "cost" && median.is_some_and(|median| median >= least)
            }));
        }
        large
    }

    fn failure(&self, runtime: &str) -> Option<&str> {
        let samples = self.of(runtime)?.iter();
        samples
            .filter_map(|sample| sample.as_ref().err())
            .next()
            .map(String::as_str)
    }
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let n = figures.len();
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(figures[n / 2]),
        _ => Some((figures[n / 2 - 1] + figures[n / 2]) / 2.0),
    }
}

impl Results {
    /// The runtimes that took part, in the order of their first row.
    pub(crate) fn runtimes(&self) -> Vec<&'static str> {
        runtimes(&self.rows)
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for (name, fact) in &self.facts {
            let _ = writeln!(text, "- {name}: {fact}");
        }
        self.ratios(&mut text);
        self.instructions(&mut text);
        self.syscalls(&mut text);
        self.footprints(&mut text);
        self.units(&mut text);
        self.unsteady(&mut text);
        self.failures(&mut text);
        text
    }

    fn ratios(&self, text: &mut String) {
        if self.rows.is_empty() {
            return;
        }
        text.push_str("\n## Ratio to tokio\n\nCost of tokio divided by cost, of the same round; ");
        text.push_str("median over the rounds. Higher is better; in bold what is below 1.\n\n");
        table(text, &self.rows, |row, runtime| match row.ratio(runtime) {
            Some(ratio) if ratio < 0.995 => Some(format!("**{ratio:.2}**")),
            Some(ratio) => Some(format!("{ratio:.2}")),
            None => row.failure(runtime).map(|_| "failed".to_owned()),
        });
        text.push_str("\n## Cost\n\nLower is better.\n\n");
        table(text, &self.rows, |row, runtime| {
            row.figure(runtime, "cost").map(short)
        });
        self.per_second(text);
        text.push_str("\n## Latency or lateness in us, p50 / p99 / p99.9\n\n");
        text.push_str("Each is the median over the rounds.\n\n");
        table(text, &self.rows, |row, runtime| {
            let percentile = |name| row.figure(runtime, name).map(short);
            let (p50, p99) = (percentile("p50")?, percentile("p99")?);
            Some(format!("{p50} / {p99} / {}", percentile("p99.9")?))
        });
    }

    /// For the rows on all cores: a server with several threads can answer more requests by using
    /// more CPU time, which its cost per request does not show.
    fn per_second(&self, text: &mut String) {
        let on_all_cores = |row: &RowResults| {
            rows::find(row.name).is_some_and(|row| row.cores == rows::Cores::All)
        };
        if !self.rows.iter().any(on_all_cores) {
            return;
        }
        text.push_str("\n## Operations per second, on all cores\n\nHigher is better.\n\n");
        table(text, &self.rows, |row, runtime| {
            let figure = row.figure(runtime, "per_second").map(short);
            figure.filter(|_| on_all_cores(row))
        });
    }

    fn instructions(&self, text: &mut String) {
        if self.instructions.is_empty() {
            return;
        }
        text.push_str("\n## Instructions per operation\n\n");
        text.push_str("Instructions in user space of the measured process, counted by callgrind: ");
        text.push_str("the difference of a long and a short run, divided by the operations that ");
        text.push_str("the long run did more. For the rows with a server, those of the server. ");
        text.push_str("What io_uring does in the kernel is not in it. Lower is better.\n\n");
        table(text, &self.instructions, |row, runtime| {
            count(row, runtime, "cost", whole)
        });
        differences(text, &self.instructions);
    }

    fn syscalls(&self, text: &mut String) {
        if self.syscalls.is_empty() {
            return;
        }
        text.push_str("\n## System calls per request\n\n");
        text.push_str("Those of the server, counted by `strace -f -c`: the difference of a long ");
        text.push_str("and a short run, divided by the requests that the long run answered more. ");
        text.push_str("Calls that are below 0.001 per request everywhere are left out.\n");
        for row in &self.syscalls {
            let _ = writeln!(text, "\n`{}`: {}\n", row.name, row.unit);
            let runtimes = runtimes(std::slice::from_ref(row));
            let _ = writeln!(text, "| call | {} |", runtimes.join(" | "));
            let _ = writeln!(text, "|---|{}", "---:|".repeat(runtimes.len()));
            let names = row.figures_from(0.001).into_iter().map(|call| (call, call));
            for (title, call) in names.chain([("all", "cost")]) {
                let cells = runtimes.iter().map(|runtime| {
                    count(row, runtime, call, calls).unwrap_or_else(|| "–".to_owned())
                });
                line(text, title, cells);
            }
        }
        differences(text, &self.syscalls);
    }

    fn units(&self, text: &mut String) {
        if self.rows.is_empty() {
            return;
        }
        text.push_str("\n## What an operation is, where CPU time is measured\n\n");
        for row in &self.rows {
            let _ = writeln!(text, "- `{}`: {}", row.name, row.unit);
        }
        let noted = self.rows.iter();
        let noted: Vec<_> = noted
            .filter_map(|row| Some((row.name, rows::note(row.name)?)))
            .collect();
        if noted.is_empty() {
            return;
        }
        text.push_str("\n## Where the runtimes or the rounds are not alike\n\n");
        for (name, note) in noted {
            let _ = writeln!(text, "- `{name}`: {note}");
        }
    }

    /// Rounds that differ by more than noise: the median of two regimes describes neither.
    fn unsteady(&self, text: &mut String) {
        let mut lines = String::new();
        for row in &self.rows {
            let runtimes = row.samples.iter().map(|(runtime, _)| *runtime);
            let wide: Vec<_> = runtimes
                .filter(|runtime| row.spread(runtime, "cost") >= Some(UNSTEADY))
                .filter_map(|runtime| Some(format!("{runtime} {}", row.costs(runtime)?)))
                .collect();
            if !wide.is_empty() {
                let _ = writeln!(lines, "- `{}`: {}", row.name, wide.join("; "));
            }
        }
        if !lines.is_empty() {
            let _ = write!(
                text,
                "\n## Costs of the rounds, where they differ by more than a fifth\n\n{lines}"
            );
        }
    }

    fn footprints(&self, text: &mut String) {
        if self.footprint.is_empty() {
            return;
        }
        text.push_str("\n## Footprint of a minimal echo server\n\n");
        text.push_str("| with | crates | clean build | stripped size |\n|---|---:|---:|---:|\n");
        for (runtime, sample) in &self.footprint {
            let line = match sample {
                Ok(sample) => {
                    let figure = |name| sample.get(name).unwrap_or_default();
                    let (crates, seconds) = (figure("crates"), figure("seconds"));
                    format!(
                        "{crates} | {seconds:.1} s | {:.0} kB",
                        figure("bytes") / 1e3
                    )
                }
                Err(why) => format!("failed: {why} | – | –"),
            };
            let _ = writeln!(text, "| {runtime} | {line} |");
        }
    }

    fn failures(&self, text: &mut String) {
        let mut seen = BTreeMap::new();
        let counted = self.instructions.iter().chain(&self.syscalls);
        for row in self.rows.iter().chain(counted) {
            for (runtime, _) in &row.samples {
                if let Some(why) = row.failure(runtime) {
                    seen.entry((*runtime, why))
                        .or_insert_with(Vec::new)
                        .push(row.name);
                }
            }
        }
        if !seen.is_empty() {
            text.push_str("\n## What failed\n\n");
        }
        for ((runtime, why), rows) in seen {
            let _ = writeln!(text, "- {runtime}, {}: {why}", rows.join(", "));
        }
    }

    pub(crate) fn json(&self) -> String {
        let facts = self
            .facts
            .iter()
            .map(|(name, fact)| format!("{}:{}", quote(name), quote(fact)));
        let footprint = self
            .footprint
            .iter()
            .map(|(runtime, sample)| format!("    {}: {}", quote(runtime), sample_json(sample)));
        format!(
            "{{\n  \"facts\": {{{}}},\n  \"footprint\": {{\n{}\n  }},\n  \
             \"rows\": {},\n  \"instructions\": {},\n  \"syscalls\": {}\n}}\n",
            facts.collect::<Vec<_>>().join(", "),
            footprint.collect::<Vec<_>>().join(",\n"),
            rows_json(&self.rows),
            rows_json(&self.instructions),
            rows_json(&self.syscalls)
        )
    }
}

/// The runtimes that took part in these rows, in the order of their first row.
fn runtimes(rows: &[RowResults]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for (name, _) in rows.iter().flat_map(|row| &row.samples) {
        if !names.contains(name) {
            names.push(*name);
        }
    }
    names
}

fn table(
    text: &mut String,
    rows: &[RowResults],
    cell: impl Fn(&RowResults, &str) -> Option<String>,
) {
    let runtimes = runtimes(rows);
    let _ = writeln!(text, "| row | {} |", runtimes.join(" | "));
    let _ = writeln!(text, "|---|{}", "---:|".repeat(runtimes.len()));
    for row in rows {
        let cells: Vec<_> = runtimes.iter().map(|runtime| cell(row, runtime)).collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        let cells = cells
            .into_iter()
            .map(|cell| cell.unwrap_or_else(|| "–".to_owned()));
        line(text, row.name, cells);
    }
}

fn line(text: &mut String, title: &str, cells: impl Iterator<Item = String>) {
    let cells = cells.collect::<Vec<_>>().join(" | ");
    let _ = writeln!(text, "| {title} | {cells} |");
}

/// One figure of a runtime, `failed` if it has none for a reason that is known.
fn count(
    row: &RowResults,
    runtime: &str,
    figure: &str,
    form: impl Fn(f64) -> String,
) -> Option<String> {
    match row.figure(runtime, figure) {
        Some(figure) => Some(form(figure)),
        None => row.failure(runtime).map(|_| "failed".to_owned()),
    }
}

/// Says how well the counts of each row can be repeated, and what the rows count.
fn differences(text: &mut String, rows: &[RowResults]) {
    text.push_str("\nWhat one operation is, and by how much two counts of it differ:\n\n");
    for row in rows {
        let spreads = row.samples.iter().filter_map(|(runtime, _)| {
            let spread = row.spread(runtime, "cost")?;
            Some((spread, *runtime))
        });
        let worst = spreads.max_by(|a, b| a.0.total_cmp(&b.0));
        let Some((spread, runtime)) = worst else {
            continue;
        };
        let this = row.spread("fahrenheit", "cost").unwrap_or_default();
        let _ = writeln!(
            text,
            "- `{}`: {}; fahrenheit {:.2} %, at most {:.2} % ({runtime})",
            row.name,
            row.unit,
            this * 100.0,
            spread * 100.0
        );
    }
}

fn rows_json(rows: &[RowResults]) -> String {
    let rows = rows.iter().map(|row| {
        let runtimes = row.samples.iter().map(|(runtime, samples)| {
            let samples = samples
                .iter()
                .map(sample_json)
                .collect::<Vec<_>>()
                .join(",");
            format!("      {}: [{samples}]", quote(runtime))
        });
        format!(
            "    {}: {{\n      \"unit\": {},\n{}\n    }}",
            quote(row.name),
            quote(row.unit),
            runtimes.collect::<Vec<_>>().join(",\n")
        )
    });
    format!("{{\n{}\n  }}", rows.collect::<Vec<_>>().join(",\n"))
}

fn sample_json(sample: &Result<Sample, String>) -> String {
    match sample {
        Ok(sample) => {
            let pairs = sample.0.iter().map(|(name, figure)| match *figure < 100.0 {
                true => format!("{}:{figure:.4}", quote(name)),
                false => format!("{}:{figure:.1}", quote(name)),
            });
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
        }
        Err(why) => format!("{{\"failed\":{}}}", quote(why)),
    }
}

fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => quoted.push(' '),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// A count without decimals.
fn whole(count: f64) -> String {
    number(count.round())
}

/// Calls per request. A call of start-up, of which two runs can have one more or less, is none.
fn calls(calls: f64) -> String {
    match calls < 0.001 {
        true => "–".to_owned(),
        false => format!("{calls:.3}"),
    }
}

/// Three digits are enough.
fn short(figure: f64) -> String {
    match figure {
        _ if figure >= 1e6 => format!("{:.2}M", figure / 1e6),
        _ if figure >= 1e4 => format!("{:.1}k", figure / 1e3),
        _ if figure >= 100.0 => format!("{figure:.0}"),
        _ => format!("{figure:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn sample(ns: u64) -> Result<Sample, String> {
        let second = Duration::from_secs(1);
        Ok(Sample::per_operation(1, Duration::from_nanos(ns), second))
    }

    #[test]
    fn a_ratio_pairs_the_rounds() {
        let mut row = RowResults::new("spawn", "");
        for (tokio, this) in [(100, 50), (1_000, 500), (300, 100)] {
            row.add("tokio", sample(tokio));
            row.add("fahrenheit", sample(this));
        }
        assert_eq!(row.ratio("fahrenheit"), Some(2.0));
        assert_eq!(row.figure("fahrenheit", "cost"), Some(100.0));
        assert_eq!(row.ratio("smol"), None);
    }

    #[test]
    fn rounds_of_two_regimes_are_listed_and_rows_have_their_notes() {
        let mut row = RowResults::new("bulk-echo", "");
        for (tokio, this) in [(100, 100), (200, 110)] {
            row.add("tokio", sample(tokio));
            row.add("fahrenheit", sample(this));
        }
        let results = Results {
            rows: vec![row],
            ..Results::default()
        };
        let text = results.markdown();
        assert!(text.contains("- `bulk-echo`: tokio 100, 200\n"), "{text}");
        assert!(text.contains("- `bulk-echo`: has two regimes"), "{text}");
    }

    #[test]
    fn every_note_belongs_to_a_row() {
        let n_notes = rows::ROWS.iter().filter_map(|row| rows::note(row.name));
        assert_eq!(n_notes.count(), 8);
    }

    #[test]
    fn counts_become_tables() {
        let mut instructions = RowResults::new("spawn", "one task");
        let mut syscalls = RowResults::new("echo-1", "one request");
        for (instructions_of_one, calls) in [(1_000.0, 3.0), (1_010.0, 3.03)] {
            let mut sample = Sample::default();
            sample.set("cost", instructions_of_one);
            instructions.add("fahrenheit", Ok(sample));
            let mut sample = Sample::default();
            sample.set("cost", calls);
            sample.set("recvfrom", calls);
            sample.set("mmap", 0.000_1);
            // One more in one of the two counts.
            sample.set("munmap", if calls > 3.0 { 0.001 } else { -0.001 });
            syscalls.add("fahrenheit", Ok(sample));
        }
        instructions.add("glommio", Err("no io_uring".to_owned()));
        let results = Results {
            instructions: vec![instructions],
            syscalls: vec![syscalls],
            ..Results::default()
        };
        let text = results.markdown();
        assert!(text.contains("| row | fahrenheit | glommio |\n"));
        assert!(text.contains("| spawn | 1,005 | failed |\n"));
        assert!(
            text.contains("- `spawn`: one task; fahrenheit 1.00 %, at most 1.00 % (fahrenheit)")
        );
        assert!(text.contains("| recvfrom | 3.015 |\n| all | 3.015 |\n"));
        assert!(!text.contains("mmap"));
        assert!(!text.contains("munmap"));
        assert!(text.contains("- glommio, spawn: no io_uring\n"));
        assert!(!text.contains("Ratio to tokio"));
    }

    #[test]
    fn a_quote_is_escaped() {
        assert_eq!(quote("a \"b\" \\\n"), r#""a \"b\" \\ ""#);
    }
}
