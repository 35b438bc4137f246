//! Whether what has become of a world is what had to become of it.

use crate::links::Place;
use crate::model::Outcome;
use crate::script::LONG;
use crate::tasks::Reason;
use crate::world::{Loose, World};
use std::collections::BTreeSet;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

impl World {
    /// Compares all that can be seen with the model. The loop is quiet.
    pub(crate) fn check(&mut self) {
        for (id, task) in self.tasks.iter().enumerate() {
            let complaint = task.probe.with(|state| state.complaint.take());
            assert_eq!(complaint, None, "task {id}");
        }
        self.model.run();
        for id in 0..self.tasks.len() {
            if let (Some(loose), true) = (self.tasks[id].loose, self.model.is_running(id)) {
                self.judge(id, loose);
            }
        }
        self.model.run();
        for id in 0..self.tasks.len() {
            self.compare(id);
        }
        for (link, index) in self.links.iter().zip(0..) {
            let corrupt = link.flows.iter().any(|flow| flow.corrupt.get());
            assert!(!corrupt, "bytes of link {index} came in disorder");
        }
        self.compare_interest();
    }

    fn compare(&self, id: usize) {
        let (task, expected) = (&self.tasks[id], &self.model.tasks[id]);
        let probe = &task.probe;
        let n_drops = probe.n_drops.load(Ordering::SeqCst);
        let n_expected = usize::from(expected.outcome.is_some());
        assert_eq!(n_drops, n_expected, "drops of task {id}: {expected:?}");
        if expected.exact {
            assert_eq!(probe.polls(), expected.n_polls, "polls of task {id}");
        }
        if let Some(handle) = &task.handle {
            let ended = expected.outcome.is_some();
            assert_eq!(handle.is_finished(), ended, "handle of task {id}");
        }
        if let (Some(target), Some(joined)) = (task.target, probe.with(|state| state.joined)) {
            let outcome = self.model.tasks[target].outcome;
            assert_eq!(Some(joined), outcome, "task {id} awaited task {target}");
        }
    }

    /// Decides whether a task of which the model knows little may be where it is.
    fn judge(&mut self, id: usize, loose: Loose) {
        let probe = &self.tasks[id].probe;
        let reason = probe.with(|state| state.reason);
        let ended = probe.has_ended();
        assert_eq!(ended, reason.is_some(), "task {id} lives and has ended");
        match loose {
            Loose::Io {
                place,
                registration,
                writes,
                ..
            } => {
                let place = &self.places[place];
                let registered = place.slot.borrow().registration == registration;
                let fault = match (reason, registered) {
                    (Some(Reason::Closed), true) => Some("ended for no reason"),
                    (None, false) => Some("waits where nothing is registered"),
                    _ if writes => self.fault_of_writer(place, reason),
                    _ => self.fault_of_reader(place, reason),
                };
                assert_eq!(fault, None, "task {id}");
            }
            Loose::Sleep | Loose::Timeout => {
                assert!(matches!(reason, None | Some(Reason::Time)), "task {id}");
            }
        }
        if ended {
            self.model.end(id, Outcome::Value);
        }
    }

    /// Whether one can still write to, or read from, this side of a link.
    fn is_open(&self, link: usize, side: usize) -> bool {
        let mut places = self.places.iter();
        places.any(|p| (p.link, p.side) == (link, side) && p.is_open())
    }

