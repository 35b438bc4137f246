//! The world of a script: what operations do to the loop, and what the model is told of it.

use crate::links::{End, Flow, Link, Place, open};
use crate::model::{Command, Model, Role, Thread};
use crate::script::{Kind, Op, Style, Wrap};
use crate::tasks::{self, Body, Io, Output, Probe, Probed, outcome};
use fahrenheit::task::JoinHandle;
use nix::unistd::dup2;
use std::fs::File;
use std::future::Future;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// So many ends may be open.
const MOST_PLACES: usize = 16;

/// What a task waits for that the model does not know.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Loose {
    Io {
        place: usize,
        registration: usize,
        writes: bool,
        style: Style,
        reads_all: bool,
    },
    Sleep,
    Timeout,
}

/// A task, from outside.
pub(crate) struct Task {
    pub(crate) probe: Arc<Probe>,
    pub(crate) handle: Option<JoinHandle<Output>>,
    pub(crate) loose: Option<Loose>,
    /// Whose handle it awaits.
    pub(crate) target: Option<usize>,
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) model: Model,
    pub(crate) tasks: Vec<Task>,
    pub(crate) links: Vec<Link>,
    pub(crate) places: Vec<Place>,
    /// Wakers that were kept, and of which task they are.
    pub(crate) kept: Vec<(usize, Waker)>,
    /// Everything stays in `select`.
    pub(crate) select: bool,
    /// It has been forked.
    pub(crate) is_child: bool,
}

fn elsewhere(f: impl FnOnce() + Send + 'static) {
    std::thread::spawn(f).join().expect("wakers do not panic");
}

impl World {
    pub(crate) fn apply(&mut self, ops: &[Op], inside: bool) {
        for &op in ops {
            self.apply_to_loop(op, inside);
            self.apply_to_task(op);
            self.apply_to_place(op);
        }
    }

    fn apply_to_loop(&mut self, op: Op, inside: bool) {
        match op {
            Op::Spawn { kind, daemon } => self.spawn(kind, daemon),
            Op::Open { pipe, small } => {
                let files = open(pipe, small);
                self.add_link(files, pipe);
            }
            Op::Turn if inside => {
                let turned = fahrenheit::turn(Some(Duration::ZERO));
                assert!(turned.is_err(), "a turn inside of a task");
            }
            Op::WakeKept(index) if !self.kept.is_empty() => {
                let (id, waker) = &self.kept[index % self.kept.len()];
                self.model.wake(*id, Thread::Here);
                waker.wake_by_ref();
            }
            _ => {}
        }
    }

    fn spawn(&mut self, kind: Kind, daemon: bool) {
        let probe = Arc::new(Probe::default());
        let (role, loose, body) = self.cast(kind, &probe);
        let target = match role {
            Role::Join(target) => Some(target),
            _ => None,
        };
        self.model.spawn(role, daemon);
        self.start(probe, body, daemon, loose, target);
    }

    /// Spawns a task that is ready in its first poll.
    pub(crate) fn spawn_once(&mut self, body: Body) {
        self.model.spawn(Role::Once, false);
        self.start(Arc::default(), body, false, None, None);
        self.tasks.last_mut().expect("just added").handle = None;
    }

    fn start(
        &mut self,
        probe: Arc<Probe>,
        body: Body,
        daemon: bool,
        loose: Option<Loose>,
        target: Option<usize>,
    ) {
        let future = Probed {
            probe: Arc::clone(&probe),
            body,
        };
        let builder = fahrenheit::task::Builder::new().daemon(daemon);
        let handle = Some(builder.spawn(future));
        self.tasks.push(Task {
            probe,
            handle,
            loose,
            target,
        });
    }

