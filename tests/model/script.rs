//! What is done in a sequence: steps of operations, made from a seed, and made smaller again.
//!
//! An operation names what it is about by any number, of which the rest of a division counts. So
//! whatever is left out of a script, the rest still means something.

use fahrenheit::Poller;
use std::time::Duration;

/// Where decisions come from.
pub(crate) enum Rng {
    /// Xorshift.
    State(u64),
    /// Those of a fuzzer; when they have run out, all numbers are 0.
    #[allow(dead_code, reason = "the fuzzer makes this one")]
    Bytes(std::vec::IntoIter<u8>),
}

impl Rng {
    /// One step of splitmix makes good states of small seeds.
    pub(crate) fn new(seed: u64) -> Rng {
        let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Rng::State((state ^ (state >> 31)).max(1))
    }

    fn below(&mut self, bound: usize) -> usize {
        match self {
            Rng::State(state) => {
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                ((*state >> 11) % bound as u64) as usize
            }
            Rng::Bytes(bytes) => {
                let n_bytes = if bound <= 256 { 1 } else { 2 };
                let number = bytes.take(n_bytes).fold(0, |n, b| n << 8 | usize::from(b));
                number % bound
            }
        }
    }

    fn is_spent(&self) -> bool {
        matches!(self, Rng::Bytes(bytes) if bytes.as_slice().is_empty())
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn any(&mut self) -> usize {
        self.below(1 << 20)
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// What a task does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Waits to be told.
    Wait,
    /// Wakes itself so many times.
    Yield(usize),
    /// Awaits the handle of another.
    Join(usize),
    Sleep(Duration),
    /// A limit on something that never ends.
    Timeout(Duration),
    /// Reads from an end until there were so many bytes.
    Read {
        end: usize,
        chunk: usize,
        limit: usize,
        style: Style,
    },
    /// Writes so many bytes to an end.
    Write {
        end: usize,
        total: usize,
        style: Style,
    },
}

/// How a task waits for an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// It tries, and waits if it has to.
    Try,
    /// It waits for `readable` or `writable`, and then tries.
    Ready,
}

/// By what an end is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrap {
    AsyncFd,
    /// A pipe cannot be one, and gets the other.
    AsyncUnixStream,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Op {
    Spawn {
        kind: Kind,
        daemon: bool,
    },
    Wake(usize),
    WakeElsewhere(usize),
    /// Keeps a clone of the waker for later.
    Keep(usize),
    /// Wakes a waker that was kept, whatever has become of its task.
    WakeKept(usize),
    Abort(usize),
    AbortElsewhere(usize),
    DropHandle(usize),
    /// Polls a handle that nobody else awaits.
    PollHandle(usize),
    /// Tells a task to end, or to panic, in its next poll.
    Finish(usize),
    Panic(usize),
    Reset(usize, Duration),
    Open {
        pipe: bool,
        small: bool,
    },
    Register(usize, Wrap),
    Unregister(usize),
    Close(usize),
    Duplicate(usize),
    /// Gives the number of an end that was registered to a new connection.
    Reopen(usize, Wrap),
    Shutdown(usize),
    Write(usize, usize),
    Drain(usize),
    /// What is refused inside of a task.
    Turn,
}

/// From where the operations of a step are called, and how the loop is then turned.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// Outside of the loop, which is then turned so many times at least.
    Outside(usize),
    /// From a task of their own.
    Task(usize),
    /// From a main future.
    Main(Settings),
    /// From a main future that then has all tasks but daemons end: `run` returns.
    Run(Settings),
    /// A thread wakes a task while the loop sleeps.
    WakeAsleep { task: usize, inside: bool },
    /// A thread writes to an end from whose other end a task reads, while the loop sleeps.
    WriteAsleep { end: usize, len: usize },
    /// Until all short timers have fired.
    Timers { inside: bool },
    /// Everything goes on in the parent, and comes to an end in a child.
    Fork { inside: bool, seed: u64 },
}

/// Those of a `Builder`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) poller: Poller,
    pub(crate) slack: Duration,
}

#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) place: Place,
    pub(crate) ops: Vec<Op>,
}

/// A sleep that nobody waits for.
pub(crate) const LONG: Duration = Duration::from_secs(3_600);

fn duration(rng: &mut Rng) -> Duration {
    match rng.below(5) {
        0 => Duration::ZERO,
        1 => Duration::from_nanos(rng.any() as u64 % 2_000),
        2 => Duration::from_micros(rng.below(120) as u64),
        3 => LONG + Duration::from_secs(rng.any() as u64),
        _ => Duration::MAX,
    }
}

