//! The model: a queue of tasks, and what each has become. It has no loop, no descriptors, no clock.
//!
//! What a task does that waits for a descriptor or a timer is not predicted but judged afterwards;
//! it is *loose*. Everybody else is polled exactly as often as is written here, no matter in which
//! order descriptors and timers become ready meanwhile.

use std::collections::VecDeque;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Value,
    Cancelled,
    Panicked,
}

/// What a task has been told to do in its next poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Nothing,
    Finish,
    Panic,
}

#[derive(Debug)]
pub(crate) enum Role {
    /// Pending until it is told something.
    Wait,
    Yield(usize),
    Join(usize),
    /// Ready in its first poll.
    Once,
    Loose,
}

#[derive(Debug)]
pub(crate) struct Task {
    role: Role,
    /// Whether the number of its polls is known.
    pub(crate) exact: bool,
    pub(crate) n_polls: usize,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) aborted: bool,
    pub(crate) daemon: bool,
    command: Command,
    queued: bool,
    joiner: Option<usize>,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) tasks: Vec<Task>,
    queue: VecDeque<usize>,
    /// What other threads have woken: it comes after what is queued already.
    mail: VecDeque<usize>,
}

/// On which thread something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thread {
    Here,
    Other,
}

impl Model {
    pub(crate) fn spawn(&mut self, role: Role, daemon: bool) -> usize {
        let exact = match role {
            Role::Join(target) => self.tasks[target].exact,
            Role::Loose => false,
            _ => true,
        };
        self.tasks.push(Task {
            role,
            exact,
            n_polls: 0,
            outcome: None,
            aborted: false,
            daemon,
            command: Command::Nothing,
            queued: false,
            joiner: None,
        });
        let id = self.tasks.len() - 1;
        self.wake(id, Thread::Here);
        id
    }

    pub(crate) fn is_running(&self, id: usize) -> bool {
        self.tasks[id].outcome.is_none()
    }

    pub(crate) fn wake(&mut self, id: usize, from: Thread) {
        let task = &mut self.tasks[id];
        if task.queued || task.outcome.is_some() {
            return;
        }
        task.queued = true;
        match from {
            Thread::Here => self.queue.push_back(id),
            Thread::Other => self.mail.push_back(id),
        }
    }

    pub(crate) fn abort(&mut self, id: usize, from: Thread) {
        if self.is_running(id) {
            self.tasks[id].aborted = true;
            self.wake(id, from);
        }
    }

    pub(crate) fn command(&mut self, id: usize, command: Command) {
        self.tasks[id].command = command;
        self.wake(id, Thread::Here);
    }

    /// After a fork, in the child: everybody looks again.
    pub(crate) fn wake_all(&mut self) {
        (0..self.tasks.len()).for_each(|id| self.wake(id, Thread::Here));
    }

    /// Polls whoever is queued.
    pub(crate) fn run(&mut self) {
        self.queue.append(&mut self.mail);
        while let Some(id) = self.queue.pop_front() {
            self.poll(id);
        }
    }

    fn poll(&mut self, id: usize) {
        let task = &mut self.tasks[id];
        task.queued = false;
        if task.outcome.is_some() {
            return;
        }
        if task.aborted {
            self.end(id, Outcome::Cancelled);
            return;
        }
        task.n_polls += 1;
        match task.command {
            Command::Finish => return self.end(id, Outcome::Value),
            Command::Panic => return self.end(id, Outcome::Panicked),
            Command::Nothing => {}
        }
        match &mut task.role {
            Role::Wait | Role::Loose => {}
            Role::Once | Role::Yield(0) => self.end(id, Outcome::Value),
            Role::Yield(left) => {
                *left -= 1;
                self.wake(id, Thread::Here);
            }
            &mut Role::Join(target) => {
                if self.is_running(target) {
                    self.tasks[target].joiner = Some(id);
                } else {
                    self.end(id, Outcome::Value);
                }
            }
        }
    }

    /// Ends a task, and wakes who awaits it.
    pub(crate) fn end(&mut self, id: usize, outcome: Outcome) {
        self.tasks[id].outcome = Some(outcome);
        if let Some(joiner) = self.tasks[id].joiner.take() {
            self.wake(joiner, Thread::Here);
        }
    }
}
