# The loop counts as running after it has ended.
# file: src/runtime.rs
# test: --test it panics::c12_after_a_panic_of_main_tasks_and_descriptors_go_on_in_the_next_run
# test: --test model g23_
s/with(|l| l\.running = false);/let _ = \&self.inbox;/
