# A set has room for FD_SETSIZE descriptors and no more.
# file: src/sys/fd_set.rs
# test: --test many_fds a1_j3_echo_on_a_descriptor_above_1500
s/bound\.div_ceil(64)/1024_usize.div_ceil(64)/
