//! What a child process does: one piece of work, one server, or one load.

use std::io;
use std::time::Duration;

use crate::load::{self, Length, Target};
use crate::raw;
use crate::rows::{Cores, Inside, Kind, Load, Row, find};
use crate::runtimes::{Blocking, Calloop, CompioPoll, CompioUring, Executor, Fahrenheit, Glommio};
use crate::runtimes::{MonoioLegacy, MonoioUring, Net, Pool, Smol, Timed, Tokio};
use crate::sample::Sample;
use crate::server;
use crate::sys;
use crate::threads;
use crate::work::{self, Amount};

/// The first word of a child's command line.
pub(crate) const INSIDE: &str = "__inside";
pub(crate) const SERVE: &str = "__serve";
pub(crate) const LOAD: &str = "__load";
/// The role of `INSIDE` with an exact number of repetitions.
pub(crate) const COUNT: &str = "__count";
/// The role of `LOAD` with an exact number of requests.
pub(crate) const REQUESTS: &str = "__requests";

/// How long a load generator waits for its parent to end it, once it has reported.
const STAY: Duration = Duration::from_secs(30);
/// How long a load generator waits after the last reply, so that the server has gone back to
/// waiting for events before it is ended.
const SETTLE: Duration = Duration::from_millis(100);

/// A runtime, or a loop, and what it can do.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    inside: Option<fn(Inside, Amount) -> Option<Sample>>,
    serve: Option<fn(&'static Row, Load) -> io::Result<()>>,
    /// Whether it knows the time and has a pool of threads.
    complete: bool,
    /// Environment that the child gets.
    pub(crate) environment: Option<(&'static str, &'static str)>,
}

const fn full<R: Timed + Blocking + Net>(name: &'static str) -> Contender {
    Contender {
        name,
        inside: Some(every_work::<R>),
        serve: Some(server::serve::<R>),
        complete: true,
        environment: None,
    }
}

