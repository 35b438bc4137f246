# A job waits for ever if no thread can be made for it.
# file: src/blocking/pool.rs
# test: --test faults -- --matrix clone3
s/^        if state\.n_threads > 0 {/        if state.n_threads < 99 {/
