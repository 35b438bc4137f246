# A poll does not take over what was written before the wakes that it answers.
# file: src/task/waker.rs
# fails: task_b5_what_was_written_before_a_wake_is_seen_by_a_poll
s/self\.flags\.fetch_and(!QUEUED, Ordering::AcqRel)/self.flags.fetch_and(!QUEUED, Ordering::Relaxed)/
