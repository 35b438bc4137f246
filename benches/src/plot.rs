//! The plots, as SVG written by hand: lines over two axes, and a legend.

use std::fmt::Write;

use crate::child::CONTENDERS;
use crate::report::{Results, RowResults};
use crate::rows::{Row, find};
use crate::sample::PERCENTILES;

/// Every plot for which the run has at least two points, with its file's name.
pub(crate) fn all(results: &Results) -> Vec<(&'static str, String)> {
    let per_cpu_second = |row: &RowResults, runtime: &str| {
        let cost = row.figure(runtime, "cost")?;
        Some(1e9 / cost)
    };
    let us = |row: &RowResults, runtime: &str| Some(row.figure(runtime, "cost")? / 1e3);
    let plots = [
        Plot {
            file: "idle.svg",
            title: "10 active connections beside idle ones",
            x: "idle connections",
            y: "requests per CPU-second",
            lines: lines(results, "idle-", Row::idle, per_cpu_second),
        },
        Plot {
            file: "active.svg",
            title: "active connections",
            x: "connections",
            y: "requests per CPU-second",
            lines: lines(results, "echo-", Row::active, per_cpu_second),
        },
        Plot {
            file: "tick.svg",
            title: "one request among so many descriptors",
            x: "idle descriptors",
            y: "CPU us per request",
            lines: lines(results, "tick-", Row::idle, us),
        },
        Plot {
            file: "lateness.svg",
            title: "lateness of 100,000 sleeps of 1 to 1,000 ms",
            x: "percent of sleeps",
            y: "late by less than, us",
            lines: lateness(results),
        },
    ];
    let drawn = plots.into_iter().filter(|plot| !plot.lines.is_empty());
    drawn.map(|plot| (plot.file, plot.draw())).collect()
}

type Line = (&'static str, Vec<(f64, f64)>);

fn lines(
    results: &Results,
    start: &str,
    x: impl Fn(&Row) -> usize,
    y: impl Fn(&RowResults, &str) -> Option<f64>,
) -> Vec<Line> {
    let rows = results
        .rows
        .iter()
        .filter(|row| row.name.starts_with(start));
    let rows: Vec<_> = rows
        .filter_map(|row| Some((x(find(row.name)?) as f64, row)))
        .collect();
    let line = |runtime| {
        let points = rows
            .iter()
            .filter_map(|(x, row)| Some((*x, y(row, runtime)?)));
        (runtime, points.collect::<Vec<_>>())
    };
    let lines = results.runtimes().into_iter().map(line);
    lines.filter(|(_, points)| points.len() > 1).collect()
}

fn lateness(results: &Results) -> Vec<Line> {
    let Some(row) = results.rows.iter().find(|row| row.name == "sleeps") else {
        return Vec::new();
    };
    let line = |runtime| {
        let points = PERCENTILES.iter().filter_map(|(name, share)| {
            // Less than a microsecond is not told apart.
            Some((share * 100.0, row.figure(runtime, name)?.max(1.0)))
        });
        (runtime, points.collect::<Vec<_>>())
    };
    let lines = results.runtimes().into_iter().map(line);
    lines.filter(|(_, points)| points.len() > 1).collect()
}

const COLORS: [&str; 14] = [
    "#d62728", "#ff9896", "#1f77b4", "#2ca02c", "#9467bd", "#c5b0d5", "#8c564b", "#c49c94",
    "#e377c2", "#7f7f7f", "#000000", "#bcbd22", "#17becf", "#ff7f0e",
];

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 680.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 385.0;

/// Readers may have a dark page.
const STYLE: &str = "<style>.paper{fill:#fff}text{fill:#222}@media(prefers-color-scheme:dark)\
    {.paper{fill:#0d1117}text{fill:#ddd}line{stroke:#30363d}}</style>";

struct Plot {
    file: &'static str,
    title: &'static str,
    x: &'static str,
    y: &'static str,
    lines: Vec<Line>,
}

impl Plot {
    /// Points stand at equal distances along x, as the rows were chosen; y is logarithmic,
    /// because loops differ by factors and not by sums.
    fn draw(&self) -> String {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let mut xs: Vec<f64> = points().map(|(x, _)| *x).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        let low = points()
            .map(|(_, y)| *y)
            .fold(f64::MAX, f64::min)
            .log10()
            .floor();
        let high = points()
            .map(|(_, y)| *y)
            .fold(f64::MIN, f64::max)
            .log10()
            .ceil();
        let high = high.max(low + 1.0);
        let at_x = |x: f64| {
            let index = xs.iter().position(|one| *one == x).unwrap_or(0) as f64;
            LEFT + (RIGHT - LEFT) * index / (xs.len() as f64 - 1.0).max(1.0)
        };
        let at_y = |y: f64| BOTTOM - (BOTTOM - TOP) * (y.log10() - low) / (high - low);
        let mut svg = self.frame();
        for power in low as i32..=high as i32 {
            for digit in [1.0, 2.0, 5.0] {
                let value = digit * 10f64.powi(power);
                if value.log10() <= high + 1e-9 {
                    horizontal(&mut svg, at_y(value), value);
                }
            }
        }
        for x in &xs {
            text(&mut svg, at_x(*x), BOTTOM + 18.0, "middle", &number(*x));
        }
        for (index, (runtime, points)) in self.lines.iter().enumerate() {
            // The same color for the same runtime in every plot of every run.
            let place = CONTENDERS.iter().position(|one| one.name == *runtime);
            let color = COLORS[place.unwrap_or(0) % COLORS.len()];
            let path = points
                .iter()
                .map(|(x, y)| format!("{:.1},{:.1} ", at_x(*x), at_y(*y)));
            let width = if runtime.starts_with("fahrenheit") {
                3
            } else {
                1
            };
            let _ = writeln!(
                svg,
                "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\" \
                 points=\"{}\"/>",
                path.collect::<String>().trim_end()
            );
            let y = TOP + 10.0 + 22.0 * index as f64;
            let _ = writeln!(
                svg,
                "<rect x=\"{}\" y=\"{}\" width=\"18\" height=\"4\" fill=\"{color}\"/>",
                RIGHT + 20.0,
                y - 6.0
            );
            text(&mut svg, RIGHT + 46.0, y, "start", runtime);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn frame(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             {STYLE}\n\
             <rect class=\"paper\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n"
        );
        text(
            &mut svg,
            LEFT,
            16.0,
            "start",
            &format!("{}: {}", self.y, self.title),
        );
        text(
            &mut svg,
            (LEFT + RIGHT) / 2.0,
            HEIGHT - 12.0,
            "middle",
            self.x,
        );
        svg
    }
}

fn horizontal(svg: &mut String, y: f64, value: f64) {
    let _ = writeln!(
        svg,
        "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>"
    );
    text(svg, LEFT - 8.0, y + 4.0, "end", &number(value));
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

/// Thousands apart, and no more digits than the figure has.
pub(crate) fn number(figure: f64) -> String {
    if figure.fract() != 0.0 {
        return format!("{figure}");
    }
    let digits = format!("{figure:.0}");
    let mut apart = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!(number(15_000.0), "15,000");
        assert_eq!(number(100.0), "100");
        assert_eq!(number(99.9), "99.9");
    }
}
