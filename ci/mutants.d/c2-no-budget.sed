# An operation that is always ready never yields.
# file: src/runtime.rs
# test: --test it fairness::c2_operations_that_are_always_ready_yield_after_a_budget
s/^const BUDGET: u32 = 128;/const BUDGET: u32 = u32::MAX;/
