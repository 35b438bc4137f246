# The waker of a task that has ended takes its flags along to the next.
# file: src/task/waker.rs
# fails: task_c10_late_wakes_and_aborts_leave_the_next_task_alone
/^        waker\.flags = AtomicU8::new(0);$/d
