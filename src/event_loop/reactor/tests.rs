//! Tests of the reactor alone, without a loop around it.

use super::*;
use crate::sys::wake_pipe::WakePipe;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time::Duration;

const ZERO: Option<Duration> = Some(Duration::ZERO);

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A reactor with one registered socket, and what belongs to it.
struct Bench {
    reactor: Reactor,
    pipe: WakePipe,
    ours: UnixStream,
    peer: UnixStream,
    token: Token,
}

impl Bench {
    fn new() -> Bench {
        let (ours, peer) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (mut reactor, fd) = (Reactor::new(), ours.as_raw_fd());
        let trigger = Some(Trigger::Edge);
        let (token, _) = reactor
            .register(fd, true, trigger, Location::caller())
            .unwrap();
        Bench {
            reactor,
            pipe: WakePipe::new().unwrap(),
            ours,
            peer,
            token,
        }
    }

    /// Takes part in selects until the descriptor is tenured.
    fn tenured() -> Bench {
        let mut this = Bench::new();
        this.add(Waker::noop().clone());
        for _ in 0..5 {
            this.turn(ZERO);
        }
        let source = this.reactor.source(this.token).unwrap();
        assert_eq!(source.tenure, Tenure::Tenured);
        this
    }

    fn add(&mut self, waker: Waker) -> Added {
        let (token, direction) = (self.token, Direction::Read);
        self.reactor
            .add(token, direction, false, Owner::Waker, waker)
    }

    /// Waits and collects as a turn of the loop does; returns how many were woken, and how many
    /// descriptors were closed.
    fn turn(&mut self, limit: Option<Duration>) -> (usize, usize) {
        self.reactor.wait(self.pipe.read_fd(), limit);
        let (mut woken, mut closed) = (Vec::new(), Vec::new());
        self.reactor.collect(&mut woken);
        self.reactor.look_if_due(None, &mut woken, &mut closed);
        (woken.len(), closed.len())
    }

    /// Has data arrive, of which an edge tells, and assumes that all of it was read.
    fn guess_wrong(&mut self) {
        self.peer.write_all(b"data").unwrap();
        assert_eq!(self.turn(None), (1, 0));
        let advice = self.reactor.advice(self.token, Direction::Read);
        assert_eq!(advice, Advice::TryHinted);
        self.reactor.guess_blocked(self.token, Direction::Read);
        let advice = self.reactor.advice(self.token, Direction::Read);
        assert_eq!(advice, Advice::Wait);
    }
}

#[test]
#[cfg_attr(fahrenheit_no_queue, ignore = "nothing is tenured without a queue")]
fn a_wrong_guess_is_looked_at_and_does_not_park_a_task_for_good() {
    let mut bench = Bench::tenured();
    bench.guess_wrong();
    bench.add(Waker::noop().clone());
    // Without a limit: it is the look that ends the wait.
    assert_eq!(bench.turn(None), (1, 0));
    let advice = bench.reactor.advice(bench.token, Direction::Read);
    assert_eq!(advice, Advice::TryHinted);
}

#[test]
#[cfg_attr(fahrenheit_no_queue, ignore = "nothing is tenured without a queue")]
fn a_right_guess_is_looked_at_once_and_then_the_loop_sleeps() {
    let mut bench = Bench::tenured();
    bench.guess_wrong();
    assert_eq!((&bench.ours).read(&mut [0; 16]).unwrap(), 4);
    bench.add(Waker::noop().clone());
    assert_eq!(bench.reactor.patience(), Some(Duration::from_millis(250)));
    assert_eq!(bench.turn(None), (0, 0));
    assert_eq!(bench.reactor.patience(), Some(Duration::from_secs(2)));
    // An edge ends what is now known.
    bench.peer.write_all(b"x").unwrap();
    assert_eq!(bench.turn(None), (1, 0));
    // The guess cost a look, so the next is not made.
    bench.reactor.advice(bench.token, Direction::Read);
    bench.reactor.guess_blocked(bench.token, Direction::Read);
    let advice = bench.reactor.advice(bench.token, Direction::Read);
    assert_eq!(advice, Advice::Try, "one more call, and it is believed");
}

