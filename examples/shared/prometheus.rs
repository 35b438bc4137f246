//! The text format of Prometheus, version 0.0.4.

use fahrenheit::Metrics;
use std::fmt::Write;

/// Formats the metrics of a loop.
pub(crate) fn text(m: &Metrics) -> String {
    let mut text = String::new();
    let mut add = |name: &str, kind: &str, value: f64| {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "# TYPE fahrenheit_{name} {kind}\nfahrenheit_{name} {value}"
        );
    };
    for (name, value) in [
        ("turns_total", m.turns),
        ("polls_total", m.polls),
        ("waits_total", m.waits),
        ("waits_ended_by_wake_total", m.waits_ended_by_wake),
        (
            "waits_ended_by_descriptor_total",
            m.waits_ended_by_descriptor,
        ),
        ("waits_ended_by_time_total", m.waits_ended_by_time),
        ("wakers_called_total", m.wakers_called),
        ("timers_fired_total", m.timers_fired),
        ("tasks_spawned_total", m.tasks_spawned),
    ] {
        add(name, "counter", value as f64);
    }
    for (name, value) in [
        ("tasks", m.tasks),
        ("tasks_queued", m.tasks_queued),
        ("descriptors_young", m.descriptors_young),
        ("descriptors_tenured", m.descriptors_tenured),
        ("timers_armed", m.timers_armed),
        ("blocking_threads", m.blocking_threads),
        ("blocking_threads_busy", m.blocking_threads_busy),
        ("blocking_jobs_queued", m.blocking_jobs_queued),
    ] {
        add(name, "gauge", value as f64);
    }
    let Some(tracked) = &m.tracked else {
        return text;
    };
    add("busy_seconds_total", "counter", tracked.busy.as_secs_f64());
    add("idle_seconds_total", "counter", tracked.idle.as_secs_f64());
    let longest = tracked.longest_poll.as_secs_f64();
    add("longest_poll_seconds", "gauge", longest);
    let name = "fahrenheit_timer_lateness_seconds";
    let _ = writeln!(text, "# TYPE {name} histogram");
    let mut n_all = 0;
    for &(bound, n) in &tracked.lateness {
        let bound = bound.map_or("+Inf".to_owned(), |bound| bound.as_secs_f64().to_string());
        let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {n}");
        n_all = n;
    }
    let sum = tracked.lateness_sum.as_secs_f64();
    let _ = writeln!(text, "{name}_sum {sum}\n{name}_count {n_all}");
    text
}
