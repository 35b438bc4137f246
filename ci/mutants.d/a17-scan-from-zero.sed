# Low numbers are always served first.
# file: src/reactor.rs
# test: --test it fd::a17_always_readable_descriptors_are_served_alike_and_take_turns_at_being_first
s/self\.scan_from = ready/self.scan_from = 0; let _ = ready/
