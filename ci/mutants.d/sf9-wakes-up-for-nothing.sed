# The loop waits no longer than a tenth of a second, and finds nothing to do.
# file: src/runtime.rs
# test: --test idle sf9_an_empty_loop_sleeps_until_its_timer
s/shorter(until_deadline(), limit)/shorter(until_deadline(), Some(Duration::from_millis(100)))/
