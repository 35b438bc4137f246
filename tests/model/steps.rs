//! One step after the other: where its operations are called, and how the loop is turned after.

use crate::links::End;
use crate::model::{Command, Thread};
use crate::script::{Op, Place, Settings, Step};
use crate::tasks::{Probe, n_polls};
use crate::world::{Loose, World};
use fahrenheit::{Builder, Poller, time};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

/// More turns than anything here needs.
const MANY_TURNS: usize = 100_000;

pub(crate) type Shared = Rc<RefCell<World>>;

/// What outlives a sequence and its loop.
pub(crate) struct Remains {
    pub(crate) probes: Vec<Arc<Probe>>,
    pub(crate) wakers: Vec<Waker>,
}

/// Does all steps, on a thread that has done nothing with the loop before.
pub(crate) fn run(steps: &[Step]) -> Remains {
    let world = World {
        select: std::env::var_os("FAHRENHEIT_POLLER").is_some_and(|name| name == "select"),
        ..World::default()
    };
    let world = Rc::new(RefCell::new(world));
    for step in steps {
        run_step(&world, step);
    }
    let mut world = world.borrow_mut();
    let mut wakers: Vec<_> = world.kept.drain(..).map(|(_, waker)| waker).collect();
    let probes: Vec<_> = world.tasks.iter().map(|t| Arc::clone(&t.probe)).collect();
    wakers.extend(probes.iter().filter_map(|p| p.with(|s| s.waker.clone())));
    Remains { probes, wakers }
}

pub(crate) fn run_step(world: &Shared, step: &Step) {
    let mut turns = 1;
    match step.place {
        Place::Outside(n) => {
            world.borrow_mut().apply(&step.ops, false);
            turns = n;
        }
        Place::Task(n) => {
            let (shared, ops) = (Rc::clone(world), step.ops.clone());
            world.borrow_mut().spawn_once(Box::new(move |_| {
                shared.borrow_mut().apply(&ops, true);
                Poll::Ready(())
            }));
            turns = n;
        }
        Place::Main(settings) => {
            configure(world, settings)
                .block_on(main(world, &step.ops))
                .expect("descriptors are left");
        }
        Place::Run(settings) => run_to_the_end(world, settings, &step.ops),
        Place::WakeAsleep { task, inside } => wake_asleep(world, task, inside),
        Place::WriteAsleep { end, len } => write_asleep(world, end, len),
        Place::Timers { inside } => wait_for_timers(world, inside),
        Place::Fork { inside, seed } => crate::forks::fork_here(world, inside, seed),
    }
    settle(turns);
    drain(world);
    world.borrow_mut().check();
}

fn configure(world: &Shared, settings: Settings) -> Builder {
    let select = std::env::var_os("FAHRENHEIT_POLLER").is_some_and(|name| name == "select");
    world.borrow_mut().select = select || settings.poller == Poller::Select;
    let builder = Builder::new().poller(settings.poller);
    builder.timer_slack(settings.slack)
}

async fn main(world: &Shared, ops: &[Op]) {
    world.borrow_mut().apply(ops, true);
    settle_inside().await;
}

/// Turns the loop until nothing happens, and so often at least.
pub(crate) fn settle(turns: usize) {
    for turn in 1..MANY_TURNS {
        let before = n_polls();
        let n_woken = fahrenheit::turn(Some(Duration::ZERO)).expect("descriptors are left");
        let quiet = n_woken == 0 && n_polls() == before && !fahrenheit::interest().queued;
        if quiet && turn > turns {
            return;
        }
    }
    panic!("the loop is never quiet");
}

/// The same, from inside of a main future, which gets a turn by the shortest of sleeps.
pub(crate) async fn settle_inside() {
    let mut n_quiet = 0;
    for _ in 0..MANY_TURNS {
        let before = n_polls();
        time::sleep(Duration::from_nanos(1_000)).await;
        n_quiet = if n_polls() == before { n_quiet + 1 } else { 0 };
        if n_quiet == 3 {
            return;
        }
    }
    panic!("the loop is never quiet");
}

