# The sender raises its flag and looks whether the loop sleeps, but not in one step.
# file: src/task/waker.rs
# fails: inbox_b2_a_thread_wakes_one_task_after_the_other_and_both_are_polled
s/let before = self\.state\.swap(MAIL, Ordering::AcqRel);/let before = self.state.load(Ordering::Acquire); self.state.store(MAIL, Ordering::Release);/
