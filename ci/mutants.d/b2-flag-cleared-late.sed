# The flag of the inbox is cleared after the mail was taken: what comes in between is lost.
# The pause is there to make it likely.
# file: src/task/waker.rs
# test: --test it wake::b2_of_two_wakes_at_the_same_moment_both_are_heard_20_000_times
/^        self\.state\.fetch_and(!MAIL, Ordering::AcqRel);/d
s/let mut mail = self\.lock();/let taken = self.lock().as_mut().map(std::mem::take);\n        std::thread::yield_now();\n        self.state.fetch_and(!MAIL, Ordering::AcqRel);/
s/let Some(mail) = mail\.as_mut() else { return };/let Some(mut mail) = taken else { return };/
