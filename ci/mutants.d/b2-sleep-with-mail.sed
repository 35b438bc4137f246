# The loop does not look at the inbox once it has said that it sleeps.
# The pause is there to make it likely.
# file: src/task/waker.rs
# test: --test it wake::b2_of_two_wakes_at_the_same_moment_both_are_heard_20_000_times
s/let asleep = self\.state\.fetch_or(ASLEEP, Ordering::AcqRel) \& MAIL == 0;/std::thread::yield_now();\n        let asleep = self.state.fetch_or(ASLEEP, Ordering::AcqRel) < 99;/
