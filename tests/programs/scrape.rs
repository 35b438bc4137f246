//! The example `metrics`, asked by curl as Prometheus would ask it.
#![cfg(feature = "dump")]

use crate::util::{Killed, example};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};

/// Starts the example and returns the address that it listens on.
fn start() -> (Killed, String) {
    let mut command = example("metrics");
    let child = command.arg("127.0.0.1:0").stdout(Stdio::piped()).spawn();
    let mut child = Killed(child.unwrap());
    let mut line = String::new();
    let stdout = child.0.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let addr = line.strip_prefix("metrics: listening on ").unwrap();
    let addr = addr.split(';').next().unwrap().to_owned();
    (child, addr)
}

/// Gets a page by `curl`, or by hand where there is no curl.
fn scrape(addr: &str, path: &str) -> String {
    let url = format!("http://{addr}{path}");
    match Command::new("curl").args(["-sS", "-f", &url]).output() {
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        }
        Err(_) => {
            let mut stream = TcpStream::connect(addr).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut back = String::new();
            stream.read_to_string(&mut back).unwrap();
            back.split_once("\r\n\r\n").unwrap().1.to_owned()
        }
    }
}

fn value(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("no {name} in:\n{page}"));
    value.trim().parse().unwrap()
}

#[test]
fn metrics_are_scraped_in_the_text_format_of_prometheus() {
    let (_child, addr) = start();
    let (first, second) = (scrape(&addr, "/metrics"), scrape(&addr, "/metrics"));
    let polls = "fahrenheit_polls_total ";
    let has_grown = value(&second, polls) > value(&first, polls);
    assert!(has_grown, "{first}\n{second}");
    assert!(value(&second, "fahrenheit_tasks_spawned_total ") >= 2.0);
    assert!(value(&second, "fahrenheit_busy_seconds_total ") > 0.0);
    let all = value(&second, "fahrenheit_timer_lateness_seconds_count ");
    let beyond = "fahrenheit_timer_lateness_seconds_bucket{le=\"+Inf\"} ";
    assert_eq!(value(&second, beyond), all);
    // Each sample belongs to a metric whose type was said before.
    let mut known = Vec::new();
    for line in second.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(rest) => known.push(rest.split(' ').next().unwrap().to_owned()),
            None => assert!(known.iter().any(|name| line.starts_with(name)), "{line}"),
        }
    }
}

#[test]
fn a_dump_is_served_as_text() {
    let (_child, addr) = start();
    let dump = scrape(&addr, "/dump");
    assert!(dump.contains("main future: waiting"), "{dump}");
    assert!(dump.contains(&format!("tcp listener {addr}")), "{dump}");
    assert!(dump.contains("running"), "the task that answers: {dump}");
}

#[cfg(feature = "signal")]
#[test]
fn a_signal_has_the_dump_written_to_stderr() {
    let mut command = example("chat");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Killed(command.arg("127.0.0.1:0").spawn().unwrap());
    let mut line = String::new();
    let stdout = child.0.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let pid = nix::unistd::Pid::from_raw(child.0.id().try_into().unwrap());
    let mut stderr = BufReader::new(child.0.stderr.take().unwrap()).lines();
    let mut dump = || {
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGUSR1).unwrap();
        let mut lines = Vec::new();
        while !lines
            .last()
            .is_some_and(|line: &String| line.contains("blocking threads"))
        {
            lines.push(stderr.next().unwrap().unwrap());
        }
        lines
    };
    // The first signal may come before the loop has polled the main future.
    let is_early = |lines: &Vec<String>| lines[0] == "main future: queued, 0 polls";
    let mut lines = dump();
    for _ in 0..100 {
        if !is_early(&lines) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        lines = dump();
    }
    assert_eq!(lines[0], "main future: waiting, 1 polls");
    let waits = &lines[1];
    assert!(
        waits.contains("to read: tcp listener 127.0.0.1:"),
        "{waits}"
    );
    assert!(lines[2].contains("\"dump on SIGUSR1\""), "{lines:?}");
}
