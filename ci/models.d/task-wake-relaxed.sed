# A wake that finds the task queued does not hand over what was written before.
# file: src/task/waker.rs
# fails: task_b5_what_was_written_before_a_wake_is_seen_by_a_poll
s/this\.flags\.fetch_or(QUEUED, Ordering::AcqRel)/this.flags.fetch_or(QUEUED, Ordering::Relaxed)/
