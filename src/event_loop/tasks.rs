//! The task table: id -> boxed future.
//!
//! Knows no clock, no descriptor, no log. Futures are taken out to be polled and put back after,
//! so no foreign code ever runs while the table is borrowed.
//!
//! **Invariant.** A body leaves the table to be polled, joined or dropped; each happens with
//! nothing borrowed. A key whose serial number does not match wakers nobody. A task that has not
//! been polled has no waker yet, unless an `AbortHandle` needed one: most that end in their first
//! poll never make one.

use super::body::{Body, Ended};
use super::join_error::Id;
use super::waker::{self, Inbox, Key, TaskWaker};
use crate::sys::sync::Arc;
use slab::Slab;
use std::collections::BTreeMap;
use std::panic::Location;
use std::pin::Pin;
use std::task::Waker;

/// The place that wakers the main future, which lives on the stack of `run` and not in the table.
pub(crate) const MAIN: u32 = u32::MAX;

/// So many wakers are kept to be used again.
const MAX_SPARE_WAKERS: usize = 1_024;

/// A task that was taken out of the table to be polled.
pub(crate) struct Taken {
    pub(crate) body: Pin<Box<dyn Body>>,
    /// Its waker, to be brought back with the body.
    pub(crate) waker: Arc<TaskWaker>,
    /// It is to be dropped instead.
    pub(crate) aborted: bool,
}

/// What the table knows of a task.
struct Slot {
    serial: u64,
    /// `None` while the task is being polled.
    body: Option<Pin<Box<dyn Body>>>,
    /// The task's own waker; `None` before the first poll, and while the task is being polled.
    waker: Option<Arc<TaskWaker>>,
    /// The task that awaits the handle.
    joiner: Option<Waker>,
    /// Where it was spawned.
    place: &'static Location<'static>,
    finished: bool,
    detached: bool,
    daemon: bool,
    /// It has a waker in `names`.
    is_named: bool,
}

/// What a handle finds.
pub(crate) enum Join {
    /// The task has ended; its output is in here.
    Ended(Pin<Box<dyn Body>>),
    /// It runs, and knows already that this waker waits.
    Known,
    /// It runs, and should be told.
    Unknown,
    /// There is no such task.
    Gone,
}

/// Something that nobody can wake any more.
pub(crate) struct Stuck {
    /// The task, what it is called, and where it was spawned.
    pub(crate) task: String,
    /// The task whose handle it awaits.
    pub(crate) awaits: Option<Id>,
}

/// All tasks of one loop.
pub(crate) struct Table {
    slots: Slab<Slot>,
    /// What tasks are called, by serial number; few have a waker.
    names: BTreeMap<u64, Box<str>>,
    /// Wakers of tasks that have ended and that nobody else held: they need not be made again.
    spare: Vec<Arc<TaskWaker>>,
    next_serial: u64,
    n_awaited: usize,
}

impl Table {
    pub(crate) fn new() -> Table {
        Table {
            slots: Slab::new(),
            names: BTreeMap::new(),
            spare: Vec::new(),
            next_serial: 1,
            n_awaited: 0,
        }
    }

    /// How many tasks run that are not daemons.
    pub(crate) fn n_awaited(&self) -> usize {
        self.n_awaited
    }

    /// How many tasks have not ended.
    pub(crate) fn n_running(&self) -> usize {
        self.slots.iter().filter(|(_, slot)| !slot.finished).count()
    }

    /// A waker for something that is not in the table: the main future.
    pub(crate) fn main_key(&mut self) -> Key {
        Key {
            index: MAIN,
            serial: self.take_serial(),
        }
    }

    /// Adds a task and queues it.
    pub(crate) fn insert(
        &mut self,
        body: Pin<Box<dyn Body>>,
        name: Option<Box<str>>,
        daemon: bool,
        place: &'static Location<'static>,
    ) -> Key {
        let serial = self.take_serial();
        let index = self.slots.insert(Slot {
            serial,
            body: Some(body),
            waker: None,
            joiner: None,
            place,
            finished: false,
            detached: false,
            daemon,
            is_named: name.is_some(),
        });
        if let Some(name) = name {
            self.names.insert(serial, name);
        }
        self.n_awaited += usize::from(!daemon);
        let index = u32::try_from(index).expect("memory for four billion tasks");
        let key = Key { index, serial };
        waker::push_local(key);
        key
    }

