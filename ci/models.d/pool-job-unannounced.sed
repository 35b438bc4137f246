# An idle thread is not told of a job.
# file: src/blocking/pool.rs
# fails: pool_h4_a_job_that_meets_the_end_of_an_idle_thread_runs
/^            self\.work\.notify_one();$/d