fn kind(rng: &mut Rng) -> Kind {
    let style = rng.of(&[Style::Try, Style::Try, Style::Ready]);
    match rng.below(16) {
        0..3 => Kind::Wait,
        3 => Kind::Yield(rng.below(12)),
        4 | 5 => Kind::Join(rng.any()),
        6 | 7 => Kind::Sleep(duration(rng)),
        8 => Kind::Timeout(duration(rng)),
        9..14 => Kind::Read {
            end: rng.any(),
            chunk: rng.of(&[7, 64, 512, 4_096]),
            limit: rng.of(&[1, 10, 100, usize::MAX, usize::MAX, usize::MAX]),
            style,
        },
        _ => Kind::Write {
            end: rng.any(),
            total: len(rng),
            style,
        },
    }
}

/// A few bytes, and sometimes more than a socket takes at once.
fn len(rng: &mut Rng) -> usize {
    match rng.below(8) {
        0 => 100_000,
        1 => 5_000 + rng.below(3_000),
        2 | 3 => 100 + rng.below(100),
        _ => 1 + rng.below(20),
    }
}

fn op(rng: &mut Rng) -> Op {
    let wrap = rng.of(&[Wrap::AsyncFd, Wrap::AsyncUnixStream]);
    let daemon = rng.one_in(8);
    match rng.below(64) {
        0..18 => Op::Spawn {
            kind: kind(rng),
            daemon,
        },
        18..22 => Op::Wake(rng.any()),
        22 => Op::WakeElsewhere(rng.any()),
        23 => Op::Keep(rng.any()),
        24 => Op::WakeKept(rng.any()),
        25 | 26 => Op::Abort(rng.any()),
        27 => Op::AbortElsewhere(rng.any()),
        28 | 29 => Op::DropHandle(rng.any()),
        30 => Op::PollHandle(rng.any()),
        31 => Op::Finish(rng.any()),
        32 => Op::Panic(rng.any()),
        33 => Op::Reset(rng.any(), duration(rng)),
        34..37 => Op::Open {
            pipe: rng.one_in(3),
            small: rng.one_in(2),
        },
        37..43 => Op::Register(rng.any(), wrap),
        43 => Op::Unregister(rng.any()),
        44 => Op::Close(rng.any()),
        45 => Op::Duplicate(rng.any()),
        46 => Op::Reopen(rng.any(), wrap),
        47 => Op::Shutdown(rng.any()),
        48..59 => Op::Write(rng.any(), len(rng)),
        59..63 => Op::Drain(rng.any()),
        _ => Op::Turn,
    }
}

fn place(rng: &mut Rng) -> Place {
    let settings = Settings {
        poller: rng.of(&[Poller::Auto, Poller::Auto, Poller::Select]),
        slack: rng.of(&[Duration::ZERO, Duration::from_micros(100), Duration::MAX]),
    };
    let inside = rng.one_in(2);
    match rng.below(512) {
        0..280 => Place::Outside(rng.of(&[1, 1, 2, 4, 6])),
        280..340 => Place::Task(rng.of(&[1, 2, 6])),
        340..440 => Place::Main(settings),
        440..460 => Place::Run(settings),
        460..478 => Place::WakeAsleep {
            task: rng.any(),
            inside,
        },
        478..496 => Place::WriteAsleep {
            end: rng.any(),
            len: len(rng),
        },
        496..511 => Place::Timers { inside },
        _ => Place::Fork {
            inside,
            seed: rng.any() as u64,
        },
    }
}

/// The script of a seed.
pub(crate) fn script(seed: u64) -> Vec<Step> {
    script_of(&mut Rng::new(seed))
}

pub(crate) fn script_of(rng: &mut Rng) -> Vec<Step> {
    let n_steps = 1 + rng.below(12);
    let mut steps = Vec::new();
    while steps.is_empty() || steps.len() < n_steps && !rng.is_spent() {
        let n_ops = 1 + rng.below(6);
        let ops = (0..n_ops).map(|_| op(rng)).collect();
        let place = place(rng);
        steps.push(Step { place, ops });
    }
    // Something to work with.
    let opened = Op::Open {
        pipe: rng.one_in(4),
        small: rng.one_in(2),
    };
    let registered = Op::Register(rng.any(), Wrap::AsyncFd);
    steps[0].ops.splice(0..0, [opened, registered]);
    steps
}