#[test]
#[cfg_attr(fahrenheit_no_queue, ignore = "nothing is tenured without a queue")]
fn a_busy_loop_looks_at_guesses_that_no_edge_has_ended() {
    let mut bench = Bench::tenured();
    bench.guess_wrong();
    bench.add(Waker::noop().clone());
    let mut now = crate::event_loop::clock::Moment::now();
    let mut woken = Vec::new();
    for _ in 0..100 {
        // Something else is always ready.
        bench.reactor.note_wait(false, false);
        now = now.saturating_add(Duration::from_millis(20));
        let reactor = &mut bench.reactor;
        reactor.look_if_due(Some(now), &mut woken, &mut Vec::new());
    }
    assert_eq!(woken.len(), 1);
}

#[test]
#[cfg_attr(fahrenheit_no_queue, ignore = "nothing is tenured without a queue")]
fn an_idle_loop_looks_after_2_6_14_and_30_seconds_and_then_every_30() {
    let mut bench = Bench::tenured();
    let delays = |bench: &mut Bench, n_looks: usize| -> Vec<u64> {
        let mut delays = Vec::new();
        for _ in 0..n_looks {
            delays.push(bench.reactor.patience().unwrap().as_millis() as u64);
            bench.reactor.note_wait(true, true);
            let reactor = &mut bench.reactor;
            reactor.look_if_due(None, &mut Vec::new(), &mut Vec::new());
        }
        delays
    };
    let seconds: Vec<_> = delays(&mut bench, 6).iter().map(|ms| ms / 1_000).collect();
    assert_eq!(seconds, [2, 4, 8, 16, 30, 30]);
    // With a guess there is one wake-up more, and still no more than five in a minute.
    bench.guess_wrong();
    (&bench.ours).read_exact(&mut [0; 4]).unwrap();
    bench.add(Waker::noop().clone());
    let delays = delays(&mut bench, 6);
    assert_eq!(delays, [250, 2_000, 4_000, 8_000, 46_000, 30_000]);
    assert!(delays[..5].iter().sum::<u64>() >= 60_000);
}

#[test]
#[cfg_attr(fahrenheit_no_queue, ignore = "nothing is tenured without a queue")]
fn a_closed_descriptor_that_a_task_waits_for_is_found_by_a_look() {
    let mut bench = Bench::tenured();
    let number = bench.token.fd;
    nix::unistd::close(number).unwrap();
    bench.reactor.note_wait(true, true);
    let (mut woken, mut closed) = (Vec::new(), Vec::new());
    let reactor = &mut bench.reactor;
    let is_idle = reactor.look_if_due(None, &mut woken, &mut closed);
    assert!(is_idle && closed.len() == 1 && closed[0].fd == number);
    assert_eq!(bench.reactor.patience(), None);
    let advice = bench.reactor.advice(bench.token, Direction::Read);
    assert_eq!(advice, Advice::Dead);
    // Its number is not closed a second time.
    std::mem::forget(bench.ours);
}

#[test]
fn a_waiter_is_removed_wherever_it_is() {
    for tenured in [false, !cfg!(fahrenheit_no_queue)] {
        let mut bench = if tenured {
            Bench::tenured()
        } else {
            Bench::new()
        };
        bench.turn(ZERO);
        let before = bench.reactor.n_interests();
        let (token, direction) = (bench.token, Direction::Read);
        let waker = Waker::from(Arc::new(Count::default()));
        let owner = Owner::Future(None);
        let reactor = &mut bench.reactor;
        let first = reactor.add(token, direction, false, owner, waker.clone());
        let second = reactor.add(token, direction, true, owner, waker);
        for added in [first, second] {
            let key = added.key.unwrap();
            assert!(reactor.remove(token, direction, key).is_some());
            assert!(reactor.remove(token, direction, key).is_none());
        }
        assert_eq!(reactor.n_interests(), before, "tenured: {tenured}");
    }
}

