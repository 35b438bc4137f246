# Dropping a socket leaves its registration and its interests.
# file: src/fd.rs
# test: --test it tcp_faults::e17_sf13_a_listener_dropped_while_a_task_waits_wakes_it
# test: --test it tcp_faults::sf13_dropping_streams_and_incoming_removes_their_interests
# test: --test model g23_
/l\.reactor\.deregister(self\.token, \&mut waiters);/d
