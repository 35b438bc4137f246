# After EBADF nobody looks for the descriptor that is no longer open.
# file: src/reactor/victims.rs
# test: --test logging a3_sf10_a_descriptor_closed_behind_the_loop_concerns_its_owner_only
s/filter_map(|fd| self\.victim(fd))/filter_map(|_| None)/