const fn server_only(
    name: &'static str,
    serve: fn(&'static Row, Load) -> io::Result<()>,
) -> Contender {
    Contender {
        name,
        inside: None,
        serve: Some(serve),
        complete: false,
        environment: None,
    }
}

/// All that can be compared, in the order of the table.
pub(crate) const CONTENDERS: &[Contender] = &[
    full::<Fahrenheit>("fahrenheit"),
    Contender {
        environment: Some(("FAHRENHEIT_POLLER", "select")),
        inside: None,
        ..full::<Fahrenheit>("fahrenheit-select")
    },
    full::<Tokio>("tokio"),
    full::<Smol>("smol"),
    full::<MonoioUring>("monoio-uring"),
    full::<MonoioLegacy>("monoio-legacy"),
    full::<CompioUring>("compio-uring"),
    full::<CompioPoll>("compio-poll"),
    full::<Glommio>("glommio"),
    Contender {
        name: "calloop",
        inside: Some(work::of_executor::<Calloop>),
        serve: Some(server::serve::<Calloop>),
        complete: false,
        environment: None,
    },
    Contender {
        name: "local-pool",
        inside: Some(work::of_executor::<Pool>),
        serve: None,
        complete: false,
        environment: None,
    },
    server_only("raw-epoll", raw::serve_epoll),
    server_only("raw-select", raw::serve_select),
    server_only("fahrenheit-2-threads", threads::serve_fahrenheit),
    #[cfg(feature = "tokio-multi-thread")]
    server_only("tokio-2-workers", threads::serve_tokio),
];

fn every_work<R: Timed + Blocking>(work: Inside, amount: Amount) -> Option<Sample> {
    of_executor_first::<R>(work, amount)
        .or_else(|| work::of_timed::<R>(work, amount))
        .or_else(|| work::of_blocking::<R>(work, amount))
}

fn of_executor_first<R: Executor>(work: Inside, amount: Amount) -> Option<Sample> {
    work::of_executor::<R>(work, amount)
}

impl Contender {
    /// Whether this one can take part in a row, as far as its traits tell.
    pub(crate) fn can(&self, row: &Row) -> bool {
        let selects = ["fahrenheit-select", "raw-select"].contains(&self.name);
        let of_tick = selects || ["fahrenheit", "tokio", "raw-epoll"].contains(&self.name);
        let tick = row.name.starts_with("tick-");
        let threaded = ["fahrenheit-2-threads", "tokio-2-workers"].contains(&self.name);
        let one_thread = ["fahrenheit", "tokio"].contains(&self.name);
        match row.kind {
            // One thread against several.
            Kind::Outside(_) if row.cores == Cores::All => one_thread || threaded,
            Kind::Outside(_) if threaded => false,
            // Only the poller counts there.
            Kind::Outside(_) if tick && !of_tick => false,
            // A select over so many takes milliseconds: making the connections takes a minute.
            Kind::Outside(_) if selects && row.idle() > 5_000 => false,
            Kind::Inside(Inside::Spawn | Inside::Yield | Inside::Mpsc) => self.inside.is_some(),
            Kind::Inside(Inside::Oneshot | Inside::ThreadWake) => self.inside.is_some(),
            Kind::Inside(_) => self.inside.is_some() && self.complete,
            Kind::Outside(_) => self.serve.is_some(),
        }
    }
}

/// Does what the words say; the figures, if any, go to standard output.
pub(crate) fn run(words: &[String]) -> Result<(), String> {
    let [role, row, rest @ ..] = words else {
        return Err("a child needs a role and a row".to_owned());
    };
    let row = find(row).ok_or("no such row")?;
    let (server_core, load_core) = sys::cores();
    sys::raise_limits();
    // A counted server has a core of its own: how long its load waits does not matter, but a
    // load that is interrupted between `connect` and `send` makes it wait once more.
    let pinned = match (role.as_str(), row.cores) {
        (_, Cores::All) => Ok(()),
        (REQUESTS, _) | (LOAD, Cores::Own) => sys::pin(load_core),
        _ => sys::pin(server_core),
    };
    if let Err(errno) = pinned {
        eprintln!("{role} is not pinned to a core, so its figures are noisier: {errno}");
    }
    match (role.as_str(), row.kind, rest) {
        (INSIDE | COUNT, Kind::Inside(work), [name, number]) => {
            sys::keep_freed_memory();
            let inside = contender(name)?.inside.ok_or("an executor is needed")?;
            let number = parse(number)? as usize;
            let amount = match role == COUNT {
                true => Amount::Counted { n: number },
                false => Amount::Timed { scale: number },
            };
            let sample = inside(work, amount).ok_or("not supported")?;
            println!("{}", sample.line());
            Ok(())
        }
        (SERVE, Kind::Outside(load), [name]) => {
            let serve = contender(name)?.serve.ok_or("a server is needed")?;
            serve(row, load).map_err(|error| error.to_string())
        }
        (LOAD, Kind::Outside(load), [port, pid, milliseconds]) => {
            let length = Length::Time(Duration::from_millis(parse(milliseconds)?));
            let (port, pid) = (parse(port)? as u16, parse(pid)? as u32);
            let target = Target { port, pid, length };
            load::run(row, load, target, |sample| println!("{}", sample.line()))
                .map_err(|error| error.to_string())
        }
        (REQUESTS, Kind::Outside(load), [port, pid, n]) => {
            let length = Length::Requests(parse(n)?);
            let (port, pid) = (parse(port)? as u16, parse(pid)? as u32);
            let target = Target { port, pid, length };
            load::run(row, load, target, |sample| {
                std::thread::sleep(SETTLE);
                println!("{}", sample.line());
                // The connections stay open until the parent has ended the server and then this
                // process, so that closing them is not counted.
                std::thread::sleep(STAY);
            })
            .map_err(|error| error.to_string())
        }
        _ => Err("these words do not go together".to_owned()),
    }
}

/// The contender of this name.
pub(crate) fn contender(name: &str) -> Result<&'static Contender, String> {
    let found = CONTENDERS.iter().find(|contender| contender.name == name);
    found.ok_or_else(|| format!("no such runtime: {name}"))
}

fn parse(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("not a number: {word}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ROWS;

    #[test]
    fn servers_with_several_threads_take_part_in_the_rows_on_all_cores_only() {
        let threaded = contender("fahrenheit-2-threads").expect("it is a contender");
        for row in ROWS {
            let on_all_cores = row.cores == Cores::All;
            assert_eq!(threaded.can(row), on_all_cores, "{}", row.name);
            assert_eq!(row.name.starts_with("cores-"), on_all_cores, "{}", row.name);
        }
    }
}