    fn fault_of_reader(&self, place: &Place, reason: Option<Reason>) -> Option<&'static str> {
        let in_flight = self.flow(place, false).in_flight();
        let peer_open = self.is_open(place.link, 1 - place.side);
        let at_end = !peer_open || self.links[place.link].shut[1 - place.side];
        match reason {
            None if in_flight > 0 => Some("a reader waits, and there is something to read"),
            None if at_end => Some("a reader waits, and there is nothing to come"),
            Some(Reason::End) if !at_end => Some("the end came while there was more to come"),
            Some(Reason::End) if in_flight > 0 => Some("the end came before all was read"),
            Some(Reason::Reset) if peer_open => Some("reset by a peer that is there"),
            Some(Reason::Time) => Some("a reader has no time limit"),
            _ => None,
        }
    }

    fn fault_of_writer(&self, place: &Place, reason: Option<Reason>) -> Option<&'static str> {
        let in_flight = self.flow(place, true).in_flight();
        let peer_open = self.is_open(place.link, 1 - place.side);
        let shut = self.links[place.link].shut[place.side];
        match reason {
            None if in_flight == 0 => Some("a writer waits, and there is room"),
            None if !peer_open => Some("a writer waits, and the peer is gone"),
            Some(Reason::Reset) if peer_open && !shut => Some("the peer has not gone"),
            Some(Reason::End | Reason::Time) => Some("a writer knows no end and no time limit"),
            _ => None,
        }
    }

    /// Where tasks wait, by direction.
    fn awaited(&self) -> [BTreeSet<RawFd>; 2] {
        let mut awaited = [BTreeSet::new(), BTreeSet::new()];
        for (id, task) in self.tasks.iter().enumerate() {
            let Some(Loose::Io { place, writes, .. }) = task.loose else {
                continue;
            };
            if self.model.is_running(id) {
                let slot = self.places[place].slot.borrow();
                awaited[usize::from(writes)].extend(slot.end.as_ref().map(|end| end.fd()));
            }
        }
        awaited
    }

    /// Where tasks have waited that were dropped: an interest may be left until it fires.
    fn abandoned(&self, direction: usize) -> BTreeSet<RawFd> {
        let places = self.places.iter();
        let abandoned = places.filter(|place| place.abandoned[direction].get());
        let fds = abandoned.filter_map(|p| Some(p.slot.borrow().end.as_ref()?.fd()));
        fds.collect()
    }

    /// The tables of the loop, as it shows them to its host.
    fn compare_interest(&self) {
        let interest = fahrenheit::interest();
        assert!(!interest.queued, "the loop is quiet");
        let [readers, writers] = self.awaited();
        for (direction, awaited, shown) in
            [(0, readers, interest.read), (1, writers, interest.write)]
        {
            let shown: BTreeSet<RawFd> = shown.into_iter().collect();
            let missing: Vec<_> = awaited.difference(&shown).collect();
            let known = &awaited | &self.abandoned(direction);
            let others = shown.difference(&known).count();
            // The pipe, and the kernel's queue if there is one.
            let pipe = usize::from(direction == 0);
            if self.select {
                assert!(missing.is_empty(), "{missing:?} are not waited for");
                assert_eq!(others, pipe, "{shown:?} are waited for, not {awaited:?}");
            } else {
                let queue = pipe == 1 && (others == 2 || !missing.is_empty());
                let most = pipe + usize::from(queue);
                assert!(others <= most, "{shown:?} are waited for, not {awaited:?}");
                assert!(
                    pipe == 0 || others >= most,
                    "{missing:?} are not waited for"
                );
            }
        }
        self.compare_deadline(interest.deadline);
    }

    fn compare_deadline(&self, shown: Option<Instant>) {
        let running = |id: &usize| self.model.is_running(*id);
        let deadlines = |wanted: fn(Loose) -> bool| {
            let tasks = (0..self.tasks.len()).filter(running);
            let tasks = tasks.filter(move |&id| self.tasks[id].loose.is_some_and(wanted));
            let deadlines = tasks.filter_map(|id| self.tasks[id].probe.with(|s| s.deadline));
            deadlines.min()
        };
        let sleep = deadlines(|loose| matches!(loose, Loose::Sleep));
        let limit = deadlines(|loose| matches!(loose, Loose::Timeout));
        // Or the next look at descriptors in the kernel's queue, which is never a minute away.
        let is_look = !self.select
            && shown.is_some_and(|shown| shown <= Instant::now() + Duration::from_secs(60));
        match (sleep, limit, shown) {
            (sleep, _, Some(shown)) if is_look => {
                assert!(
                    sleep.is_none_or(|sleep| shown <= sleep),
                    "the next deadline"
                );
            }
            (sleep, None, shown) => assert_eq!(shown, sleep, "the next deadline"),
            // It began to count a little later than what is known.
            (None, Some(limit), shown) => assert!(shown >= Some(limit), "the next deadline"),
            (Some(sleep), Some(limit), shown) => {
                let shown = shown.expect("two timers are armed");
                assert!(shown <= sleep && shown >= sleep.min(limit));
            }
        }
    }

    /// Whether a task sleeps that will not for long.
    pub(crate) fn short_timers(&self) -> bool {
        let soon = Instant::now() + LONG / 2;
        self.tasks.iter().any(|task| {
            let timer = matches!(task.loose, Some(Loose::Sleep | Loose::Timeout));
            let deadline = task.probe.with(|state| state.deadline);
            timer && !task.probe.has_ended() && deadline.is_some_and(|due| due < soon)
        })
    }
}