    /// Queues every task that has not ended. One without a waker is in the queue already.
    pub(crate) fn wake_all(&self) {
        let running = self.slots.iter().filter(|(_, slot)| !slot.finished);
        let wakers = running.filter_map(|(_, slot)| slot.waker.as_ref());
        wakers.for_each(TaskWaker::wake);
    }

    /// Takes a task out to be polled; `None` if it has ended or is being polled.
    pub(crate) fn take(&mut self, key: Key, inbox: &Arc<Inbox>) -> Option<Taken> {
        let slot = self
            .slots
            .get_mut(key.place())
            .filter(|slot| slot.serial == key.serial && !slot.finished)?;
        let body = slot.body.take()?;
        let Some(waker) = slot.waker.take() else {
            let spare = self.spare.pop();
            let spare = spare.and_then(|spare| TaskWaker::rename(spare, key));
            return Some(Taken {
                body,
                waker: spare.unwrap_or_else(|| TaskWaker::new(key, Arc::clone(inbox))),
                aborted: false,
            });
        };
        let aborted = waker.leave_queue();
        Some(Taken {
            body,
            waker,
            aborted,
        })
    }

    /// Puts a task back that is not done.
    pub(crate) fn put_back(&mut self, key: Key, body: Pin<Box<dyn Body>>, waker: Arc<TaskWaker>) {
        let slot = self
            .get_mut(key)
            .expect("only the loop removes tasks that run");
        slot.body = Some(body);
        slot.waker = Some(waker);
    }

    /// Notes that a task has ended. `None`: there is nothing to be done about it.
    pub(crate) fn finish(
        &mut self,
        key: Key,
        body: Pin<Box<dyn Body>>,
        waker: Arc<TaskWaker>,
    ) -> Option<Ended> {
        if !TaskWaker::is_alone(&waker) {
            waker.finish();
        } else if self.spare.len() < MAX_SPARE_WAKERS {
            self.spare.push(waker);
        }
        let slot = self
            .get_mut(key)
            .expect("only the loop removes tasks that run");
        slot.finished = true;
        let joiner = slot.joiner.take();
        let daemon = slot.daemon;
        let mut unclaimed = Some(body);
        let mut name = None;
        if slot.detached {
            name = self.remove(key);
        } else {
            slot.body = unclaimed.take();
        }
        self.n_awaited -= usize::from(!daemon);
        if joiner.is_none() && unclaimed.is_none() {
            return None;
        }
        Some(Ended {
            joiner,
            unclaimed,
            name,
        })
    }

    /// What the handle of `key` should do, being polled with `waker`.
    pub(crate) fn join(&mut self, key: Key, waker: &Waker) -> Join {
        let Some(slot) = self.get_mut(key) else {
            return Join::Gone;
        };
        if slot.finished {
            let body = slot.body.take().expect("an ended task holds its output");
            self.remove(key);
            return Join::Ended(body);
        }
        match &slot.joiner {
            Some(joiner) if joiner.will_wake(waker) => Join::Known,
            _ => Join::Unknown,
        }
    }

    /// Sets who is woken when the task ends; returns who was to be until now.
    pub(crate) fn set_joiner(&mut self, key: Key, waker: Waker) -> Option<Waker> {
        match self.get_mut(key) {
            Some(slot) => slot.joiner.replace(waker),
            None => Some(waker),
        }
    }

    /// Nobody will ask for the output any more.
    pub(crate) fn detach(&mut self, key: Key) -> Ended {
        let Some(slot) = self.get_mut(key) else {
            return Ended::default();
        };
        slot.detached = true;
        let joiner = slot.joiner.take();
        if !slot.finished {
            return Ended {
                joiner,
                ..Ended::default()
            };
        }
        let unclaimed = slot.body.take();
        Ended {
            joiner,
            unclaimed,
            name: self.remove(key),
        }
    }

    /// The waker of a task that has not ended, to abort it by; `None` also while it is polled.
    pub(crate) fn waker(&mut self, key: Key, inbox: &Arc<Inbox>) -> Option<Arc<TaskWaker>> {
        let slot = self.get_mut(key)?;
        if slot.waker.is_none() && slot.body.is_some() && !slot.finished {
            let waker = TaskWaker::new(key, Arc::clone(inbox));
            waker.note_queued();
            slot.waker = Some(waker);
        }
        slot.waker.clone()
    }

