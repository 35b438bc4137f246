//! The rows of the table: what is done, and what one operation of it is.

/// One line of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// What one operation is, for the table.
    pub(crate) unit: &'static str,
    pub(crate) kind: Kind,
    pub(crate) cores: Cores,
}

/// Which cores the server and the load generator run on.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Cores {
    /// Each has a core of its own.
    Own,
    /// Both share one core.
    ///
    /// With one request under way at a time the two take turns anyway, and waking another core
    /// costs about 20 us, in which all differences drown.
    Shared,
    /// Neither is pinned. Pinned to one core, a server with several threads could not use them.
    All,
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// One process does the work and measures itself.
    Inside(Inside),
    /// A server process is measured while another process puts a load on it.
    Outside(Load),
}

/// Work that needs no peer.
#[derive(Clone, Copy)]
pub(crate) enum Inside {
    Spawn,
    Yield,
    Mpsc,
    Oneshot,
    ThreadWake,
    Blocking,
    Sleeps,
    TimeoutReady,
    TimeoutPending,
    TaskMemory,
}

/// Work that a load generator asks for.
#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// `active` connections always have one request of `size` bytes under way; `idle` have none.
    Echo {
        active: usize,
        idle: usize,
        size: usize,
    },
    /// Connect, one request, one reply, close, by this number of clients at a time.
    Short { parallel: usize },
    /// The server sends 64 KiB after 64 KiB.
    Stream,
    /// The server sends back what it is sent, 64 KiB at a time.
    Bulk,
    /// Resident bytes for each of this number of connections that wait for a request.
    Memory { idle: usize },
}

/// The size of the buffers of the bulk rows.
pub(crate) const BULK: usize = 64 * 1024;
/// The size of a request, and of a connection's buffer, everywhere else.
pub(crate) const REQUEST: usize = 512;

const fn inside(name: &'static str, unit: &'static str, inside: Inside) -> Row {
    let kind = Kind::Inside(inside);
    let cores = Cores::Shared;
    Row {
        name,
        unit,
        kind,
        cores,
    }
}

const fn outside(name: &'static str, unit: &'static str, load: Load) -> Row {
    let kind = Kind::Outside(load);
    let cores = Cores::Own;
    Row {
        name,
        unit,
        kind,
        cores,
    }
}

const fn on_one_core(row: Row) -> Row {
    let cores = Cores::Shared;
    Row { cores, ..row }
}

const fn on_all_cores(row: Row) -> Row {
    let cores = Cores::All;
    Row { cores, ..row }
}

const fn echo(name: &'static str, active: usize, idle: usize) -> Row {
    let size = REQUEST;
    let load = Load::Echo { active, idle, size };
    outside(name, "CPU ns per request", load)
}

