# The task is woken, and then said to be aborted.
# file: src/task/waker.rs
# fails: task_c10_an_abort_that_meets_polls_and_wakes_ends_the_task
s/^        if this\.flags\.fetch_or(ABORTED, Ordering::AcqRel) & FINISHED == 0 {$/        TaskWaker::wake(this); if this.flags.fetch_or(ABORTED, Ordering::AcqRel) > 7 {/
