# A thread that has looked up a name stays counted as busy with names.
# file: src/blocking/pool.rs
# fails: pool_h5_names_that_wait_for_their_share_run_beside_work
/^                    state\.n_busy_with_names -= 1;$/d
