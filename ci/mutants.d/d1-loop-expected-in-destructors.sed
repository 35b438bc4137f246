# The loop is expected to exist in every destructor of the thread.
# file: src/runtime.rs
# test: --test it order::d1_what_is_kept_in_thread_locals_is_dropped_before_or_after_the_loop_on_100_threads
s/LOOP\.try_with(\(.*\))\.ok()$/Some(LOOP.with(\1))/
