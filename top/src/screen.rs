//! What is shown, as lines of text. Knows no terminal.

use crate::snapshot::{Order, Snapshot, Task};
use crate::text::{count, fit, number, time};
use std::fmt::Write;

/// The columns before the name: the number of the task, four numbers about it, and a space.
const LEFT: usize = 6 + 9 + 8 + 2 * 7 + 1;
/// The width of a name on a screen of 80 columns, and at most.
const MIN_NAME: usize = 16;
const MAX_NAME: usize = 40;

/// The three lines above the tasks.
pub(crate) fn summary(snapshot: &Snapshot) -> Vec<String> {
    let n = |name| snapshot.number(name);
    let rate = |name| snapshot.rate(name).map_or("-".to_owned(), number);
    let load = match snapshot.load() {
        Some(load) => format!("{:.1} % busy", 100.0 * load),
        None if snapshot.is_tracked() => "-".to_owned(),
        None => "no times without Builder::track".to_owned(),
    };
    vec![
        format!(
            "{} (pid {}): {} tasks, {} queued, {} timers; {load}",
            snapshot.program,
            snapshot.pid,
            n("tasks"),
            n("tasks_queued"),
            n("timers_armed"),
        ),
        format!(
            "per s: {} turns, {} polls, {} waits ({} ended by fds, {} by wakes)",
            rate("turns"),
            rate("polls"),
            rate("waits"),
            rate("waits_ended_by_descriptor"),
            rate("waits_ended_by_wake"),
        ),
        format!(
            "descriptors: {} select, {} queue; threads: {}, {} busy, {} jobs queued",
            n("descriptors_young"),
            n("descriptors_tenured"),
            n("blocking_threads"),
            n("blocking_threads_busy"),
            n("blocking_jobs_queued"),
        ),
    ]
}

/// The names of the columns, with the order marked.
pub(crate) fn header(order: Order, columns: usize) -> String {
    let mark = |this: Order, name: &str| match order == this {
        true => format!("{name}*"),
        false => name.to_owned(),
    };
    let (polls, busy, age) = (
        mark(Order::Polls, "POLLS/S"),
        mark(Order::Busy, "BUSY%"),
        mark(Order::Age, "AGE"),
    );
    let left = format!("{:>6}{polls:>9}{:>8}{busy:>7}{age:>7} ", "ID", "POLLS");
    let name = fit("NAME OR PLACE", name_width(columns), false);
    fit(&format!("{left}{name} WAITS FOR"), columns, false)
}

/// The width of names on a screen of so many columns: a third of what the numbers leave.
fn name_width(columns: usize) -> usize {
    (columns.saturating_sub(LEFT) / 3).clamp(MIN_NAME, MAX_NAME)
}

/// The line of one task.
fn row(task: &Task, columns: usize) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let left = format!(
        "{:>6}{:>9}{:>8}{:>7}{:>7} ",
        task.id,
        or_dash(task.polls_per_second.map(number)),
        count(task.polls),
        or_dash(task.load.map(|load| format!("{:.1}", 100.0 * load))),
        or_dash(task.age.map(time)),
    );
    let width = name_width(columns);
    let name = match (&task.name, task.is_main) {
        (_, true) => fit("main future", width, false),
        (Some(name), _) => fit(name, width, false),
        // The end of a path says more than its beginning.
        (None, _) => fit(&task.place, width, true),
    };
    fit(&format!("{left}{name} {}", task.waits()), columns, false)
}

/// The lines of the tasks, and of what belongs to none.
pub(crate) fn rows(snapshot: &Snapshot, columns: usize) -> Vec<String> {
    let mut rows: Vec<_> = snapshot
        .tasks
        .iter()
        .map(|task| row(task, columns))
        .collect();
    for wait in &snapshot.unattributed {
        let text = format!("a future with a waker of its own waits for {wait}");
        rows.push(fit(&text, columns, false));
    }
    if snapshot.n_omitted > 0 {
        let text = format!("{} more tasks are not shown", snapshot.n_omitted);
        rows.push(fit(&text, columns, false));
    }
    rows
}

/// All of it as text, for a file or a pipe, which have no width.
pub(crate) fn page(snapshot: &Snapshot, order: Order) -> String {
    const COLUMNS: usize = 200;
    let mut page = String::new();
    for line in summary(snapshot) {
        let _ = writeln!(page, "{line}");
    }
    let lines = [header(order, COLUMNS)]
        .into_iter()
        .chain(rows(snapshot, COLUMNS));
    for line in lines {
        let _ = writeln!(page, "{}", line.trim_end());
    }
    page
}
