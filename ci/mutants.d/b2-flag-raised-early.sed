# The flag of the inbox is raised before the mail is there. The pause is there to make it likely.
# file: src/task/waker.rs
# test: --test it wake::b2_of_two_wakes_at_the_same_moment_both_are_heard_20_000_times
/^        let before = self\.state\.swap(MAIL, Ordering::AcqRel);/d
/^        match self\.lock()\.as_mut() {/i\        let before = self.state.swap(MAIL, Ordering::AcqRel);\n        std::thread::yield_now();
