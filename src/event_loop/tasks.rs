//! The task table: id -> boxed future.
//!
//! Knows no clock, no descriptor, no log. Futures are taken out to be polled and put back after,
//! so no foreign code ever runs while the table is borrowed.
//!
//! **Invariant.** A body leaves the table to be polled, joined or dropped; each happens with
//! nothing borrowed. A key whose serial number does not match names nobody. A task that has not
//! been polled has no waker yet, unless an `AbortHandle` needed one: most that end in their first
//! poll never make one.

use super::error::{Id, JoinError};
use super::waker::{self, Inbox, Key, TaskWaker};
use crate::sys::sync::Arc;
use pin_project_lite::pin_project;
use slab::Slab;
use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The place that names the main future, which lives on the stack of `run` and not in the table.
pub(crate) const MAIN: u32 = u32::MAX;

/// So many wakers are kept to be used again.
const MOST_SPARE: usize = 1_024;

/// A task's future and then its output, with their types forgotten.
pub(crate) trait Body {
    /// Polls the future and keeps what it returns. A panic becomes the output.
    fn poll(self: Pin<&mut Self>, id: Id, cx: &mut Context<'_>) -> Poll<()>;
    /// Drops the future; the output is that it was cancelled.
    fn cancel(self: Pin<&mut Self>, id: Id);
    /// Moves the output into `into`, an `Option<Result<T, JoinError>>`.
    fn take_output(self: Pin<&mut Self>, into: &mut dyn Any);
    /// Drops future and output. If the output was a panic that nobody has seen, returns it.
    fn discard(self: Pin<&mut Self>, id: Id) -> Option<JoinError>;
}

pin_project! {
    #[project = StageProj]
    #[project_replace = StageOwned]
    enum Stage<F, T> {
        Running { #[pin] future: F },
        Done { output: Result<T, JoinError> },
        Taken,
    }
}

/// A body that runs `future`.
pub(crate) fn body<F, T>(future: F) -> Pin<Box<dyn Body>>
where
    F: Future<Output = Result<T, JoinError>> + 'static,
    T: 'static,
{
    Box::pin(Stage::Running { future })
}

impl<F, T> Stage<F, T> {
    /// Drops what is there, which may panic, and puts `output` in its place.
    fn end(mut self: Pin<&mut Self>, id: Id, output: Result<T, JoinError>) {
        let end = |mut this: Pin<&mut Self>, output| {
            catch_unwind(AssertUnwindSafe(|| this.set(Stage::Done { output })))
        };
        // An assignment is done even if dropping the old value panics. Here that was the future;
        // then it is the output, which has nobody left to hear of a second panic.
        if let Err(payload) = end(self.as_mut(), output) {
            let _ = end(self, Err(JoinError::panicked(id, payload)));
        }
    }
}

impl<F, T> Body for Stage<F, T>
where
    F: Future<Output = Result<T, JoinError>> + 'static,
    T: 'static,
{
    fn poll(mut self: Pin<&mut Self>, id: Id, cx: &mut Context<'_>) -> Poll<()> {
        let StageProj::Running { future } = self.as_mut().project() else {
            return Poll::Ready(());
        };
        let output = match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => output,
            Err(payload) => Err(JoinError::panicked(id, payload)),
        };
        self.end(id, output);
        Poll::Ready(())
    }

    fn cancel(self: Pin<&mut Self>, id: Id) {
        self.end(id, Err(JoinError::cancelled(id)));
    }

    fn take_output(self: Pin<&mut Self>, into: &mut dyn Any) {
        let slot = into.downcast_mut::<Option<Result<T, JoinError>>>();
        let slot = slot.expect("a handle has the type of its task");
        if let StageOwned::Done { output } = self.project_replace(Stage::Taken) {
            *slot = Some(output);
        }
    }

    fn discard(mut self: Pin<&mut Self>, id: Id) -> Option<JoinError> {
        if let StageProj::Running { .. } = self.as_mut().project() {
            self.as_mut().cancel(id);
        }
        let StageOwned::Done { output } = self.project_replace(Stage::Taken) else {
            return None;
        };
        let dropped = catch_unwind(AssertUnwindSafe(|| {
            output.err().filter(JoinError::is_panic)
        }));
        dropped.unwrap_or_else(|payload| Some(JoinError::panicked(id, payload)))
    }
}

/// A task that was taken out of the table to be polled.
pub(crate) struct Taken {
    pub(crate) body: Pin<Box<dyn Body>>,
    /// Its waker, to be brought back with the body.
    pub(crate) name: Arc<TaskWaker>,
    /// It is to be dropped instead.
    pub(crate) aborted: bool,
}

/// What the table knows of a task.
struct Slot {
    serial: u64,
    /// `None` while the task is being polled.
    body: Option<Pin<Box<dyn Body>>>,
    /// The task's own waker; `None` before the first poll, and while the task is being polled.
    name: Option<Arc<TaskWaker>>,
    /// The task that awaits the handle.
    joiner: Option<Waker>,
    /// Where it was spawned.
    place: &'static Location<'static>,
    finished: bool,
    detached: bool,
    daemon: bool,
    /// It has a name in `labels`.
    labelled: bool,
}

/// How a task ended, for the loop to act on with nothing borrowed.
#[derive(Default)]
pub(crate) struct Ended {
    pub(crate) joiner: Option<Waker>,
    pub(crate) unclaimed: Option<Pin<Box<dyn Body>>>,
    pub(crate) label: Option<Box<str>>,
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
    pub(crate) who: String,
    /// The task whose handle it awaits.
    pub(crate) awaits: Option<Id>,
}

/// All tasks of one loop.
pub(crate) struct Table {
    slots: Slab<Slot>,
    /// What tasks are called, by serial number; few have a name.
    labels: BTreeMap<u64, Box<str>>,
    /// Wakers of tasks that have ended and that nobody else held: they need not be made again.
    spare: Vec<Arc<TaskWaker>>,
    next_serial: u64,
    n_awaited: usize,
}

impl Table {
    pub(crate) fn new() -> Table {
        Table {
            slots: Slab::new(),
            labels: BTreeMap::new(),
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

    /// A name for something that is not in the table: the main future.
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
        label: Option<Box<str>>,
        daemon: bool,
        place: &'static Location<'static>,
    ) -> Key {
        let serial = self.take_serial();
        let index = self.slots.insert(Slot {
            serial,
            body: Some(body),
            name: None,
            joiner: None,
            place,
            finished: false,
            detached: false,
            daemon,
            labelled: label.is_some(),
        });
        if let Some(label) = label {
            self.labels.insert(serial, label);
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
        let names = running.filter_map(|(_, slot)| slot.name.as_ref());
        names.for_each(TaskWaker::wake);
    }

    /// Takes a task out to be polled; `None` if it has ended or is being polled.
    pub(crate) fn take(&mut self, key: Key, inbox: &Arc<Inbox>) -> Option<Taken> {
        let slot = self
            .slots
            .get_mut(key.place())
            .filter(|slot| slot.serial == key.serial && !slot.finished)?;
        let body = slot.body.take()?;
        let Some(name) = slot.name.take() else {
            let spare = self.spare.pop();
            let spare = spare.and_then(|spare| TaskWaker::rename(spare, key));
            return Some(Taken {
                body,
                name: spare.unwrap_or_else(|| TaskWaker::new(key, Arc::clone(inbox))),
                aborted: false,
            });
        };
        let aborted = name.leave_queue();
        Some(Taken {
            body,
            name,
            aborted,
        })
    }

    /// Puts a task back that is not done.
    pub(crate) fn put_back(&mut self, key: Key, body: Pin<Box<dyn Body>>, name: Arc<TaskWaker>) {
        let slot = self
            .get_mut(key)
            .expect("only the loop removes tasks that run");
        slot.body = Some(body);
        slot.name = Some(name);
    }

    /// Notes that a task has ended. `None`: there is nothing to be done about it.
    pub(crate) fn finish(
        &mut self,
        key: Key,
        body: Pin<Box<dyn Body>>,
        name: Arc<TaskWaker>,
    ) -> Option<Ended> {
        if !TaskWaker::is_alone(&name) {
            name.finish();
        } else if self.spare.len() < MOST_SPARE {
            self.spare.push(name);
        }
        let slot = self
            .get_mut(key)
            .expect("only the loop removes tasks that run");
        slot.finished = true;
        let joiner = slot.joiner.take();
        let daemon = slot.daemon;
        let mut unclaimed = Some(body);
        let mut label = None;
        if slot.detached {
            label = self.remove(key);
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
            label,
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
            label: self.remove(key),
        }
    }

    /// The waker of a task that has not ended, to abort it by; `None` also while it is polled.
    pub(crate) fn name(&mut self, key: Key, inbox: &Arc<Inbox>) -> Option<Arc<TaskWaker>> {
        let slot = self.get_mut(key)?;
        if slot.name.is_none() && slot.body.is_some() && !slot.finished {
            let name = TaskWaker::new(key, Arc::clone(inbox));
            name.note_queued();
            slot.name = Some(name);
        }
        slot.name.clone()
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
            let name = slot.name.as_ref()?;
            let n_others = Arc::strong_count(name).saturating_sub(1);
            let who = self.describe(slot);
            holders.insert(Arc::as_ptr(name).cast(), (n_others, who, None));
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
            let stuck = Stuck { who, awaits };
            (n_others == 0).then_some(stuck)
        });
        stuck.collect()
    }

