# The loop waits although tasks are queued.
# file: src/task/waker.rs
# test: --test it wake::b6_a_thousand_self_wakes_never_wait
s/let asleep = !has_queued() \&\& /let asleep = /
