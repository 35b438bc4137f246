# A task leaves the queue by a load and a store: an abort or a wake in between is lost.
# file: src/task/waker.rs
# fails: task_b5_what_was_written_before_a_wake_is_seen_by_a_poll
# fails: task_c10_an_abort_that_meets_polls_and_wakes_ends_the_task
s/self\.flags\.fetch_and(!QUEUED, Ordering::AcqRel) & ABORTED != 0/{ let flags = self.flags.load(Ordering::Acquire); self.flags.store(flags \& !QUEUED, Ordering::Release); flags \& ABORTED != 0 }/