    /// The task, what it is called, and where it was spawned.
    pub(crate) fn who(&self, key: Key) -> Option<String> {
        let slot = self.slots.get(key.place())?;
        (slot.serial == key.serial).then(|| self.describe(slot))
    }

    /// The same, by the task's own waker.
    pub(crate) fn whose(&self, waker: &Waker) -> Option<String> {
        let names = |slot: &Slot| {
            slot.name
                .as_ref()
                .is_some_and(|name| TaskWaker::is(name, waker))
        };
        let (_, slot) = self.slots.iter().find(|(_, slot)| names(slot))?;
        Some(self.describe(slot))
    }

    fn describe(&self, slot: &Slot) -> String {
        let (id, place) = (slot.serial, slot.place);
        match self.labels.get(&id) {
            Some(label) => format!("task {id} ({label:?}, spawned at {place})"),
            None => format!("task {id} (spawned at {place})"),
        }
    }

    /// Everything, for the end of the loop.
    pub(crate) fn drain(&mut self) -> Vec<(Id, Ended)> {
        let slots = std::mem::take(&mut self.slots);
        let mut labels = std::mem::take(&mut self.labels);
        self.n_awaited = 0;
        let ended = slots.into_iter().map(|(_, slot)| {
            if let Some(name) = &slot.name {
                name.finish();
            }
            let Slot {
                serial,
                joiner,
                body: unclaimed,
                ..
            } = slot;
            let label = labels.remove(&serial);
            (
                Id(serial),
                Ended {
                    joiner,
                    unclaimed,
                    label,
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
        slot.labelled
            .then(|| self.labels.remove(&slot.serial))
            .flatten()
    }

    fn take_serial(&mut self) -> u64 {
        let serial = self.next_serial;
        self.next_serial += 1;
        serial
    }
}
