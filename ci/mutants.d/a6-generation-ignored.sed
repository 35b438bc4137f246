# A registration is found by its number alone, whoever owns that now.
# file: src/reactor.rs
# test: --test many_fds i4_an_accepted_socket_is_not_refused_for_a_stale_registration
s/source\.filter(|source| source\.generation == token\.generation)/source/
