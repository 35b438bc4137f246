# If the queue's descriptor is closed while somebody waits in `select`, nobody notices.
# file: src/reactor.rs
# test: --test tenure a3_if_the_queue_is_closed_behind_the_loop_all_who_wait_in_it_go_on
/(Waited::BadFd, _, Some(_)) if !is_open(bell) => {/,/^                    }/d
