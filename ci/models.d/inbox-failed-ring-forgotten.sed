# After a write that failed, the loop no longer counts as asleep.
# file: src/task/waker.rs
# fails: inbox_b4_after_a_failed_write_the_next_wake_rings
/^            self\.state\.fetch_or(ASLEEP, Ordering::AcqRel);$/d
