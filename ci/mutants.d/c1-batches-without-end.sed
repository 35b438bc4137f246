# Tasks are polled for as long as any is queued.
# file: src/runtime.rs
# test: --test it fairness::c1_a_timer_fires_beside_tasks_that_always_wake_themselves
s/^const POLLS_PER_TICK: usize = 200;/const POLLS_PER_TICK: usize = usize::MAX;/
