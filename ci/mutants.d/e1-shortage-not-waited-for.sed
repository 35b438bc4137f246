# A shortage of descriptors is met again at once.
# file: src/net/accept.rs
# test: --test limits e1_j2_at_the_limit_accept_waits_and_recovers_when_the_crate_closes_a_descriptor
/ready!(self\.poll_shortage(cx));/d
