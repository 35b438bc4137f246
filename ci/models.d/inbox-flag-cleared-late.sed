# The flag is cleared once more after the mail was taken: what comes in between is lost.
# file: src/task/waker.rs
# fails: inbox_b2_two_threads_wake_a_task_each_and_both_are_polled
# fails: inbox_b2_a_wake_that_meets_the_end_of_a_sleep_is_heard
s/^        let mut mail = self\.lock();$/        let mut mail = { let taken = self.lock().as_mut().map(std::mem::take); self.state.fetch_and(!MAIL, Ordering::AcqRel); taken };/
