# The flag is raised before the mail is there.
# file: src/task/waker.rs
# fails: inbox_b2_two_threads_wake_a_task_each_and_both_are_polled
/^        let before = self\.state\.swap(MAIL, Ordering::AcqRel);$/d
s/^        match self\.lock()\.as_mut() {$/        let before = self.state.swap(MAIL, Ordering::AcqRel);\n&/
