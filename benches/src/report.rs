//! The results: medians, ratios, and their forms as Markdown and JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::rows::Row;
use crate::sample::Sample;

/// Ratios are taken to this one.
pub(crate) const REFERENCE: &str = "tokio";

/// Every sample of a run, by row, in the order in which they were asked for.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) rows: Vec<RowResults>,
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
    pub(crate) fn new(row: &Row) -> RowResults {
        RowResults {
            name: row.name,
            unit: row.unit,
            samples: Vec::new(),
        }
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
        let mut names = Vec::new();
        for (name, _) in self.rows.iter().flat_map(|row| &row.samples) {
            if !names.contains(name) {
                names.push(*name);
            }
        }
        names
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for (name, fact) in &self.facts {
            let _ = writeln!(text, "- {name}: {fact}");
        }
        text.push_str("\n## Ratio to tokio\n\nCost of tokio divided by cost, of the same round; ");
        text.push_str("median over the rounds. Higher is better; in bold what is below 1.\n\n");
        self.table(&mut text, |row, runtime| match row.ratio(runtime) {
            Some(ratio) if ratio < 0.995 => Some(format!("**{ratio:.2}**")),
            Some(ratio) => Some(format!("{ratio:.2}")),
            None => row.failure(runtime).map(|_| "failed".to_owned()),
        });
        text.push_str("\n## Cost\n\nLower is better.\n\n");
        self.table(&mut text, |row, runtime| {
            row.figure(runtime, "cost").map(short)
        });
        text.push_str("\n## Latency or lateness in us, p50 / p99\n\n");
        self.table(&mut text, |row, runtime| {
            let (p50, p99) = (row.figure(runtime, "p50")?, row.figure(runtime, "p99")?);
            Some(format!("{} / {}", short(p50), short(p99)))
        });
        self.footprints(&mut text);
        text.push_str("\n## What an operation is\n\n");
        for row in &self.rows {
            let _ = writeln!(text, "- `{}`: {}", row.name, row.unit);
        }
        self.failures(&mut text);
        text
    }

    fn table(&self, text: &mut String, cell: impl Fn(&RowResults, &str) -> Option<String>) {
        let runtimes = self.runtimes();
        let _ = writeln!(text, "| row | {} |", runtimes.join(" | "));
        let _ = writeln!(text, "|---|{}", "---:|".repeat(runtimes.len()));
        for row in &self.rows {
            let cells: Vec<_> = runtimes.iter().map(|runtime| cell(row, runtime)).collect();
            if cells.iter().all(Option::is_none) {
                continue;
            }
            let cells = cells
                .into_iter()
                .map(|cell| cell.unwrap_or_else(|| "–".to_owned()));
            let _ = writeln!(
                text,
                "| {} | {} |",
                row.name,
                cells.collect::<Vec<_>>().join(" | ")
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
        for row in &self.rows {
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
        let rows = self.rows.iter().map(|row| {
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
        format!(
            "{{\n  \"facts\": {{{}}},\n  \"footprint\": {{\n{}\n  }},\n  \
             \"rows\": {{\n{}\n  }}\n}}\n",
            facts.collect::<Vec<_>>().join(", "),
            footprint.collect::<Vec<_>>().join(",\n"),
            rows.collect::<Vec<_>>().join(",\n")
        )
    }
}

fn sample_json(sample: &Result<Sample, String>) -> String {
    match sample {
        Ok(sample) => {
            let pairs = sample
                .0
                .iter()
                .map(|(name, figure)| format!("{}:{figure:.1}", quote(name)));
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
        let mut row = RowResults::new(&crate::rows::ROWS[0]);
        for (tokio, this) in [(100, 50), (1_000, 500), (300, 100)] {
            row.add("tokio", sample(tokio));
            row.add("fahrenheit", sample(this));
        }
        assert_eq!(row.ratio("fahrenheit"), Some(2.0));
        assert_eq!(row.figure("fahrenheit", "cost"), Some(100.0));
        assert_eq!(row.ratio("smol"), None);
    }

    #[test]
    fn a_quote_is_escaped() {
        assert_eq!(quote("a \"b\" \\\n"), r#""a \"b\" \\ ""#);
    }
}
