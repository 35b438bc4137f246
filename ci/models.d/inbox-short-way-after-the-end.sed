# The end of the loop leaves the short way open.
# file: src/task/waker.rs
# fails: inbox_b7_wakes_that_meet_the_end_of_the_loop_do_nothing
/^        HERE\.with(|here| here\.set(ptr::null()));$/d