    /// What a task of this kind is for the model, and what it does.
    fn cast(&mut self, kind: Kind, probe: &Arc<Probe>) -> (Role, Option<Loose>, Body) {
        let own = Arc::clone(probe);
        match kind {
            Kind::Yield(n) => return (Role::Yield(n), None, tasks::yields(n)),
            Kind::Sleep(duration) => {
                let body = tasks::sleeps(own, duration);
                return (Role::Loose, Some(Loose::Sleep), body);
            }
            Kind::Timeout(limit) => {
                let body = tasks::limited(own, limit);
                return (Role::Loose, Some(Loose::Timeout), body);
            }
            Kind::Join(index) if !self.tasks.is_empty() => {
                let target = index % self.tasks.len();
                if let Some(handle) = self.tasks[target].handle.take() {
                    return (Role::Join(target), None, tasks::joins(own, handle));
                }
            }
            Kind::Read {
                end,
                chunk,
                limit,
                style,
            } => {
                if let Some((mut loose, io)) = self.io(own, end, false, style) {
                    if let Loose::Io { reads_all, .. } = &mut loose {
                        *reads_all = limit == usize::MAX;
                    }
                    return (Role::Loose, Some(loose), tasks::reads(io, chunk, limit));
                }
            }
            Kind::Write { end, total, style } => {
                if let Some((loose, io)) = self.io(own, end, true, style) {
                    return (Role::Loose, Some(loose), tasks::writes(io, total));
                }
            }
            Kind::Join(_) | Kind::Wait => {}
        }
        (Role::Wait, None, tasks::waits())
    }

    fn io(&self, probe: Arc<Probe>, end: usize, writes: bool, style: Style) -> Option<(Loose, Io)> {
        let index = self.pick(end)?;
        let place = &self.places[index];
        if !place.is_registered() || !self.goes(place, writes) {
            return None;
        }
        let loose = Loose::Io {
            place: index,
            registration: place.slot.borrow().registration,
            writes,
            style,
            reads_all: false,
        };
        let io = Io {
            probe,
            slot: place.slot.clone(),
            flow: self.flow(place, writes).clone(),
            style,
        };
        Some((loose, io))
    }

    /// Of all ends that are open.
    pub(crate) fn pick(&self, index: usize) -> Option<usize> {
        let open = (0..self.places.len()).filter(|&i| self.places[i].is_open());
        let open: Vec<_> = open.collect();
        open.get(index % open.len().max(1)).copied()
    }

    /// Whether bytes go that way; of a pipe, only one.
    pub(crate) fn goes(&self, place: &Place, writes: bool) -> bool {
        !self.links[place.link].is_pipe || (place.side == 1) == writes
    }

    pub(crate) fn flow(&self, place: &Place, writes: bool) -> &std::rc::Rc<Flow> {
        let side = if writes { place.side } else { 1 - place.side };
        &self.links[place.link].flows[side]
    }

    fn add_link(&mut self, files: [File; 2], is_pipe: bool) {
        if self.n_open() + 2 > MOST_PLACES {
            return;
        }
        let link = self.links.len();
        self.links.push(Link {
            flows: [Flow::new(2 * link), Flow::new(2 * link + 1)],
            is_pipe,
            shut: [false; 2],
        });
        for (side, file) in files.into_iter().enumerate() {
            self.places.push(Place::new(link, side, file));
        }
    }

    fn waker(&self, id: usize) -> Option<Waker> {
        self.tasks[id].probe.with(|state| state.waker.clone())
    }

    /// Tells a task something, and wakes it.
    pub(crate) fn command(&mut self, id: usize, command: Command) {
        if !self.model.is_running(id) {
            return;
        }
        self.abandon(id);
        self.model.command(id, command);
        self.tasks[id]
            .probe
            .with(|state| state.command = Some(command));
        if let Some(waker) = self.waker(id) {
            waker.wake();
        }
    }

    /// Notes that what this task waits for may stay behind.
    fn abandon(&self, id: usize) {
        if let Some(Loose::Io { place, writes, .. }) = self.tasks[id].loose {
            self.places[place].abandoned[usize::from(writes)].set(true);
        }
    }

