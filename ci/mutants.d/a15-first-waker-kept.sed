# The first waker of a descriptor stays, and later ones are forgotten.
# file: src/reactor.rs
# test: --test it fd::a15_sf6_the_newest_waker_is_woken
# test: --test it tcp::a15_two_tasks_that_read_one_socket_both_progress
# test: --test model g23_
s/entry\.into_mut()\.push(waker, level),/{ drop(entry); Vec::new() }/
s/Some(waiters) => waiters\.push(waker, level),/Some(_) => Vec::new(),/
