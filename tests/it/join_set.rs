//! `JoinSet`, `AbortOnDrop` and `JoinHandle::detach`.

use crate::util::{Count, OnDrop, text, within};
use fahrenheit::task::{AbortOnDrop, JoinSet};
use fahrenheit::{block_on, run, spawn, time::sleep, yield_now};
use futures_channel::oneshot;
use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A future that never ends and adds one to `dropped` when it is dropped.
fn counted(dropped: &Rc<Cell<usize>>) -> impl Future<Output = u64> + use<> {
    let dropped = Rc::clone(dropped);
    let guard = OnDrop(move || dropped.set(dropped.get() + 1));
    async move {
        let _guard = guard;
        pending().await
    }
}

#[test]
fn tasks_of_a_set_are_joined_in_the_order_in_which_they_end() {
    run(async {
        let mut set = JoinSet::new();
        let mut senders = Vec::new();
        for n in 0..5 {
            let (sender, receiver) = oneshot::channel::<()>();
            senders.push(sender);
            set.spawn(async move { receiver.await.map(|()| n) });
        }
        assert_eq!(set.len(), 5);
        let mut senders: Vec<_> = senders.into_iter().map(Some).collect();
        for n in [3, 0, 4, 1, 2] {
            assert!(set.try_join_next().is_none());
            senders[n].take().unwrap().send(()).unwrap();
            assert_eq!(set.join_next().await.unwrap().unwrap(), Ok(n));
        }
        assert!(set.is_empty());
        assert!(set.join_next().await.is_none());
    });
}

#[test]
fn a_set_of_20_000_tasks_returns_each_output_once() {
    within(60, || {
        run(async {
            let mut set: JoinSet<usize> = (0..20_000).map(|n| async move { n }).collect();
            let mut sum = 0;
            while let Some(n) = set.join_next().await {
                sum += n.unwrap();
            }
            assert_eq!(sum, 20_000 * 19_999 / 2);
        });
    });
}

#[test]
fn panics_and_aborts_come_out_of_a_set_as_errors() {
    run(async {
        let mut set = JoinSet::new();
        set.spawn(async { panic!("on purpose") });
        let error = set.join_next().await.unwrap().unwrap_err();
        assert_eq!(text(&*error.into_panic()), "on purpose");
        let handle = set.spawn(pending::<()>());
        handle.abort();
        assert!(set.join_next().await.unwrap().unwrap_err().is_cancelled());
    });
}

#[test]
fn try_join_next_returns_what_has_ended_although_the_budget_is_spent() {
    run(async {
        let mut set: JoinSet<usize> = (0..1_000).map(|n| async move { n }).collect();
        yield_now().await;
        let mut n_joined = 0;
        while set.try_join_next().is_some() {
            n_joined += 1;
        }
        assert_eq!((n_joined, set.len()), (1_000, 0));
    });
}

#[test]
fn try_join_next_does_not_displace_the_waker_of_a_task_that_waits() {
    let (sender, receiver) = oneshot::channel::<()>();
    let mut set = JoinSet::new();
    set.spawn(receiver);
    let (count, waker) = Count::waker();
    assert!(
        set.poll_join_next(&mut Context::from_waker(&waker))
            .is_pending()
    );
    block_on(yield_now());
    assert!(set.try_join_next().is_none());
    assert!(
        set.poll_join_next(&mut Context::from_waker(&waker))
            .is_pending()
    );
    assert!(set.try_join_next().is_none());
    let before = count.get();
    sender.send(()).unwrap();
    block_on(async {
        yield_now().await;
        yield_now().await;
    });
    assert!(count.get() > before);
    assert_eq!(set.try_join_next().unwrap().unwrap(), Ok(()));
}

#[test]
fn a_task_that_waits_for_a_set_is_woken_by_the_end_of_one_that_came_later() {
    within(60, || {
        run(async {
            let mut set = JoinSet::new();
            set.spawn(pending::<u8>());
            let mut is_first = true;
            let joined = poll_fn(|cx| {
                let polled = set.poll_join_next(cx);
                if std::mem::take(&mut is_first) {
                    assert!(polled.is_pending());
                    set.spawn(async { 5 });
                    return Poll::Pending;
                }
                polled
            });
            assert_eq!(joined.await.unwrap().unwrap(), 5);
        });
    });
}

#[test]
fn abort_all_keeps_the_tasks_and_shutdown_empties_the_set() {
    run(async {
        let dropped = Rc::new(Cell::new(0));
        let mut set: JoinSet<u64> = (0..3).map(|_| counted(&dropped)).collect();
        yield_now().await;
        set.abort_all();
        assert_eq!((set.len(), dropped.get()), (3, 0));
        set.shutdown().await;
        assert_eq!((set.len(), dropped.get()), (0, 3));
        // It can be used again.
        set.spawn(async { 1 });
        assert_eq!(set.join_all().await, [1]);
    });
}

#[test]
fn dropping_a_set_aborts_its_tasks_and_detach_all_lets_them_go_on() {
    let (dropped, ended) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    run(async {
        let mut set = JoinSet::new();
        let count = Rc::clone(&ended);
        set.spawn(async move {
            sleep(Duration::from_millis(1)).await;
            count.set(count.get() + 1);
            0
        });
        set.detach_all();
        assert!(set.is_empty());
        for _ in 0..3 {
            set.spawn(counted(&dropped));
        }
        yield_now().await;
    });
    assert_eq!((dropped.get(), ended.get()), (3, 1));
}

#[test]
fn join_all_returns_all_outputs_or_the_first_panic() {
    let mut outputs = run((0..3)
        .map(|n| async move { n })
        .collect::<JoinSet<_>>()
        .join_all());
    outputs.sort_unstable();
    assert_eq!(outputs, [0, 1, 2]);
    let dropped = Rc::new(Cell::new(0));
    let mut set = JoinSet::new();
    set.spawn(counted(&dropped));
    set.spawn(async { panic!("on purpose") });
    let joined = std::panic::catch_unwind(AssertUnwindSafe(|| run(set.join_all())));
    assert_eq!(text(&*joined.unwrap_err()), "on purpose");
    run(async {});
    assert_eq!(dropped.get(), 1);
}

#[test]
fn abort_on_drop_aborts_unless_it_was_awaited_or_given_back() {
    let dropped = Rc::new(Cell::new(0));
    run(async {
        let aborted = AbortOnDrop::new(spawn(counted(&dropped)));
        assert!(!aborted.is_finished());
        let id = aborted.id();
        assert_eq!(aborted.abort_handle().id(), id);
        yield_now().await;
        drop(aborted);
        assert_eq!(AbortOnDrop::new(spawn(async { 7 })).await.unwrap(), 7);
        let kept = AbortOnDrop::new(spawn(async { 8 })).into_handle();
        assert_eq!(kept.await.unwrap(), 8);
        let asked = AbortOnDrop::new(spawn(pending::<()>()));
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
        let mut borrowed = pin!(AbortOnDrop::new(spawn(counted(&dropped))));
        assert!(futures_util::poll!(&mut borrowed).is_pending());
    });
    assert_eq!(dropped.get(), 2);
}

#[test]
fn a_detached_task_goes_on() {
    let ended = Rc::new(Cell::new(false));
    let flag = Rc::clone(&ended);
    run(async {
        spawn(async move {
            yield_now().await;
            flag.set(true);
        })
        .detach();
    });
    assert!(ended.get());
}
