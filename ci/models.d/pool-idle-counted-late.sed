# A thread that ends is still counted as idle.
# file: src/blocking/pool.rs
# fails: pool_h4_a_job_that_meets_the_end_of_an_idle_thread_runs
/^            state = guard;$/,/^            let nothing/s/^            state\.n_idle -= 1;$//
