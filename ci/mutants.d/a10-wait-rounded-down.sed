# A wait is rounded down, and so a timer fires early or spins.
# file: src/sys/select.rs
# test: --lib a9_a10_waits_are_rounded_up_clamped_and_in_range
s/as_nanos()\.div_ceil(1_000);/as_nanos() \/ 1_000;/