/// Every row, in the order of the table.
pub(crate) const ROWS: &[Row] = &[
    inside(
        "spawn",
        "CPU ns per task spawned and joined, 100,000 at once",
        Inside::Spawn,
    ),
    inside(
        "yield",
        "CPU ns per yield of one of 16 tasks",
        Inside::Yield,
    ),
    inside(
        "mpsc",
        "CPU ns per hop of a message between two tasks",
        Inside::Mpsc,
    ),
    inside(
        "oneshot",
        "CPU ns per request by mpsc, answered by oneshot",
        Inside::Oneshot,
    ),
    inside(
        "thread-wake",
        "CPU ns per round trip to another thread",
        Inside::ThreadWake,
    ),
    inside(
        "blocking",
        "CPU ns per round trip to the blocking pool",
        Inside::Blocking,
    ),
    inside(
        "timeout-ready",
        "CPU ns per timeout around a ready future",
        Inside::TimeoutReady,
    ),
    inside(
        "timeout-pending",
        "CPU ns per timeout around a future pending once",
        Inside::TimeoutPending,
    ),
    inside(
        "sleeps",
        "CPU ns per sleep, 100,000 of 1 to 1,000 ms at once",
        Inside::Sleeps,
    ),
    on_one_core(outside(
        "ping-pong",
        "CPU ns per request of one byte on one connection, all on one core",
        Load::Echo {
            active: 1,
            idle: 0,
            size: 1,
        },
    )),
    echo("echo-1", 1, 0),
    echo("echo-10", 10, 0),
    echo("echo-100", 100, 0),
    echo("echo-1000", 1_000, 0),
    echo("idle-0", 10, 0),
    echo("idle-100", 10, 100),
    echo("idle-1000", 10, 1_000),
    echo("idle-5000", 10, 5_000),
    echo("idle-9000", 10, 9_000),
    echo("idle-15000", 10, 15_000),
    on_one_core(outside(
        "short-1",
        "CPU ns per connection, one at a time, all on one core",
        Load::Short { parallel: 1 },
    )),
    outside(
        "short-16",
        "CPU ns per connection, 16 at a time",
        Load::Short { parallel: 16 },
    ),
    outside("bulk-stream", "CPU ns per 64 KiB sent", Load::Stream),
    outside("bulk-echo", "CPU ns per 64 KiB echoed", Load::Bulk),
    outside(
        "connection-memory",
        "resident bytes per idle connection (512 are its buffer)",
        Load::Memory { idle: 5_000 },
    ),
    inside(
        "task-memory",
        "resident bytes per sleeping task",
        Inside::TaskMemory,
    ),
    on_one_core(echo("tick-0", 1, 0)),
    on_one_core(echo("tick-100", 1, 100)),
    on_one_core(echo("tick-1000", 1, 1_000)),
    on_one_core(echo("tick-5000", 1, 5_000)),
    on_one_core(echo("tick-10000", 1, 10_000)),
    on_all_cores(echo("cores-echo", 100, 0)),
    on_all_cores(outside(
        "cores-short",
        "CPU ns per connection, 16 at a time",
        Load::Short { parallel: 16 },
    )),
];

/// Where the runtimes do not do quite the same in a row, or where its figures are not steady.
pub(crate) fn note(row: &str) -> Option<&'static str> {
    Some(match row {
        "timeout-ready" | "timeout-pending" => {
            "the limit of fahrenheit counts from the first poll, so that a future that is ready \
             then costs no look at the clock; elsewhere it counts from when the timeout is made"
        }
        "sleeps" => {
            "fahrenheit may delay a timer by 0.1 ms to serve several at once; tokio and monoio \
             count in milliseconds"
        }
        "blocking" => "pools of different sizes, whose threads end after different times",
        "bulk-echo" => {
            "has two regimes, of which one costs twice as much as the other. Which of them a round \
             is in is decided by chance, so one ratio says little; see the costs of the rounds"
        }
        "cores-echo" | "cores-short" => {
            "fahrenheit and tokio serve with one thread, the others with two: fahrenheit with a \
             loop in each and a socket of each on one port (SO_REUSEPORT), tokio with two workers \
             of its multi-thread runtime and one socket (if built with the feature \
             `tokio-multi-thread`). No process is pinned, and the load \
             generator shares the cores and needs much CPU time itself, so on two cores a second \
             thread cannot double the operations per second: compare the cost, too"
        }
        "connection-memory" => "what an io_uring keeps in the kernel is in no resident set",
        _ => return None,
    })
}

/// The row of this name.
pub(crate) fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

impl Row {
    /// How many descriptors the server and the load generator each need, with some to spare.
    pub(crate) fn descriptors(&self) -> u64 {
        match self.kind {
            Kind::Outside(Load::Echo { active, idle, .. }) => (active + idle) as u64 + 64,
            Kind::Outside(Load::Memory { idle }) => idle as u64 + 256,
            _ => 64,
        }
    }

    /// How many connections wait for nothing in particular.
    pub(crate) fn idle(&self) -> usize {
        match self.kind {
            Kind::Outside(Load::Echo { idle, .. } | Load::Memory { idle }) => idle,
            _ => 0,
        }
    }

    /// How many connections always have a request under way.
    pub(crate) fn active(&self) -> usize {
        match self.kind {
            Kind::Outside(Load::Echo { active, .. }) => active,
            _ => 0,
        }
    }

    /// How many bytes a connection's buffer has in the server.
    pub(crate) fn buffer(&self) -> usize {
        match self.kind {
            Kind::Outside(Load::Stream | Load::Bulk) => BULK,
            _ => REQUEST,
        }
    }
}
