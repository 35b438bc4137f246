//! The `LocalPool` of futures-rs: an executor only, without timers or descriptors.

use futures_executor::{LocalPool, LocalSpawner};
use futures_util::task::LocalSpawnExt;
use std::cell::RefCell;

use super::Executor;
use crate::work::YieldOnce;

pub(crate) struct Pool;

thread_local! {
    static SPAWNER: RefCell<Option<LocalSpawner>> = const { RefCell::new(None) };
}

fn spawner() -> LocalSpawner {
    let spawner = SPAWNER.with(|spawner| spawner.borrow().clone());
    spawner.expect("spawned from inside the pool")
}

impl Executor for Pool {
    fn block_on<T: 'static>(main: impl Future<Output = T> + 'static) -> T {
        let mut pool = LocalPool::new();
        SPAWNER.with(|spawner| spawner.replace(Some(pool.spawner())));
        pool.run_until(main)
    }

    fn spawn<T: 'static>(
        future: impl Future<Output = T> + 'static,
    ) -> impl Future<Output = T> + 'static {
        spawner()
            .spawn_local_with_handle(future)
            .expect("the pool lives")
    }

    fn detach(future: impl Future<Output = ()> + 'static) {
        spawner().spawn_local(future).expect("the pool lives");
    }

    fn yield_now() -> impl Future<Output = ()> {
        YieldOnce::default()
    }
}