    /// Whether the task has ended, or is not there.
    pub(crate) fn is_finished(&self, key: Key) -> bool {
        let slot = self
            .slots
            .get(key.place())
            .filter(|slot| slot.serial == key.serial);
        slot.is_none_or(|slot| slot.finished)
    }

    /// All that run and `main`, if none of their wakers is held by anybody but this table, so that
    /// none will ever be woken.
    pub(crate) fn stuck(&self, main: Option<&Arc<TaskWaker>>) -> Option<Vec<Stuck>> {
        // By the address of the waker: how many hold it besides us, and who it is.
        let mut holders = BTreeMap::new();
        if let Some(main) = main {
            // The loop has one, and the function that runs it another.
            let n_others = Arc::strong_count(main).saturating_sub(2);
            let who = "the main future".to_owned();
            holders.insert(Arc::as_ptr(main).cast(), (n_others, who, None));
        }
        let running = self.slots.iter().filter(|(_, slot)| !slot.finished);
        for (_, slot) in running.clone() {
            // Without a waker it is queued, or being polled.
            let waker = slot.waker.as_ref()?;
            let n_others = Arc::strong_count(waker).saturating_sub(1);
            let who = self.describe_slot(slot);
            holders.insert(Arc::as_ptr(waker).cast(), (n_others, who, None));
        }
        // A waker that waits for one of them is held by this table, and no help.
        for (_, slot) in running {
            let address = slot.joiner.as_ref().map(Waker::data);
            if let Some((n_others, _, awaits)) = address.and_then(|key| holders.get_mut(&key)) {
                *n_others = n_others.saturating_sub(1);
                *awaits = Some(Id(slot.serial));
            }
        }
        let stuck = holders.into_values().map(|(n_others, who, awaits)| {
            let stuck = Stuck { task: who, awaits };
            (n_others == 0).then_some(stuck)
        });
        stuck.collect()
    }

    /// The task, what it is called, and where it was spawned.
    pub(crate) fn describe(&self, key: Key) -> Option<String> {
        let slot = self.slots.get(key.place())?;
        (slot.serial == key.serial).then(|| self.describe_slot(slot))
    }

    /// Describes the task that `waker` belongs to.
    pub(crate) fn describe_task_of(&self, waker: &Waker) -> Option<String> {
        let is_its_own = |slot: &Slot| {
            slot.waker
                .as_ref()
                .is_some_and(|own| TaskWaker::is(own, waker))
        };
        let (_, slot) = self.slots.iter().find(|(_, slot)| is_its_own(slot))?;
        Some(self.describe_slot(slot))
    }

    fn describe_slot(&self, slot: &Slot) -> String {
        let (id, place) = (slot.serial, slot.place);
        match self.names.get(&id) {
            Some(name) => format!("task {id} ({name:?}, spawned at {place})"),
            None => format!("task {id} (spawned at {place})"),
        }
    }

    /// Everything, for the end of the loop.
    pub(crate) fn drain(&mut self) -> Vec<(Id, Ended)> {
        let slots = std::mem::take(&mut self.slots);
        let mut names = std::mem::take(&mut self.names);
        self.n_awaited = 0;
        let ended = slots.into_iter().map(|(_, slot)| {
            if let Some(waker) = &slot.waker {
                waker.finish();
            }
            let Slot {
                serial,
                joiner,
                body: unclaimed,
                ..
            } = slot;
            let name = names.remove(&serial);
            (
                Id(serial),
                Ended {
                    joiner,
                    unclaimed,
                    name,
                },
            )
        });
        ended.collect()
    }

    fn get_mut(&mut self, key: Key) -> Option<&mut Slot> {
        self.slots
            .get_mut(key.place())
            .filter(|slot| slot.serial == key.serial)
    }

    /// Forgets a task that has ended; returns what it was called.
    fn remove(&mut self, key: Key) -> Option<Box<str>> {
        let slot = self.slots.remove(key.place());
        slot.is_named
            .then(|| self.names.remove(&slot.serial))
            .flatten()
    }

    fn take_serial(&mut self) -> u64 {
        let serial = self.next_serial;
        self.next_serial += 1;
        serial
    }
}
