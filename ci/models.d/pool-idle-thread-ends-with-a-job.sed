# An idle thread ends when its time is over, even if a job has come.
# file: src/blocking/pool.rs
# fails: pool_h4_a_job_that_meets_the_end_of_an_idle_thread_runs
# fails: pool_h1_jobs_run_on_the_threads_there_are_if_no_more_can_be_started
s/if timeout\.timed_out() && nothing {/if timeout.timed_out() {/