    fn abort(&mut self, id: usize, from: Thread) {
        let Some(handle) = &self.tasks[id].handle else {
            return;
        };
        if self.model.is_running(id) {
            self.tasks[id].probe.condemned.store(true, Ordering::SeqCst);
        }
        match from {
            Thread::Here => handle.abort(),
            Thread::Other => {
                let handle = handle.abort_handle();
                elsewhere(move || handle.abort());
            }
        }
        self.abandon(id);
        self.model.abort(id, from);
    }

    fn apply_to_task(&mut self, op: Op) {
        let n = self.tasks.len().max(1);
        let (Op::Wake(id)
        | Op::WakeElsewhere(id)
        | Op::Keep(id)
        | Op::Abort(id)
        | Op::AbortElsewhere(id)
        | Op::DropHandle(id)
        | Op::PollHandle(id)
        | Op::Finish(id)
        | Op::Panic(id)
        | Op::Reset(id, _)) = op
        else {
            return;
        };
        let id = id % n;
        if id >= self.tasks.len() {
            return;
        }
        let waker = self.waker(id);
        match (op, waker) {
            (Op::Wake(_), Some(waker)) => {
                self.model.wake(id, Thread::Here);
                waker.wake();
            }
            (Op::WakeElsewhere(_), Some(waker)) => {
                self.model.wake(id, Thread::Other);
                elsewhere(move || waker.wake());
            }
            (Op::Keep(_), Some(waker)) => self.kept.push((id, waker)),
            (Op::Abort(_), _) => self.abort(id, Thread::Here),
            (Op::AbortElsewhere(_), _) => self.abort(id, Thread::Other),
            (Op::DropHandle(_), _) => drop(self.tasks[id].handle.take()),
            (Op::PollHandle(_), _) => self.poll_handle(id),
            (Op::Finish(_), _) => self.command(id, Command::Finish),
            (Op::Panic(_), _) => self.command(id, Command::Panic),
            (Op::Reset(_, duration), Some(waker)) => {
                if let Some(Loose::Sleep) = self.tasks[id].loose {
                    let probe = &self.tasks[id].probe;
                    probe.with(|state| state.reset = Some(duration));
                    self.model.wake(id, Thread::Here);
                    waker.wake();
                }
            }
            _ => {}
        }
    }