/// What is read outside makes room for those who write inside: for as long as there are any.
fn drain(world: &Shared) {
    loop {
        let before = {
            let world = world.borrow();
            let writers = world.tasks.iter().enumerate().filter_map(|(id, task)| {
                let Some(Loose::Io { place, writes, .. }) = task.loose else {
                    return None;
                };
                (writes && !task.probe.has_ended() && world.model.is_running(id)).then_some(place)
            });
            let sides: Vec<_> = writers
                .map(|place| (world.places[place].link, 1 - world.places[place].side))
                .collect();
            let received = |world: &World| -> usize {
                let flows = world.links.iter().flat_map(|link| &link.flows);
                flows.map(|flow| flow.n_received.get()).sum()
            };
            let before = received(&world);
            for (index, place) in world.places.iter().enumerate() {
                if sides.contains(&(place.link, place.side)) {
                    world.drain(index);
                }
            }
            received(&world) - before
        };
        if before == 0 {
            return;
        }
        settle(1);
    }
}

/// `run` returns when all tasks but daemons have ended.
fn run_to_the_end(world: &Shared, settings: Settings, ops: &[Op]) {
    let before = configure(world, settings).block_on(main(world, ops));
    before.expect("descriptors are left");
    settle(1);
    world.borrow_mut().check();
    let run = Builder::new().run(async {
        let mut world = world.borrow_mut();
        for id in 0..world.tasks.len() {
            if !world.model.tasks[id].daemon {
                world.command(id, Command::Finish);
            }
        }
    });
    run.expect("descriptors are left");
    let mut world = world.borrow_mut();
    world.model.run();
    for (id, task) in world.tasks.iter().enumerate() {
        let ended = world.model.tasks[id].daemon || task.probe.has_ended();
        assert!(ended, "`run` has returned, and task {id} has not ended");
    }
}

/// Gives the loop time to fall asleep, or not.
fn a_moment(number: usize) {
    if number % 4 > 0 {
        thread::sleep(Duration::from_micros(number as u64 % 4 * 20));
    }
}

fn wake_asleep(world: &Shared, number: usize, inside: bool) {
    let (id, probe, waker) = {
        let world = world.borrow();
        let n = world.tasks.len();
        let running = (0..n).filter(|&id| world.model.is_running(id));
        let running: Vec<_> = running.collect();
        let Some(&id) = running.get(number % running.len().max(1)) else {
            return;
        };
        let probe = Arc::clone(&world.tasks[id].probe);
        let waker = probe.with(|state| state.waker.clone());
        (id, probe, waker.expect("it has been polled"))
    };
    let n_polls = probe.polls();
    world.borrow_mut().model.wake(id, Thread::Other);
    let thread = thread::spawn(move || {
        a_moment(number);
        waker.wake();
    });
    if inside {
        fahrenheit::block_on(poll_fn(|cx| {
            if probe.polls() > n_polls {
                return Poll::Ready(());
            }
            probe.with(|state| state.watcher = Some(cx.waker().clone()));
            Poll::Pending
        }));
    } else {
        while probe.polls() == n_polls {
            fahrenheit::turn(None).expect("descriptors are left");
        }
    }
    thread.join().expect("wakers do not panic");
}

fn write_asleep(world: &Shared, number: usize, len: usize) {
    let world = world.borrow();
    // A raw end, with a reader that will take everything at the other.
    let suits = |index: &usize| {
        let place = &world.places[*index];
        let raw = place.slot.borrow().end.as_ref().is_some_and(End::is_raw);
        let open = raw && world.goes(place, true) && !world.links[place.link].shut[place.side];
        open && world.reads_all(place.link, 1 - place.side)
    };
    let suitable: Vec<_> = (0..world.places.len()).filter(suits).collect();
    let Some(&index) = suitable.get(number % suitable.len().max(1)) else {
        return;
    };
    let place = &world.places[index];
    let flow = world.flow(place, true);
    let bytes = flow.next(len.min(500));
    let Some(End::Raw(file)) = &place.slot.borrow().end else {
        return;
    };
    let mut file = file.try_clone().expect("descriptors are left");
    flow.sent(bytes.len());
    let thread = thread::spawn(move || {
        a_moment(number);
        file.write_all(&bytes).expect("there is room, and a reader");
    });
    while flow.in_flight() > 0 {
        fahrenheit::turn(None).expect("descriptors are left");
    }
    thread.join().expect("nothing that can panic");
}

fn wait_for_timers(world: &Shared, inside: bool) {
    if inside {
        fahrenheit::block_on(async {
            while world.borrow().short_timers() {
                time::sleep(Duration::from_micros(50)).await;
            }
        });
    } else {
        let begun = Instant::now();
        while world.borrow().short_timers() {
            fahrenheit::turn(None).expect("descriptors are left");
            assert!(begun.elapsed() < Duration::from_secs(10), "a lost timer");
        }
    }
}