#[test]
#[cfg_attr(fahrenheit_no_queue, ignore = "nothing is tenured without a queue")]
fn a_parked_waker_that_needs_select_is_moved_there() {
    let mut bench = Bench::tenured();
    let (token, direction) = (bench.token, Direction::Read);
    let waker = Waker::from(Arc::new(Count::default()));
    let reactor = &mut bench.reactor;
    let mut add =
        |needs_select| reactor.add(token, direction, needs_select, Owner::Waker, waker.clone());
    let parked = add(false);
    assert!(parked.unused.is_none());
    let still_parked = add(false);
    assert!(still_parked.unused.is_some() && still_parked.key == parked.key);
    let moved = add(true);
    assert!(moved.unused.is_some() && moved.key != parked.key);
    for needs_select in [true, false] {
        let unmoved = add(needs_select);
        assert!(unmoved.unused.is_some() && unmoved.key == moved.key);
    }
    assert_eq!(reactor.n_interests().0[0], 1);
}

#[test]
#[cfg_attr(fahrenheit_no_queue, ignore = "nothing is tenured without a queue")]
fn a_task_that_waits_to_write_is_woken_by_the_queue_each_time() {
    let mut bench = Bench::tenured();
    let mut bytes = vec![0; 1 << 20];
    for _ in 0..3 {
        while (&bench.ours).write(&bytes).is_ok() {}
        // The edge of what had room before.
        bench.turn(ZERO);
        let owner = Owner::Waker;
        let waker = Waker::noop().clone();
        let reactor = &mut bench.reactor;
        reactor.add(bench.token, Direction::Write, false, owner, waker);
        assert_eq!(bench.turn(ZERO), (0, 0), "it is full");
        bench.peer.set_nonblocking(true).unwrap();
        while bench.peer.read(&mut bytes).is_ok() {}
        assert_eq!(bench.turn(ZERO), (1, 0));
    }
    let source = bench.reactor.source(bench.token).unwrap();
    assert_eq!(source.tenure, Tenure::Tenured);
}

#[test]
fn readiness_without_data_backs_off_until_there_is_some() {
    for tenured in [false, !cfg!(fahrenheit_no_queue)] {
        let mut bench = if tenured {
            Bench::tenured()
        } else {
            Bench::new()
        };
        if !tenured {
            bench.reactor.set_poller(Poller::Select);
        }
        let (token, direction) = (bench.token, Direction::Read);
        bench.peer.write_all(b"x").unwrap();
        bench.add(Waker::noop().clone());
        let mut n_ready = 0;
        // As if the call found nothing each time, because another reader is always faster.
        for _ in 0..20 {
            let (n_woken, _) = bench.turn(ZERO);
            n_ready += n_woken;
            if n_woken > 0 {
                let advice = bench.reactor.advice(token, direction);
                let expected = match n_ready {
                    1 => Advice::TryHinted,
                    _ => Advice::TryDoubted,
                };
                assert_eq!(advice, expected);
                let needs_select = bench.reactor.note_would_block(token, direction, true);
                let waker = Waker::noop().clone();
                bench
                    .reactor
                    .add(token, direction, needs_select, Owner::Waker, waker);
            }
        }
        assert_eq!(n_ready, 3, "tenured: {tenured}");
        assert_eq!(bench.reactor.has_resting(), !tenured);
    }
}

#[test]
fn rests_double_up_to_32_ms() {
    let mut bench = Bench::new();
    let fd = bench.token.fd;
    let now = crate::event_loop::clock::Moment::now();
    for (n_before, ms) in [(0, 1), (1, 2), (4, 16), (5, 32), (200, 32)] {
        backoff::rest(&mut bench.reactor.resting, fd, Direction::Read, n_before);
        let end = bench.reactor.next_rest(now);
        let length = Duration::from_millis(ms);
        assert_eq!(end, Some(now.saturating_add(length)), "after {n_before}");
        assert_eq!(bench.reactor.next_rest(now.saturating_add(length)), None);
        assert!(!bench.reactor.has_resting());
    }
}
