# Sockets are inherited by children.
# file: src/sys/making.rs
# test: --test cloexec d4_a_child_inherits_no_descriptor_of_ours
s/libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC/libc::SOCK_NONBLOCK/
