# The loop is borrowed while the waiters of a closed descriptor run.
# file: src/fd.rs
# test: --test it hostile
s/^        waiters\.into_iter()\.for_each(runtime::wake_contained);/        with(|_| waiters.into_iter().for_each(runtime::wake_contained));/
