# The panic of a waker takes the others with it.
# file: src/runtime.rs
# test: --test it panics::b10_a_waker_that_panics_takes_no_other_wake_with_it
s/catch_unwind(AssertUnwindSafe(|| waker\.wake()))/{ waker.wake(); Ok::<(), Box<dyn Any + Send>>(()) }/
