# A child goes on with the pipe and the queue of its parent.
# file: src/runtime.rs
# test: --test fork d3_
# test: --test model g23_
s/if with(|l| l\.n_forks != fork::count()) == Some(true)/if false/
