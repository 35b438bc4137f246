# The threads are notified of the end before it is there to be seen.
# file: src/blocking/pool.rs
# fails: pool_h4_jobs_that_meet_the_end_of_the_pool_run_and_its_threads_end
/^            lock(&shared\.state)\.closed = true;$/d
s/^            shared\.work\.notify_all();$/&\n            lock(\&shared.state).closed = true;/
