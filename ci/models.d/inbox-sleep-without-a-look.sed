# The loop looks for mail before it says that it sleeps, and not after.
# file: src/task/waker.rs
# fails: inbox_b2_a_thread_wakes_one_task_after_the_other_and_both_are_polled
# fails: inbox_b2_a_loop_inside_another_is_rung_while_that_one_waits
s/let asleep = self\.state\.fetch_or(ASLEEP, Ordering::AcqRel) & MAIL == 0;/let asleep = self.state.load(Ordering::Acquire) \& MAIL == 0 \&\& self.state.fetch_or(ASLEEP, Ordering::AcqRel) <= 3;/