    fn poll_handle(&mut self, id: usize) {
        let Some(mut handle) = self.tasks[id].handle.take() else {
            return;
        };
        let polled = Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop()));
        let polled = match &polled {
            Poll::Ready(joined) => Some(outcome(joined)),
            Poll::Pending => None,
        };
        assert_eq!(polled, self.model.tasks[id].outcome, "handle of task {id}");
        if polled.is_none() {
            self.tasks[id].handle = Some(handle);
        }
    }

    fn apply_to_place(&mut self, op: Op) {
        let (Op::Register(index, _)
        | Op::Unregister(index)
        | Op::Close(index)
        | Op::Duplicate(index)
        | Op::Reopen(index, _)
        | Op::Shutdown(index)
        | Op::Write(index, _)
        | Op::Drain(index)) = op
        else {
            return;
        };
        let Some(index) = self.pick(index) else {
            return;
        };
        match op {
            Op::Register(_, wrap) => self.register(index, wrap),
            Op::Unregister(_) => {
                if let Some(file) = self.unregister(index) {
                    self.places[index].put(Some(End::Raw(file)));
                }
            }
            Op::Close(_) => self.close(index),
            Op::Duplicate(_) if self.n_open() < MOST_PLACES => {
                let place = &self.places[index];
                let file = place.slot.borrow().end.as_ref().map(End::duplicate);
                let (link, side) = (place.link, place.side);
                self.places.extend(file.map(|f| Place::new(link, side, f)));
            }
            Op::Reopen(_, wrap) => self.reopen(index, wrap),
            Op::Shutdown(_) => {
                let place = &self.places[index];
                let link = &mut self.links[place.link];
                if let (false, Some(end)) = (link.is_pipe, &place.slot.borrow().end) {
                    end.shutdown();
                    link.shut[place.side] = true;
                }
            }
            Op::Write(_, len) => self.write(index, len),
            Op::Drain(_) => self.drain(index),
            _ => {}
        }
    }

    fn register(&self, index: usize, wrap: Wrap) {
        let place = &self.places[index];
        match place.take() {
            Some(End::Raw(file)) => {
                let is_pipe = self.links[place.link].is_pipe;
                place.put(Some(End::register(file, wrap, is_pipe)));
            }
            end => place.slot.borrow_mut().end = end,
        }
    }

    /// Takes an end out of the loop, unless a task holds it there.
    fn unregister(&self, index: usize) -> Option<File> {
        let place = &self.places[index];
        match place.take()?.unregister() {
            Ok(file) => Some(file),
            Err(end) => {
                place.slot.borrow_mut().end = Some(end);
                None
            }
        }
    }

    fn close(&mut self, index: usize) {
        self.places[index].put(None);
        // Those that hold it are told, for only they can let go of it.
        for id in 0..self.tasks.len() {
            let Some(Loose::Io { place, style, .. }) = self.tasks[id].loose else {
                continue;
            };
            if place == index && style == Style::Ready {
                let waker = self.waker(id);
                waker.into_iter().for_each(Waker::wake);
            }
        }
    }

    fn reopen(&mut self, index: usize, wrap: Wrap) {
        if !self.places[index].is_registered() {
            return;
        }
        let Some(file) = self.unregister(index) else {
            return;
        };
        let mut number = OwnedFd::from(file);
        let [a, b] = open(false, false);
        dup2(&a, &mut number).expect("both are open");
        drop(a);
        self.places[index].put(None);
        let first = self.places.len();
        self.add_link([File::from(number), b], false);
        if first < self.places.len() {
            self.register(first, wrap);
        }
    }

    /// Writes from outside, as much as the system takes.
    fn write(&self, index: usize, len: usize) {
        let place = &self.places[index];
        if !self.goes(place, true) {
            return;
        }
        if let Some(End::Raw(file)) = &mut place.slot.borrow_mut().end {
            let flow = self.flow(place, true);
            let bytes = flow.next(len);
            let mut rest = &bytes[..];
            while let Ok(n @ 1..) = file.write(rest) {
                flow.sent(n);
                rest = &rest[n..];
            }
        }
    }

    /// Reads from outside all that is there.
    pub(crate) fn drain(&self, index: usize) {
        let place = &self.places[index];
        if !self.goes(place, false) {
            return;
        }
        if let Some(End::Raw(file)) = &mut place.slot.borrow_mut().end {
            let mut bytes = [0; 4_096];
            while let Ok(n @ 1..) = file.read(&mut bytes) {
                self.flow(place, false).receive(&bytes[..n]);
            }
        }
    }

    fn n_open(&self) -> usize {
        let open = self.places.iter().filter(|place| place.is_open());
        open.count()
    }

    pub(crate) fn close_all(&mut self) {
        (0..self.places.len()).for_each(|index| self.close(index));
    }

    /// Closes all ends, and ends all tasks: those whose handle is there by aborting them.
    pub(crate) fn end_all(&mut self) {
        self.close_all();
        for id in 0..self.tasks.len() {
            match self.tasks[id].handle {
                Some(_) => self.abort(id, Thread::Here),
                None => self.command(id, Command::Finish),
            }
        }
    }

    /// Whether a task on this side reads until the end.
    pub(crate) fn reads_all(&self, link: usize, side: usize) -> bool {
        self.tasks.iter().enumerate().any(|(id, task)| {
            let Some(Loose::Io {
                place, reads_all, ..
            }) = task.loose
            else {
                return false;
            };
            let place = &self.places[place];
            reads_all && (place.link, place.side) == (link, side) && self.model.is_running(id)
        })
    }
}
