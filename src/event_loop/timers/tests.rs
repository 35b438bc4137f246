//! The table of timers, without a loop.

use super::*;
use crate::event_loop::shuffle::Shuffle;

fn noop() -> Waker {
    Waker::noop().clone()
}

fn arm(timers: &mut Timers, deadline: Moment) -> TimerKey {
    timers.insert(deadline, noop())
}

fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}

#[test]
fn timers_with_one_deadline_all_fire_in_the_order_they_were_armed() {
    let now = Moment::now();
    let mut timers = Timers::new();
    let keys: Vec<_> = (0..1_000).map(|_| arm(&mut timers, now)).collect();
    assert!(keys.is_sorted_by_key(|key| key.serial));
    timers.queue_newest();
    for key in keys {
        assert_eq!(timers.heap[0].serial, key.serial);
        timers.take(0);
    }
    assert!(timers.is_empty());
}

#[test]
fn timers_fire_in_order_whatever_was_armed_and_removed_before() {
    let now = Moment::now();
    let (mut timers, mut shuffle) = (Timers::new(), Shuffle::new(7));
    // What must be in the table, in the order in which it fires.
    let mut wanted = std::collections::BTreeMap::new();
    for n in 0..20_000_u64 {
        let deadline = now.saturating_add(us(shuffle.next() % 500));
        let key = arm(&mut timers, deadline);
        wanted.insert((deadline, n), key);
        if shuffle.next() % 2 == 0 {
            let nth = shuffle.next() as usize % wanted.len();
            let (&order, &key) = wanted.iter().nth(nth).unwrap();
            wanted.remove(&order);
            assert!(timers.remove(key).is_some() && timers.remove(key).is_none());
        }
        if n % 500 == 0 {
            let until = now.saturating_add(us(n % 300));
            let mut fired = Vec::new();
            let mut due = Vec::new();
            timers.collect_noting(until, &mut due, |deadline| fired.push(deadline));
            let later = wanted.split_off(&(until.saturating_add(Duration::from_nanos(1)), 0));
            let in_time = std::mem::replace(&mut wanted, later);
            let in_order = in_time.keys().map(|&(deadline, _)| deadline);
            assert_eq!(fired, in_order.collect::<Vec<_>>());
            for key in in_time.into_values() {
                assert_eq!(timers.state(key, Waker::noop()), Armed::Fired);
                assert!(timers.remove(key).is_none());
            }
        }
        assert_eq!(timers.len(), wanted.len());
        let first = wanted.keys().next().map(|&(deadline, _)| deadline);
        assert_eq!(timers.next_deadline(), first);
    }
    assert!(wanted.len() > 1_000);
    let later = now.saturating_add(us(500));
    timers.collect(later, &mut Vec::new());
    assert!(timers.is_empty() && timers.slots.capacity() == 0);
}

#[test]
fn a_timer_knows_its_waker_and_takes_another_until_it_has_fired() {
    struct NoTask;
    impl std::task::Wake for NoTask {
        fn wake(self: std::sync::Arc<Self>) {}
    }
    let [one, other] = [(); 2].map(|()| Waker::from(std::sync::Arc::new(NoTask)));
    let deadline = Moment::now();
    let mut timers = Timers::new();
    let key = timers.insert(deadline, one.clone());
    assert_eq!(timers.state(key, &one), Armed::SameWaker);
    assert_eq!(timers.state(key, &other), Armed::OtherWaker);
    let displaced = timers.set_waker(key, other.clone()).unwrap();
    assert!(displaced.will_wake(&one));
    assert_eq!(timers.state(key, &other), Armed::SameWaker);
    let mut due = Vec::new();
    timers.collect(deadline, &mut due);
    assert!(due.len() == 1 && due[0].will_wake(&other));
    let refused = timers.set_waker(key, one.clone()).unwrap();
    assert!(refused.will_wake(&one));
}

#[test]
fn a_timer_that_is_due_exactly_now_fires() {
    let now = Moment::now();
    let mut timers = Timers::new();
    let at = arm(&mut timers, now);
    let after = arm(&mut timers, now.saturating_add(Duration::from_nanos(1)));
    timers.collect(now, &mut Vec::new());
    assert_eq!(timers.state(at, Waker::noop()), Armed::Fired);
    assert_ne!(timers.state(after, Waker::noop()), Armed::Fired);
    assert_eq!(
        timers.next_deadline(),
        Some(now.saturating_add(Duration::from_nanos(1)))
    );
}

#[test]
fn timers_within_the_slack_are_served_in_one_wake_up() {
    let now = Moment::now();
    let mut timers = Timers::new();
    let after = |n| now.saturating_add(us(n));
    for n in [1_000, 1_040, 1_100, 1_101, 5_000] {
        arm(&mut timers, after(n));
    }
    assert_eq!(timers.next_wake_up(us(100)), Some(after(1_100)));
    assert_eq!(timers.next_wake_up(Duration::ZERO), Some(after(1_000)));
    assert_eq!(
        timers.next_wake_up(Duration::MAX),
        Some(after(1_000)),
        "no such instant"
    );
    timers.collect(after(1_101), &mut Vec::new());
    assert_eq!(timers.next_wake_up(us(100)), Some(after(5_000)));
    // With very many, not all are looked at; the end of the slack is then close enough.
    for n in 0..10_000 {
        arm(&mut timers, after(6_000 + n / 100));
    }
    timers.collect(after(5_000), &mut Vec::new());
    assert_eq!(timers.next_wake_up(us(50)), Some(after(6_050)));
    assert_eq!(timers.next_wake_up(us(500)), Some(after(6_500)));
}

#[test]
fn deadlines_in_the_past_and_after_centuries_have_their_order() {
    let now = Moment::now();
    let mut timers = Timers::new();
    let century = Duration::from_secs(100 * 365 * 86_400);
    let never = arm(&mut timers, now.saturating_add(10 * century));
    let far = arm(&mut timers, now.saturating_add(century));
    let soon = arm(&mut timers, now.saturating_add(us(1_000)));
    let past = arm(
        &mut timers,
        Moment::from(now.instant().unwrap() - us(1_000_000)),
    );
    timers.queue_newest();
    let order: Vec<_> = [past, soon, far, never]
        .map(|key| timers.find(key))
        .to_vec();
    assert!(order.iter().all(Option::is_some) && order[0] == Some(0));
    timers.collect(now, &mut Vec::new());
    assert_eq!(timers.next_deadline(), Some(now.saturating_add(us(1_000))));
    assert_ne!(timers.state(soon, Waker::noop()), Armed::Fired);
    let late = now.saturating_add(us(1_000));
    timers.collect(late, &mut Vec::new());
    assert_eq!(timers.state(soon, Waker::noop()), Armed::Fired);
    for key in [far, never] {
        assert_ne!(timers.state(key, Waker::noop()), Armed::Fired);
    }
}
